"""Rewritten graphs are the same functions."""

from __future__ import annotations

import numpy as np
import pytest

from omni2sound.export.simplify import slice_parts

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(("axis", "keepdims"), [(-1, 1), (0, 1), (1, 0)])
def test_parts_of_an_even_split_stay_what_they_are(axis: int, keepdims: int) -> None:
    """The last part is shorter where the axis is no multiple; squeezed parts are left alone."""
    size = 1 if keepdims == 0 else 2
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    constants = [
        make.make_node("Constant", [], [name], value=make.make_tensor(name, 7, [], [value]))
        for name, value in (("size", size), ("first", 0), ("last", 2))
    ]
    split = make.make_node("SplitToSequence", ["x", "size"], ["s"], axis=axis, keepdims=keepdims)
    taken = [make.make_node("SequenceAt", ["s", name], [f"{name}_"]) for name in ("first", "last")]
    values = [make.make_tensor_value_info(name, kind, None) for name in ("first_", "last_")]
    given = make.make_tensor_value_info("x", kind, [5, 3 if keepdims == 0 else 6, 5])
    graph = make.make_graph([*constants, split, *taken], "g", [given], values)
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 20)], ir_version=10)
    x = np.random.default_rng(0).normal(size=(5, 3 if keepdims == 0 else 6, 5)).astype(np.float32)

    def run() -> list[np.ndarray]:
        session = runtime.InferenceSession(model.SerializeToString())
        return list(session.run(None, {"x": x}))

    expected = run()
    slice_parts(model)
    assert ("SplitToSequence" in {n.op_type for n in model.graph.node}) == (keepdims == 0)
    for found, wanted in zip(run(), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
