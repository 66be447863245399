"""Exported graphs whose numbers are stored as float16 and computed as float32.

In:   an optimised ONNX graph with its file of numbers.
Out:  the same graph; large arrays take half the bytes, and are cast when the graph is loaded.

Only arrays that float16 holds exactly: the weights of our own networks, which are float16 in the
model folder, and those that are rounded where they are read, by every runtime. Nothing is rounded
here: sampling makes much of little, and two text encoders that differ by .0006 of the largest
output gave sounds that differ by .017 of their peak.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omni2sound.generate.onnx.folder import data_name

LEAST_BYTES = 1024
"""Smaller arrays stay in the graph as they are."""


def is_half(array: NDArray[np.float32]) -> bool:
    """Whether float16 holds an array exactly."""
    with np.errstate(over="ignore"):
        return np.array_equal(array.astype(np.float16).astype(np.float32), array)


def store_half(path: Path) -> None:
    """Rewrite a graph and the file of its numbers in place."""
    onnx: Any = importlib.import_module("onnx")  # of the extra `export`
    model = onnx.load(path)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        value = onnx.numpy_helper.to_array(tensor)
        if value.nbytes < LEAST_BYTES or not is_half(value):
            continue
        stored = f"{tensor.name}_float16"
        cast = onnx.helper.make_node("Cast", [stored], [tensor.name], to=onnx.TensorProto.FLOAT)
        casts.append(cast)
        tensor.CopyFrom(onnx.numpy_helper.from_array(value.astype(np.float16), stored))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
    location = data_name(path.stem)
    (path.parent / location).unlink(missing_ok=True)  # it would be appended to
    onnx.save(
        model,
        path,
        save_as_external_data=True,
        location=location,
        size_threshold=LEAST_BYTES,
    )
