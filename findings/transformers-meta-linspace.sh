#!/usr/bin/env bash
# transformers 5.23.0 with torch 2.13.0: after the first `from_pretrained`, `torch.linspace` ignores `torch.device`.
#
# Guess before the run: transformers patches linspace only while it builds a model, and puts it back; later code that
#           builds networks inside `with torch.device("meta")` is not touched.
# Expected: all creators of tensors give meta tensors inside that block, whoever loaded what before.
# Happens:  torch looks up which functions take a device on the first use of a device block, and remembers the answer
#           for good. If that first use is transformers' own, the patched linspace is remembered in place of the real
#           one, and from then on linspace alone makes tensors on the CPU in every `with torch.device(...)`, on any
#           device, in the whole process. One device block before the first model is loaded prevents it.
# Matters:  networks that are built without numbers first fail with "Tensor on device cpu is not on the expected device
#           meta!", depending on which library was used first; on a GPU, tables silently stay on the CPU.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 transformers==5.23.0 numpy==2.4.6
cat >"$folder/run.py" <<'PYTHON'
import sys

import torch
from transformers import BertConfig, BertModel

folder, first = sys.argv[1:]
BertModel(BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1)).save_pretrained(folder)
if first == "torch":
    with torch.device("meta"):
        torch.empty(0)
BertModel.from_pretrained(folder)
with torch.device("meta"):
    print(torch.linspace(0, 1, 3).device, torch.arange(3).device)
PYTHON
for first in transformers torch; do
  HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" "$folder/run.py" "$folder/model" "$first" \
    2>/dev/null >"$folder/$first"
  echo "first device block by $first: linspace, arange on $(cat "$folder/$first")"
done
test "$(cat "$folder/transformers")" = "cpu meta" && test "$(cat "$folder/torch")" = "meta meta"
