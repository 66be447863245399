"""What a judge hears, against the definitions of the protocol."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from numpy.typing import NDArray

from omni2sound.bench.metrics import tagging
from omni2sound.bench.metrics.copies import TrainingSounds
from omni2sound.bench.metrics.tagging import (
    CatalogueTagger,
    at_rate,
    patch_scores,
    scorable_classes,
    tag_recordings,
)
from omni2sound.bench.scoring.options import ScoringOptions
from omni2sound.bench.scoring.sounds import tag_sounds
from omni2sound.bench.systems.system import real_sounds
from omni2sound.bench.tracks.track import Track
from omni2sound.encoders.metric.tagger import Tagger, TaggerConfig, TaggerNetwork
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.errors import UserError
from omni2sound.plugins import Registry
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from tests.bench.metrics.test_onset import TIMES, sound_at


@pytest.fixture(scope="module")
def judge() -> YamNet:
    return YamNet.load()


def test_a_class_is_heard_if_a_label_is_among_the_five_highest(
    tonal_assets: SceneAssets, judge: YamNet
) -> None:
    ears = CatalogueTagger(judge, tonal_assets.catalogue)
    for name in ("bell-5", "drum-5", "dog-4", "water-1"):
        waveform = tonal_assets.waveform(name)
        scores_PK = patch_scores(waveform, SAMPLE_RATE_HZ, judge)
        assert scores_PK is not None
        highest = np.argsort(-scores_PK.max(axis=0), kind="stable")[: tagging.TOP_K]
        best = {judge.class_names[i] for i in highest}
        expected = {
            c.class_id
            for c in tonal_assets.catalogue.classes
            if not best.isdisjoint(c.yamnet_classes)
        }
        assert ears.tag(waveform).classes == expected


def test_one_after_the_other_both_are_heard_somewhere(
    tonal_assets: SceneAssets, judge: YamNet
) -> None:
    ears = CatalogueTagger(judge, tonal_assets.catalogue)
    pause = np.zeros(3 * SAMPLE_RATE_HZ, np.float32)
    tone, noise = tonal_assets.waveform("bell-5"), tonal_assets.waveform("drum-5")
    heard = ears.tag(np.concatenate([0.1 * tone, pause, noise]))
    assert {"bell", "drum"} <= heard.somewhere
    assert not heard.speech
    nothing = ears.tag(pause)
    assert (nothing.classes, nothing.somewhere, nothing.music) == (frozenset(), frozenset(), False)


def test_real_recordings_say_what_may_be_asked(tonal_assets: SceneAssets, judge: YamNet) -> None:
    real = tag_recordings(tonal_assets, CatalogueTagger(judge, tonal_assets.catalogue))
    assert set(real.scorable) == {"bell", "drum"}
    assert real.rates["bell"] == 1
    assert {len(heard) for heard in real.tags.values()} == {2}
    assert {"drum", "wind"} <= real.never_speech


def test_a_group_that_the_judge_does_not_know_is_refused(
    assets: SceneAssets, judge: YamNet
) -> None:
    catalogue = assets.catalogue
    classes = (replace(catalogue.classes[0], yamnet_classes=("Moon",)), *catalogue.classes[1:])
    with pytest.raises(UserError, match="Moon"):
        CatalogueTagger(judge, replace(catalogue, classes=classes))


def test_ears_take_its_own_class_names_and_hear_no_speech(tonal_assets: SceneAssets) -> None:
    names = tonal_assets.catalogue.class_ids
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = TaggerNetwork(TaggerConfig(class_names=tuple(names)))
    ears = CatalogueTagger(Tagger(network), tonal_assets.catalogue)
    heard = ears.tag(tonal_assets.waveform("bell-5"))
    assert len(heard.classes) <= Tagger.top_k
    assert heard.speech is None
    real = tag_recordings(tonal_assets, ears)
    assert not real.never_speech
    assert not real.never_music


def test_a_class_with_a_low_score_is_not_heard_though_no_other_is_higher(
    tonal_assets: SceneAssets,
) -> None:
    class Unsure:
        """Gives every class the same score."""

        def __init__(self, score: float) -> None:
            self.name = "unsure"
            self.class_names = tuple(tonal_assets.catalogue.class_ids)
            self.sample_rate_hz, self.patch_samples, self.patch_hop_samples = 16_000, 15_360, 7_680
            self.top_k, self.least_score, self.vocabulary = 3, 0.3, "catalogue"
            self._score = score

        def scores_and_embeddings(self, waveform_N):  # type: ignore[no-untyped-def]
            count = 1 + -(-max(0, len(waveform_N) - 15_360) // 7_680)
            scores = np.full((count, len(self.class_names)), self._score, np.float32)
            return scores, np.zeros((count, 4), np.float32)

    sound_N = tonal_assets.waveform("bell-5")
    assert len(CatalogueTagger(Unsure(0.31), tonal_assets.catalogue).tag(sound_N).classes) == 3
    assert not CatalogueTagger(Unsure(0.29), tonal_assets.catalogue).tag(sound_N).somewhere


class Yam32(YamNet):
    """YAMNet for sounds at 32 kHz, of which it takes every second sample."""

    sample_rate_hz, patch_samples, patch_hop_samples = 32_000, 30_720, 15_360

    def scores_and_embeddings(self, waveform_N):  # type: ignore[no-untyped-def]
        return super().scores_and_embeddings(np.ascontiguousarray(waveform_N[::2]))


@pytest.mark.slow
def test_a_tagger_of_another_rate_finds_the_same_classes(tonal_assets: SceneAssets) -> None:
    plain, other = (
        CatalogueTagger(kind.load(), tonal_assets.catalogue) for kind in (YamNet, Yam32)
    )
    for rates in (tag_recordings(tonal_assets, ears).rates for ears in (plain, other)):
        assert rates["bell"] == 1 and rates["dog"] == 0
    sound_N = tonal_assets.waveform("bell-5")
    assert other.tag(at_rate(sound_N, SAMPLE_RATE_HZ, 32_000), 32_000).classes >= {"bell"}
    training, doubled = (TrainingSounds(tonal_assets, kind.load()) for kind in (YamNet, Yam32))
    near, far = training.nearness(sound_N), doubled.nearness(sound_N)
    assert far.cosine == pytest.approx(near.cosine, abs=0.02)
    assert far.is_copy == near.is_copy


@pytest.mark.slow
def test_scene_scores_take_taggers_of_any_rate(
    scene_track: Track, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Onsets are those at 16 kHz whatever the taggers hear; the first tagger is not favoured."""
    entries = {"yamnet": YamNet.load, "yam32": Yam32.load}
    monkeypatch.setattr(tagging, "TAGGERS", Registry("tagger", entries))
    real = real_sounds(scene_track)
    sounds = [(clip, real[clip.clip_id]) for clip in scene_track.clips]
    found = [
        tag_sounds(
            scene_track, sounds, ScoringOptions(taggers=names, cache_folder=tmp_path / names[0])
        )
        for names in (("yamnet", "yam32"), ("yam32", "yamnet"))
    ]
    for one, other in zip(*found, strict=True):
        assert one.score is not None and other.score is not None
        assert one.score.num_found == other.score.num_found
        assert one.score.own_offsets_s == other.score.own_offsets_s
        assert one.score.seen_heard == other.score.seen_heard_2nd


