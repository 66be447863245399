"""The bridge from a pipeline, the real one at a tiny size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from omni2sound.bench.quick.model import PipelineSounds
from omni2sound.bench.tracks.scene_clips import ScenePictures
from omni2sound.generate.torch_pipeline import TorchPipeline
from tests.build import tiny_model


@pytest.fixture(scope="module")
def sounds() -> PipelineSounds:
    pipeline = TorchPipeline(tiny_model(), device=torch.device("cpu"), dtype=torch.float32)
    return PipelineSounds(pipeline=pipeline, seed=5, duration_s=0.8, num_steps=2)


def test_a_prompt_sounds_the_same_in_any_batch(sounds: PipelineSounds) -> None:
    both = sounds.for_prompts(["a dog barks", "rain"], 10)
    alone = sounds.for_prompts(["rain"], 11)
    assert [w.shape for w in both] == [(12_800,)] * 2
    assert both[0].dtype == np.float32
    np.testing.assert_allclose(both[1], alone[0], atol=2e-2 * np.abs(alone[0]).max())


def test_pictures_decide_length_and_seeds_decide_noise(sounds: PipelineSounds) -> None:
    rng = np.random.default_rng(0)
    pictures = ScenePictures(
        first_index=0,
        vision_frames_BTHWK=rng.integers(0, 256, (2, 8, 224, 224, 3), dtype=np.uint8),
        sync_frames_BTHWK=rng.integers(0, 256, (2, 25, 32, 32, 3), dtype=np.uint8),
        duration_s=1.0,
    )
    first, second = sounds.for_pictures(pictures)
    assert len(first) == len(second) == 16_000
    assert not np.allclose(first, second)
