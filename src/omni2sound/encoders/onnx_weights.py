"""Reader of the weights of an ONNX graph, among them matrices of eight bits.

In:   a `model.onnx` as exported from PyTorch, quantised by onnxruntime or not.
Out:  float32 arrays by their PyTorch name; matrices of linear layers as PyTorch holds them.

The computation that the graph describes is not read: the caller has it in PyTorch. A quantised
matrix becomes (whole numbers - zero point) x scale, which are the numbers that the graph computes
with; its rounding of activations at run time is left out.

Source: onnx/onnx.proto (ModelProto, GraphProto, NodeProto, TensorProto); operators MatMulInteger
and DequantizeLinear of the ONNX specification.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omni2sound.errors import IntegrityError
from omni2sound.protobuf import read_fields, read_varint
from omni2sound.readers import read_bytes

_TYPES = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 7: "<i8"}
"""`TensorProto.data_type` of what weights need: float, uint8, int8, int32, int64."""
_MATRIX = ("MatMul", "MatMulInteger")
_QUANTISED = "_quantized"
_SUFFIX = "_quant"
"""What onnxruntime's quantiser appends to the names of matrices and of operations."""


def read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read the parameters of an exported network.

    Returns:
        Arrays by name. The exporter keeps the names of biases, norms and embeddings; a matrix is
        named after the operation that multiplies by it, and transposed to (outputs, inputs).

    Raises:
        IntegrityError: The file does not follow the format.
    """
    graph = _message(read_bytes(path), 7)
    stored = dict(_tensors(graph))
    found = {
        name.removesuffix(_QUANTISED): _dequantise(name, stored)
        for name, values in stored.items()
        if name.endswith(_QUANTISED)
        or ("." in name and values.dtype == np.float32 and not name.endswith("_scale"))
    }
    for number, node in read_fields(graph):
        if number != 1 or isinstance(node, int):
            continue
        operation, name, inputs = _node(node)
        source = inputs[1] if len(inputs) > 1 else ""
        if operation in _MATRIX and source in stored:
            layer = name.removesuffix(_SUFFIX).strip("/").split("/")[:-1]
            found.pop(source.removesuffix(_QUANTISED), None)
            found[".".join([*layer, "weight"])] = _dequantise(source, stored).T.copy()
    return found


def _message(data: bytes | memoryview, wanted: int) -> memoryview:
    for number, value in read_fields(data):
        if number == wanted and not isinstance(value, int):
            return value
    raise IntegrityError(f"an ONNX file holds no message {wanted}; it is damaged or another format")


def _node(node: memoryview) -> tuple[str, str, list[str]]:
    """Read a `NodeProto`: operation, name, inputs."""
    operation = name = ""
    inputs = []
    for number, value in read_fields(node):
        if isinstance(value, int) or number not in (1, 3, 4):
            continue
        text = str(value, "utf-8")
        if number == 1:
            inputs.append(text)
        elif number == 3:
            name = text
        else:
            operation = text
    return operation, name, inputs


def _tensors(graph: memoryview) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """Read the initialisers of a graph."""
    for number, tensor in read_fields(graph):
        if number != 5 or isinstance(tensor, int):
            continue
        fields: dict[int, list[int | memoryview]] = {}
        for field, value in read_fields(tensor):
            fields.setdefault(field, []).append(value)
        kind, name = _whole(fields.get(2)), str(_bytes(fields, 8), "utf-8")
        if kind not in _TYPES:
            continue
        dtype, shape = np.dtype(_TYPES[kind]), _whole_numbers(fields.get(1))
        if 5 in fields:  # few whole numbers, not as raw bytes
            values = np.array(_whole_numbers(fields[5]), dtype)
        else:
            values = np.frombuffer(_bytes(fields, 9) or _bytes(fields, 4), dtype)
        if values.size != math.prod(shape):
            raise IntegrityError(f"tensor {name!r}: {values.size} values do not fill shape {shape}")
        yield name, values.reshape(shape)


def _whole(values: list[int | memoryview] | None) -> int:
    return values[0] if values and isinstance(values[0], int) else 0


def _bytes(fields: dict[int, list[int | memoryview]], number: int) -> memoryview:
    """One field of bytes; floats of their own field come one by one or packed."""
    return memoryview(b"".join(v for v in fields.get(number, []) if not isinstance(v, int)))


def _whole_numbers(values: list[int | memoryview] | None) -> list[int]:
    """Whole numbers of a repeated field, packed or not."""
    numbers: list[int] = []
    for value in values or []:
        if isinstance(value, int):
            numbers.append(value)
            continue
        pos = 0
        while pos < len(value):
            number, pos = read_varint(value, pos)
            numbers.append(number)
    return numbers


def _dequantise(name: str, stored: dict[str, NDArray[np.generic]]) -> NDArray[np.float32]:
    values = stored[name]
    if not name.endswith(_QUANTISED):
        return values.astype(np.float32)
    base = name.removesuffix(_QUANTISED)
    try:
        scale, zero = stored[f"{base}_scale"], stored[f"{base}_zero_point"]
    except KeyError:
        raise IntegrityError(f"matrix {base!r} has no scale or zero point") from None
    whole = values.astype(np.float32) - zero.astype(np.float32)
    return (whole * scale.astype(np.float32)).astype(np.float32)
