"""Reader of the constants of a frozen TensorFlow graph.

In:   a `frozen_inference_graph.pb`.
Out:  float32 arrays by node name, in TensorFlow's layout.

A frozen graph is one protocol-buffer message, a `GraphDef`, whose constants hold the weights.
The computation that it describes is not read: `detector` has it in PyTorch.

Source: tensorflow/core/framework/{graph,node_def,tensor,tensor_shape}.proto.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omni2sound.errors import IntegrityError
from omni2sound.protobuf import read_fields
from omni2sound.readers import read_bytes

_DT_FLOAT = 1


def read_constants(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read all float32 constants that are stored as raw bytes; scalars are left out.

    Raises:
        IntegrityError: The file does not follow the format.
    """
    graph = read_bytes(path)
    constants = {}
    for number, node in read_fields(graph):
        if number != 1 or isinstance(node, int):
            continue
        try:
            name, tensor = _constant(node)
        except UnicodeDecodeError as error:
            raise IntegrityError(f"{path}: a name of a node is not UTF-8 ({error})") from None
        values = None if tensor is None else _array(name, tensor)
        if values is not None:
            constants[name] = values
    return constants


def _constant(node: memoryview) -> tuple[str, memoryview | None]:
    """Return a node's name and, if it is a constant, its tensor."""
    name, operation, tensor = "", "", None
    for number, value in read_fields(node):
        if isinstance(value, int):
            continue
        if number == 1:
            name = str(value, "utf-8")
        elif number == 2:
            operation = str(value, "utf-8")
            if operation != "Const":  # most nodes: their many inputs and attributes are left alone
                return name, None
        elif number == 5:  # an entry of the map of attributes: 1 key, 2 value
            entry = dict(read_fields(value))
            key, held = entry.get(1, 0), entry.get(2, 0)
            if not isinstance(key, int) and not isinstance(held, int) and bytes(key) == b"value":
                tensor = dict(read_fields(held)).get(8)
    return name, tensor if operation == "Const" and not isinstance(tensor, int) else None


def _array(name: str, tensor: memoryview) -> NDArray[np.float32] | None:
    """Convert a `TensorProto`: 1 type, 2 shape, 4 raw bytes."""
    fields = dict(read_fields(tensor))
    shape_message, raw = fields.get(2, memoryview(b"")), fields.get(4)
    if fields.get(1) != _DT_FLOAT or raw is None:
        return None
    if isinstance(raw, int) or isinstance(shape_message, int):
        raise IntegrityError(f"constant {name!r} holds a number where a tensor belongs")
    shape = []
    for number, dim in read_fields(shape_message):
        if number == 2 and not isinstance(dim, int):
            size = dict(read_fields(dim)).get(1, 0)
            shape.append(size if isinstance(size, int) else 0)
    if len(raw) != 4 * math.prod(shape):
        raise IntegrityError(f"constant {name!r}: {len(raw)} bytes do not fill shape {shape}")
    return np.frombuffer(raw, dtype="<f4").reshape(shape).astype(np.float32)
