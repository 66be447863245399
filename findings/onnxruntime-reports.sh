#!/usr/bin/env bash
# onnxruntime 1.32.0 from PyPI on Linux: `import onnxruntime` alone names the machine and keeps reports for its maker.
#
# Guess before the run: telemetry is a matter of the Windows builds, as the documentation said for years.
# Expected: importing a library and running a graph writes nothing outside the caller's files.
# Happens:  the import writes an identifier of the device and a database of events into the cache folder
#           (Microsoft/DeveloperTools), with the path of the program, processor, memory and kind of container;
#           sessions add to it. What sends them over HTTPS is in the library.
#           ORT_DISABLE_TELEMETRY=1 before the first import stops all of it; `disable_telemetry_events()` comes too late
#           for what the import wrote.
# Matters:  a tool that promises to send nothing breaks the promise by a dependency, in native code that no guard on
#           Python's sockets sees; in CI the library keeps quiet by itself, so tests there show nothing.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cat >"$folder/graph.py" <<'PYTHON'
import sys

from onnx import TensorProto, helper

values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
with open(sys.argv[1], "wb") as file:
    file.write(model.SerializeToString())
PYTHON
"$folder/venv/bin/python" "$folder/graph.py" "$folder/graph.onnx"
cat >"$folder/run.py" <<'PYTHON'
import sys

import onnxruntime

if "late" in sys.argv:
    onnxruntime.disable_telemetry_events()
if "import" not in sys.argv:
    onnxruntime.InferenceSession(sys.argv[1])
PYTHON

written() {  # NAME SETTING... : files that a run leaves in a new home folder without a network
  mkdir -p "$folder/home-$1"
  env -i HOME="$folder/home-$1" HTTPS_PROXY=http://127.0.0.1:9 https_proxy=http://127.0.0.1:9 "${@:3}" \
    "$folder/venv/bin/python" "$folder/run.py" "$folder/graph.onnx" "$2"
  find "$folder/home-$1" -type f | wc -l
}
import=$(written import import)
session=$(written session run)
late=$(written late late)
off=$(written off run ORT_DISABLE_TELEMETRY=1)
named=$(grep -lar "$folder/venv/bin/python" "$folder/home-import" | wc -l || true)
echo "files written: import alone $import ($named with the path of the program), a session $session," \
  "switched off after the import $late, ORT_DISABLE_TELEMETRY=1 $off"
test "$import" -ge 1 && test "$named" -ge 1 && test "$session" -ge 1 && test "$late" -ge 1 && test "$off" -eq 0
