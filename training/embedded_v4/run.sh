#!/bin/sh
# Train `embedded-v4` on a machine with one GPU and nothing installed but PyTorch and transformers.
#
#     sh training/embedded_v4/run.sh PACK OUT [NAME=VALUE ...]
#
# PACK was made by pack.py, WHEELS (default: PACK/wheels) holds what is missing there; OUT gets the
# model folder, the log and the sizes of the features. NAME=VALUE changes a line of settings.sh: the
# rehearsal is SCALE=0.01 DEVICE=cpu BATCH_SECONDS=64 WORKERS=2 MINUTES=60, and WHEELS=none on a
# machine that has the packages, since the wheels are those of one version of Python.
set -eu
pack=$1 out=$2
shift 2
. "$(dirname "$0")/settings.sh"
for setting in "$@"; do eval "$setting"; done
wheels=${WHEELS:-$pack/wheels} site=${TMPDIR:-/tmp}/embedded-v4-site
if [ -d "$wheels" ]; then
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \
        --target "$site" "$wheels"/*.whl
fi
PYTHONPATH=$PWD/src:$PWD:$site${PYTHONPATH:+:$PYTHONPATH} OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1 \
    ${PYTHON:-python3} training/embedded_v4/train.py --pack "$pack" --out "$out" \
    --text-encoder "$TEXT_ENCODER" --scale "$SCALE" --minutes "$MINUTES" --workers "$WORKERS" \
    --device "$DEVICE" --batch-seconds "$BATCH_SECONDS"
