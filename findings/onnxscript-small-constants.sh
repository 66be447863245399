#!/usr/bin/env bash
# onnxscript 0.7.2, its optimiser (which torch.onnx.export runs by default): a sum with a small constant is dropped.
#
# Guess before the run: x + c goes only if c is 0, since 1e-11 is an ordinary float32 number.
# Expected: x / (x + 1e-11) is 0 where x is 0, before and after optimising.
# Happens:  the sum is gone for every c up to 1e-8, and the quotient is NaN at 0; from 2e-8 on it stays.
# Matters:  floors such as log(x + 1e-11) or x / (x + 1e-8) guard against silence, so a network exports without a
#           warning, agrees with torch on noise and gives NaN on silence. Export with `optimize=False`, and compare
#           the exported graph with torch on zeros.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
  onnxscript==0.7.2 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxscript import optimizer


def quotient(constant):
    """x / (x + constant)."""
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in "xy"]
    nodes = [helper.make_node("Add", ["x", "c"], ["s"]), helper.make_node("Div", ["x", "s"], ["y"])]
    value = numpy_helper.from_array(np.float32(constant), "c")
    graph = helper.make_graph(nodes, "quotient", sides[:1], sides[1:], [value])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def at_zero(model):
    session = ort.InferenceSession(model.SerializeToString())
    return session.run(None, {"x": np.zeros(1, np.float32)})[0][0]


dropped = []
for constant in (1e-3, 1e-7, 2e-8, 1e-8, 1e-11):
    model = quotient(constant)
    smaller = optimizer.optimize(model)
    names = [node.op_type for node in smaller.graph.node]
    dropped.append("Add" not in names)
    print(f"{constant:g}: {at_zero(model)} at 0; optimised {at_zero(smaller)}, {' '.join(names)}")
assert dropped == [False, False, False, True, True]
PYTHON
echo "still so"