class LevelJudge:
    """One class per patch place; its score is the patch's peak. Remembers what it was given."""

    sample_rate_hz = 16_000
    patch_samples = 4_000
    patch_hop_samples = 2_000

    def scores_and_embeddings(
        self, waveform_N: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.waveform = waveform_N
        num = 1 + -(-max(0, len(waveform_N) - self.patch_samples) // self.patch_hop_samples)
        peaks = [np.abs(waveform_N[i * 2_000 : i * 2_000 + 4_000]).max() for i in range(num)]
        return np.diag(np.array(peaks, np.float32)) + 0.1, np.zeros((num, 1), np.float32)


@given(TIMES)
def test_a_patch_begins_50_ms_before_the_onset(time_s: float) -> None:
    judge = LevelJudge()
    waveform, _ = sound_at("knock", time_s, 16_000)
    assert patch_scores(waveform, 16_000, judge) is not None
    first = int(np.flatnonzero(judge.waveform)[0])
    lead_s = (first % 2_000) / 16_000
    assert lead_s == pytest.approx(0.05, abs=0.006)
    assert np.abs(judge.waveform).max() == pytest.approx(0.5)


def test_patches_that_are_silent_beside_the_loudest_do_not_count() -> None:
    class Constant(LevelJudge):
        def scores_and_embeddings(
            self, waveform_N: NDArray[np.float32]
        ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            scores, embeddings = super().scores_and_embeddings(waveform_N)
            return np.eye(len(scores), dtype=np.float32), embeddings

    waveform, _ = sound_at("click", 1.0, 16_000)
    scores_PK = patch_scores(waveform, 16_000, Constant())
    assert scores_PK is not None
    assert (
        scores_PK.max(axis=0).sum() == 2
    )  # a click lies in two patches that overlap by half; the rest is empty


def test_silence_is_not_judged() -> None:
    assert patch_scores(np.zeros(16_000), 16_000, LevelJudge()) is None


def test_another_rate_is_refused() -> None:
    with pytest.raises(UserError, match="16000 Hz, got 44100"):
        patch_scores(np.ones(100), 44_100, LevelJudge())


def test_a_label_that_the_judge_does_not_know_is_refused(
    tonal_assets: SceneAssets, judge: YamNet
) -> None:
    first, *rest = tonal_assets.catalogue.classes
    odd = replace(first, yamnet_classes=("theremin",))
    with pytest.raises(UserError, match="theremin"):
        CatalogueTagger(judge, replace(tonal_assets.catalogue, classes=(odd, *rest)))


def test_classes_whose_recordings_are_not_heard_leave() -> None:
    hits = {"a": [True] * 7 + [False] * 3, "b": [True, False], "c": [], "d": [True]}
    assert scorable_classes(hits) == ("a", "d")
