#!/usr/bin/env bash
# onnxruntime 1.32.0 on an x86-64 CPU: ReLU6 written as Max and Min keeps a network of convolutions off its fast layout.
#
# Guess before the run: the two are recognised as a Clip, since the bounds are constants, and cost next to nothing.
# Expected: both forms of ReLU6 are fused into the convolution before them, and all stays in blocks of channels.
# Happens:  Clip is fused. Max and Min stay, and around each pair all activations are moved out of the blocked layout
#           and back into it (ReorderOutput, ReorderInput); the numbers are the same.
# Matters:  torch exports `x.clamp(0, 6)` as Max and Min, `hardtanh(x, 0, 6)` as Clip. MobileNets and EfficientNet-lite
#           have one after nearly each convolution: half of the time of a labeller here went to that.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

CHANNELS, LAYERS = 32, 4
SHAPE = [1, CHANNELS, 16, 16]


def network(form):
    """Convolutions of 3 x 3, each with ReLU6 behind it."""
    rng = np.random.default_rng(0)
    numbers = [numpy_helper.from_array(np.float32(v), n) for n, v in (("low", 0), ("high", 6))]
    nodes, x = [], "x"
    for i in range(LAYERS):
        weight = rng.normal(0, 0.08, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
        numbers.append(numpy_helper.from_array(weight, f"w{i}"))
        nodes.append(helper.make_node("Conv", [x, f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]))
        x = f"r{i}"
        if form == "Clip":
            nodes.append(helper.make_node("Clip", [f"c{i}", "low", "high"], [x]))
        else:
            nodes.append(helper.make_node("Max", [f"c{i}", "low"], [f"m{i}"]))
            nodes.append(helper.make_node("Min", [f"m{i}", "high"], [x]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ("x", x)]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], numbers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(form):
    """The operators that are run, and the output."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = f"{sys.argv[1]}/{form}.onnx"
    session = ort.InferenceSession(network(form).SerializeToString(), options)
    x = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    (made,) = session.run(None, {"x": x})
    found = onnx.load(options.optimized_model_filepath)
    return Counter(node.op_type for node in found.graph.node), made


clipped, first = run("Clip")
spread, second = run("Max-Min")
print(f"onnxruntime {ort.__version__}, {LAYERS} layers")
print("Clip:        ", dict(clipped))
print("Max and Min: ", dict(spread))
assert np.array_equal(first, second)
assert clipped["Clip"] == 0 and clipped["ReorderOutput"] == 1
assert spread["Max"] == spread["Min"] == spread["ReorderOutput"] == LAYERS
PYTHON
echo "still so"
