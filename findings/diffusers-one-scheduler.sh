#!/usr/bin/env bash
# diffusers 0.42.1 with torch 2.13.0: importing one scheduler imports torch's compiler and scans the whole environment.
#
# Guess before the run: diffusers imports lazily, so one scheduler class costs its own module, NumPy and torch, whatever
#           else is installed.
# Expected: `from diffusers import EDMDPMSolverMultistepScheduler` neither imports torch._dynamo, since nothing is
#           compiled, nor opens a file for each other installed distribution.
# Happens:  diffusers.utils.torch_utils takes one function from torch._dynamo and with it the compiler's 300 modules;
#           diffusers.utils.import_utils asks importlib.metadata which distribution owns which package, which opens at
#           least one file of every distribution in the environment.
# Matters:  a sampler that is two dozen lines of arithmetic adds more to the start of a command than torch itself
#           (1.6 s of `python -X importtime` where torch took 1.8), and the fuller the environment, the more (.08 s
#           with 60 packages, .34 s with 150). Two builds can be compared for speed only in equal environments.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 diffusers==0.42.1 numpy==2.4.6
cat >"$folder/run.py" <<'PYTHON'
import sys

import torch

fakes, opened = sys.argv[1], set()
before = set(sys.modules)


def note(event, arguments):
    if event == "open" and str(arguments[0]).startswith(fakes):
        opened.add(arguments[0])


sys.path.append(fakes)
sys.addaudithook(note)
from diffusers import EDMDPMSolverMultistepScheduler  # noqa: E402, F401

compiler = {m for m in sys.modules if m.startswith("torch._dynamo")} - before
print(len(compiler) > 50, len(opened) >= 100)
print(f"{len(compiler)} modules of torch._dynamo, {len(opened)} files of 100 other distributions", file=sys.stderr)
PYTHON
for n in $(seq 100); do
  mkdir -p "$folder/fakes/other_$n-1.0.dist-info"
  printf 'Metadata-Version: 2.1\nName: other-%s\nVersion: 1.0\n' "$n" >"$folder/fakes/other_$n-1.0.dist-info/METADATA"
  printf 'other_%s.py,,\n' "$n" >"$folder/fakes/other_$n-1.0.dist-info/RECORD"
done
"$folder/venv/bin/python" "$folder/run.py" "$folder/fakes" >"$folder/said"
test "$(cat "$folder/said")" = "True True"
