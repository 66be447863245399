"""What a judge hears, against the definitions of the protocol."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from omni2sound.bench.metrics.onset import class_hit, class_scores
from omni2sound.bench.metrics.tagging import Ears, hear_recordings
from omni2sound.encoders.metric.tagger import Tagger, TaggerConfig, TaggerNetwork
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.errors import UserError
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets


@pytest.fixture(scope="module")
def judge() -> YamNet:
    return YamNet.load()


def test_a_sound_is_heard_as_what_class_hit_says(tonal_assets: SceneAssets, judge: YamNet) -> None:
    ears = Ears(judge, tonal_assets.catalogue)
    for name in ("bell-5", "drum-5", "dog-4", "water-1"):
        waveform = tonal_assets.waveform(name)
        scores = class_scores(waveform, SAMPLE_RATE_HZ, judge)
        expected = {
            c.class_id
            for c in tonal_assets.catalogue.classes
            if class_hit(scores, judge.class_names, c.yamnet_classes)
        }
        assert ears.listen(waveform).classes == expected


def test_one_after_the_other_both_are_heard_somewhere(
    tonal_assets: SceneAssets, judge: YamNet
) -> None:
    ears = Ears(judge, tonal_assets.catalogue)
    pause = np.zeros(3 * SAMPLE_RATE_HZ, np.float32)
    tone, noise = tonal_assets.waveform("bell-5"), tonal_assets.waveform("drum-5")
    heard = ears.listen(np.concatenate([0.1 * tone, pause, noise]))
    assert {"bell", "drum"} <= heard.somewhere
    assert not heard.speech
    nothing = ears.listen(pause)
    assert (nothing.classes, nothing.somewhere, nothing.music) == (frozenset(), frozenset(), False)


def test_real_recordings_say_what_may_be_asked(tonal_assets: SceneAssets, judge: YamNet) -> None:
    real = hear_recordings(tonal_assets, Ears(judge, tonal_assets.catalogue))
    assert set(real.scorable) == {"bell", "drum"}
    assert real.rates["bell"] == 1
    assert {len(heard) for heard in real.heard.values()} == {2}
    assert {"drum", "wind"} <= real.never_speech


def test_a_group_that_the_judge_does_not_know_is_refused(
    assets: SceneAssets, judge: YamNet
) -> None:
    catalogue = assets.catalogue
    classes = (replace(catalogue.classes[0], yamnet_classes=("Moon",)), *catalogue.classes[1:])
    with pytest.raises(UserError, match="Moon"):
        Ears(judge, replace(catalogue, classes=classes))


def test_ears_take_its_own_class_names_and_hear_no_speech(tonal_assets: SceneAssets) -> None:
    names = tonal_assets.catalogue.class_ids
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = TaggerNetwork(TaggerConfig(class_names=tuple(names)))
    ears = Ears(Tagger(network), tonal_assets.catalogue)
    heard = ears.listen(tonal_assets.waveform("bell-5"))
    assert len(heard.classes) <= Tagger.top_k
    assert heard.speech is None
    real = hear_recordings(tonal_assets, ears)
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
    assert len(Ears(Unsure(0.31), tonal_assets.catalogue).listen(sound_N).classes) == 3
    assert not Ears(Unsure(0.29), tonal_assets.catalogue).listen(sound_N).somewhere
