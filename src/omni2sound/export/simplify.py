"""Exported graphs without what a runtime computes slowly.

In:   an ONNX graph of `torch.onnx.export`.
Out:  the same function.

`Tensor.chunk` is exported as a sequence of parts, which ONNX Runtime copies one by one: a tenth of
a sampling step. Each part becomes a slice. ONNX Runtime then joins what it has one operation for.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from omni2sound.export.half import LEAST_BYTES
from omni2sound.generate.onnx.folder import data_name, import_runtime


def simplify(path: Path) -> None:
    """Rewrite a graph in place."""
    onnx: Any = importlib.import_module("onnx")  # of the extra `export`
    model = onnx.load(path)
    slice_parts(model)
    onnx.save(model, path)


def slice_parts(model: Any) -> None:
    """Replace parts of sequences that were split evenly by slices."""
    onnx: Any = importlib.import_module("onnx")
    graph = model.graph
    made_by = {name: node for node in graph.node for name in node.output}
    numbers = {x.name: onnx.numpy_helper.to_array(x) for x in graph.initializer}

    def number(name: str) -> int | None:
        """A whole number that is known now."""
        if name in numbers:
            value = numbers[name]
        elif name in made_by and made_by[name].op_type == "Constant":
            value = onnx.helper.get_node_attr_value(made_by[name], "value")
            value = onnx.numpy_helper.to_array(value)
        else:
            return None
        return int(value) if value.ndim == 0 else None

    def part(node: Any) -> list[Any]:
        """Slice in place of an element of a split sequence; the node itself if it is none."""
        split = made_by.get(node.input[0]) if node.op_type == "SequenceAt" else None
        if split is None or split.op_type != "SplitToSequence":
            return [node]
        about = {a.name: a.i for a in split.attribute}
        index, size = number(node.input[1]), number(split.input[1]) if split.input[1:] else None
        if index is None or size is None or index < 0 or not about.get("keepdims", 1):
            return [node]
        values = (index * size, (index + 1) * size, about.get("axis", 0))
        names = [f"{node.output[0]}_{kind}" for kind in ("starts", "ends", "axes")]
        constants = [
            onnx.helper.make_node(
                "Constant",
                [],
                [name],
                value=onnx.helper.make_tensor(name, onnx.TensorProto.INT64, [1], [value]),
            )
            for name, value in zip(names, values, strict=True)
        ]
        return [
            *constants,
            onnx.helper.make_node("Slice", [split.input[0], *names], [node.output[0]]),
        ]

    nodes = [new for node in graph.node for new in part(node)]
    used = {name for node in nodes for name in node.input} | {x.name for x in graph.output}
    kept = [x for x in nodes if x.op_type != "SplitToSequence" or used & set(x.output)]
    del graph.node[:]
    graph.node.extend(kept)


def optimise(path: Path) -> None:
    """Let the runtime optimise a graph once, and write its numbers to a file beside it.

    What depends on the kind of CPU, as the layout of convolutions does, is left to each loading.
    """
    ort = import_runtime()
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    made = path.with_suffix(".optimised")
    options.optimized_model_filepath = str(made)
    for key, value in (
        ("file_name", data_name(path.stem)),
        ("min_size_in_bytes", str(LEAST_BYTES)),
    ):
        options.add_session_config_entry(
            f"session.optimized_model_external_initializers_{key}", value
        )
    ort.InferenceSession(path, sess_options=options, providers=["CPUExecutionProvider"])
    made.replace(path)
