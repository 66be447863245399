"""Weights of ONNX graphs written by hand: names, shapes and eight-bit matrices come out right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from omni2sound.encoders.onnx_weights import read_weights
from omni2sound.errors import IntegrityError

_TYPE_OF = {"float32": 1, "uint8": 2, "int8": 3}


def _varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def tensor(name: str, values: NDArray[np.generic], *, packed: bool = False) -> bytes:
    """A `TensorProto`; scalars as exporters write them, in a field of their own."""
    dims = list(values.shape)
    out = (
        _field(1, b"".join(map(_varint, dims))) if packed else b"".join(_field(1, d) for d in dims)
    )
    out += _field(2, _TYPE_OF[str(values.dtype)]) + _field(8, name.encode())
    if values.shape:
        return out + _field(9, values.tobytes())
    if values.dtype == np.float32:
        return out + _field(4, values.tobytes())
    return out + _field(5, _varint(int(values)))


def node(operation: str, name: str, *inputs: str) -> bytes:
    """A `NodeProto`."""
    return (
        b"".join(_field(1, i.encode()) for i in inputs)
        + _field(3, name.encode())
        + _field(4, operation.encode())
    )


def model(path: Path, nodes: list[bytes], tensors: list[bytes]) -> Path:
    """A `ModelProto` with one graph."""
    graph = b"".join(_field(1, n) for n in nodes) + b"".join(_field(5, t) for t in tensors)
    path.write_bytes(_field(1, 8) + _field(7, graph))
    return path


@given(
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
    zero=st.integers(0, 255),
    scale=st.floats(2**-10, 2.0, width=32),
    packed=st.booleans(),
    seed=st.integers(0, 9),
)
def test_a_quantised_matrix_is_what_the_graph_multiplies_by(
    tmp_path_factory: pytest.TempPathFactory,
    rows: int,
    columns: int,
    zero: int,
    scale: float,
    packed: bool,
    seed: int,
) -> None:
    whole = np.random.default_rng(seed).integers(0, 256, (rows, columns)).astype(np.uint8)
    path = model(
        tmp_path_factory.mktemp("onnx") / "m.onnx",
        [
            node(
                "MatMulInteger", "/encoder/layer.0/query/MatMul_quant", "x", "w_quantized", "z", "z"
            )
        ],
        [
            tensor("w_quantized", whole, packed=packed),
            tensor("w_scale", np.array(scale, np.float32)),
            tensor("w_zero_point", np.array(zero, np.uint8)),
            tensor("encoder.layer.0.query.bias", np.arange(columns, dtype=np.float32)),
        ],
    )
    found = read_weights(path)
    expected = (whole.astype(np.float32) - zero) * np.float32(scale)
    assert set(found) == {"encoder.layer.0.query.weight", "encoder.layer.0.query.bias"}
    np.testing.assert_allclose(found["encoder.layer.0.query.weight"], expected.T, rtol=1e-6)


def test_a_matrix_of_floats_is_transposed_and_other_tensors_are_not(tmp_path: Path) -> None:
    matrix, table = np.ones((2, 3), np.float32), np.ones((4, 2), np.float32)
    path = model(
        tmp_path / "m.onnx",
        [
            node("MatMul", "/dense/MatMul", "x", "onnx::MatMul_1"),
            node("Add", "/dense/Add", "y", "b"),
        ],
        [tensor("onnx::MatMul_1", matrix), tensor("words.weight", table)],
    )
    found = read_weights(path)
    assert {k: v.shape for k, v in found.items()} == {
        "dense.weight": (3, 2),
        "words.weight": (4, 2),
    }


def test_embeddings_may_be_quantised_too(tmp_path: Path) -> None:
    path = model(
        tmp_path / "m.onnx",
        [],
        [
            tensor("words.weight_quantized", np.full((2, 2), 130, np.uint8)),
            tensor("words.weight_scale", np.array(0.5, np.float32)),
            tensor("words.weight_zero_point", np.array(128, np.uint8)),
        ],
    )
    np.testing.assert_array_equal(read_weights(path)["words.weight"], np.ones((2, 2), np.float32))


@pytest.mark.parametrize("content", [b"", b"\x08\x08", b"\x3a\xff\x01"])
def test_what_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(IntegrityError):
        read_weights(tmp_path / "m.onnx")


def test_a_tensor_that_does_not_fill_its_shape_is_refused(tmp_path: Path) -> None:
    short = tensor("a.weight", np.ones(3, np.float32)).replace(_field(1, 3), _field(1, 4))
    with pytest.raises(IntegrityError, match=r"a\.weight"):
        read_weights(model(tmp_path / "m.onnx", [], [short]))


def test_a_matrix_without_its_scale_is_refused(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", [], [tensor("w_quantized", np.ones((1, 1), np.uint8))])
    with pytest.raises(IntegrityError, match="scale"):
        read_weights(path)
