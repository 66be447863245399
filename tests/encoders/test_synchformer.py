"""Synchformer's visual half at a tiny size; `make parity` compares with the original."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from omni2sound.encoders.synchformer import (
    MotionConfig,
    MotionTransformer,
    SynchformerVisual,
    segments,
)
from omni2sound.errors import ConfigError, MissingPartError, ShapeError

CONFIG = MotionConfig(width=24, depth=2, num_heads=2, frame_px=32)


@pytest.fixture(scope="module")
def encoder() -> SynchformerVisual:
    network = MotionTransformer(CONFIG)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return SynchformerVisual(network, chunk_segments=2)


def pictures(count: int, height: int = 40, width: int = 56) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("count", "num_segments"), [(16, 1), (23, 1), (24, 2), (50, 5)])
def test_segments_start_every_eight_pictures(
    encoder: SynchformerVisual, count: int, num_segments: int
) -> None:
    features = encoder.segment_features(pictures(count))
    assert features.shape == (num_segments, 8, CONFIG.width)
    assert encoder.embed(pictures(count)).shape == (8 * num_segments, CONFIG.width)


def test_eight_seconds_give_192_vectors_and_ten_give_240() -> None:
    for seconds, vectors in ((8, 192), (9, 216), (10, 240)):
        assert 8 * len(segments(torch.zeros(25 * seconds, 1), length=16, hop=8)) == vectors


def test_a_segment_knows_nothing_of_its_neighbours(encoder: SynchformerVisual) -> None:
    frames = pictures(40)
    changed = frames.copy()
    changed[24:] = 0
    before, after = encoder.segment_features(frames), encoder.segment_features(changed)
    assert torch.equal(before[:2], after[:2])  # pictures 0-15 and 8-23
    assert not torch.allclose(before[2:], after[2:])


def test_order_in_time_matters(encoder: SynchformerVisual) -> None:
    frames = pictures(16)
    backwards = encoder.segment_features(frames[::-1].copy())
    assert not torch.allclose(encoder.segment_features(frames), backwards, atol=1e-3)


def test_only_the_middle_square_is_seen(encoder: SynchformerVisual) -> None:
    frames = pictures(16, 32, 64)  # no resizing; columns 16 to 47 are kept
    changed = frames.copy()
    changed[:, :, :16], changed[:, :, 48:] = 0, 0
    assert torch.equal(encoder.segment_features(frames), encoder.segment_features(changed))


@pytest.mark.parametrize(
    "wrong", [pictures(15), pictures(16).astype(np.float32), pictures(16)[..., :1]]
)
def test_too_few_pictures_and_other_types_are_refused(
    encoder: SynchformerVisual, wrong: np.ndarray
) -> None:
    with pytest.raises(ShapeError):
        encoder.segment_features(wrong)


def test_an_empty_folder_says_where_to_get_the_file(tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match=r"synchformer_state_dict\.pth"):
        SynchformerVisual.load(tmp_path)


def test_pictures_must_divide_into_patches() -> None:
    with pytest.raises(ConfigError, match="multiple of 16"):
        MotionConfig(frame_px=100)
