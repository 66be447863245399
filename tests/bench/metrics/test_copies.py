"""Copies of training recordings are found; other sounds are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omni2sound.bench.metrics.copies import Nearness, TrainingSounds, copies_asked
from omni2sound.bench.metrics.scene_v1 import TrueEvent
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets


def noise(seed: int, seconds: float = 3.0) -> np.ndarray:
    """Noise whose band levels wander, as those of recordings do."""
    rng = np.random.default_rng(seed)
    count = round(seconds * SAMPLE_RATE_HZ)
    sound = np.zeros(count)
    time_s = np.arange(count) / SAMPLE_RATE_HZ
    for hz in np.geomspace(200, 3400, 24):
        level = np.abs(
            np.interp(
                time_s,
                np.arange(0, seconds + 0.2, 0.1),
                rng.standard_normal(len(np.arange(0, seconds + 0.2, 0.1))),
            )
        )
        sound += level * np.sin(2 * np.pi * hz * time_s + rng.uniform(0, 6))
    return (0.1 * sound / np.abs(sound).max() + 1e-3 * rng.standard_normal(count)).astype(
        np.float32
    )


@pytest.fixture(scope="module")
def training(assets: SceneAssets) -> TrainingSounds:
    catalogue = assets.catalogue
    waveforms = {r.recording_id: noise(k) for k, r in enumerate(catalogue.recordings)}
    return TrainingSounds(
        SceneAssets.from_arrays(replace(catalogue, pictures=()), waveforms, {}), YamNet.load()
    )


def test_a_training_recording_is_a_copy_wherever_it_stands(
    training: TrainingSounds, assets: SceneAssets
) -> None:
    numbers = {r.recording_id: k for k, r in enumerate(assets.catalogue.recordings)}
    train = next(r for r in assets.catalogue.recordings if r.split == "train")
    test = next(r for r in assets.catalogue.recordings if r.split == "test")
    quiet = np.zeros(SAMPLE_RATE_HZ, np.float32)
    copied = training.nearness(np.concatenate([quiet, 0.5 * noise(numbers[train.recording_id])]))
    other = training.nearness(np.concatenate([quiet, 0.5 * noise(numbers[test.recording_id])]))
    assert copied.is_copy
    assert not other.is_copy
    assert other.cosine is not None
    same = training.nearness(noise(numbers[train.recording_id])).cosine
    assert same == pytest.approx(1, abs=1e-3)
    assert other.cosine < 0.9


def test_silence_is_near_nothing(training: TrainingSounds) -> None:
    nearness = training.nearness(np.zeros(2 * SAMPLE_RATE_HZ, np.float32))
    assert nearness == Nearness(cosine=None, is_copy=False)


def test_copies_are_asked_of_clips_with_a_source_that_could_be_found(
    training: TrainingSounds, assets: SceneAssets
) -> None:
    def event(offset_s: float) -> TrueEvent:
        return TrueEvent(
            class_id="bell", onset_s=1.0, offset_s=offset_s, hits_s=(), on_screen=False
        )

    assert copies_asked([event(1.2), event(2.0)])
    assert not copies_asked([event(1.2), event(1.8)])
    numbers = {r.recording_id: k for k, r in enumerate(assets.catalogue.recordings)}
    train = next(r for r in assets.catalogue.recordings if r.split == "train")
    sound = noise(numbers[train.recording_id])
    asked, not_asked = training.nearness(sound), training.nearness(sound, ask_copy=False)
    assert (asked.is_copy, not_asked.is_copy) == (True, None)
    assert asked.cosine == not_asked.cosine
    # 0.9 s of it are enough, half a second is not.
    count = round(0.5 * SAMPLE_RATE_HZ)
    assert not training.nearness(sound[:count]).is_copy
    assert training.nearness(sound[: round(0.9 * SAMPLE_RATE_HZ)]).is_copy
