"""Distances of damaged sounds, judged by the real YAMNet on sounds made in code."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.signal import butter, sosfilt

from omni2sound.bench.metrics.tagger_8s import as_scores, embed_clip
from omni2sound.bench.stats.distances import kl_divergences
from omni2sound.bench.stats.estimate import Score
from omni2sound.bench.stats.frechet_sets import (
    SetOfSounds,
    TaggerFeatures,
    groups_of,
    set_values,
)
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.errors import ShapeError
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets

NUM_CLIPS = 8
Damage = Callable[[np.ndarray, int], np.ndarray]


def noisy(snr_db: float) -> Damage:
    def damage(sound: np.ndarray, k: int) -> np.ndarray:
        noise = np.random.default_rng(k).standard_normal(len(sound))
        return sound + noise * np.sqrt((sound**2).mean() * 10 ** (-snr_db / 10))

    return damage


def muffled(sound: np.ndarray, k: int) -> np.ndarray:
    return np.asarray(sosfilt(butter(4, 500, fs=SAMPLE_RATE_HZ, output="sos"), sound))


def distance_scores(real: SetOfSounds, made: SetOfSounds, *, tagger_name: str) -> tuple[Score, ...]:
    kl_N = kl_divergences(real.logits_NK, made.logits_NK)
    values = set_values(real, made)
    return as_scores(values, kl_N, tagger_name=tagger_name, num_clips=len(kl_N))


def scores_of(real: list[TaggerFeatures], made: list[TaggerFeatures]) -> tuple[Score, ...]:
    sets = (SetOfSounds(clips, groups_of(len(real))) for clips in (real, made))
    return distance_scores(*sets, tagger_name="yamnet")


@pytest.fixture(scope="module")
def judged(assets: SceneAssets) -> dict[str, list[TaggerFeatures]]:
    judge = YamNet.load()

    def clips(class_id: str, damage: Damage) -> list[TaggerFeatures]:
        found = []
        for k in range(NUM_CLIPS):
            sound = np.tile(assets.waveform(f"{class_id}-{k % 6}"), 10)[500 * k : 128_000]
            found.append(embed_clip(damage(sound, k).astype(np.float32), judge))
        return found

    return {
        "same": clips("dog", lambda x, k: x),
        "noise 20 dB": clips("dog", noisy(20)),
        "noise 6 dB": clips("dog", noisy(6)),
        "muffled": clips("dog", muffled),
        "wrong class": clips("engine", lambda x, k: x),
    }


@pytest.mark.slow
def test_distances_rise_with_damage(judged: dict[str, list[TaggerFeatures]]) -> None:
    values = {
        name: {s.name: s.estimate.value for s in scores_of(judged["same"], clips)}
        for name, clips in judged.items()
    }
    for name in ("FD", "KL"):
        same = values["same"][name]
        assert same == pytest.approx(0, abs=0.05)
        for damage in ("noise 20 dB", "noise 6 dB", "muffled", "wrong class"):
            assert values[damage][name] > same + 0.05, (name, damage)
        assert values["noise 6 dB"][name] > values["noise 20 dB"][name]
        assert values["wrong class"][name] > values["noise 20 dB"][name]
    assert values["wrong class"]["KID"] > values["same"]["KID"]
    assert values["same"]["IS"] >= 1


@pytest.mark.slow
def test_scores_say_what_they_are(judged: dict[str, list[TaggerFeatures]]) -> None:
    fd, kid, kl, inception = scores_of(judged["same"], judged["muffled"])
    assert {s.protocol for s in (fd, kid, kl, inception)} == {"yamnet-8s-v1"}
    assert [s.direction for s in (fd, kid, kl, inception)] == ["lower", "lower", "lower", "higher"]
    assert fd.estimate.num_clips == NUM_CLIPS
    assert fd.estimate.low < fd.estimate.value < fd.estimate.high


def test_a_clip_is_eight_seconds_whatever_is_given() -> None:
    judge = YamNet.load()
    long = 0.1 * np.random.default_rng(0).standard_normal(10 * SAMPLE_RATE_HZ).astype(np.float32)
    cut = embed_clip(long[: 8 * SAMPLE_RATE_HZ], judge)
    np.testing.assert_array_equal(embed_clip(long, judge).logits_K, cut.logits_K)
    assert (
        cut.embeddings_PD.shape == embed_clip(long[:100], judge).embeddings_PD.shape == (16, 1024)
    )
    with pytest.raises(ShapeError, match="mono"):
        embed_clip(np.zeros((2, 100), np.float32), judge)
