#!/usr/bin/env bash
# FFmpeg 8.1 (PyAV 18.1.0): of two lists of keys in one mp4 the first one names the values of both.
#
# Guess before the run: each `meta` box has its own `keys`, and its values are named by them.
# Expected: workflow=one from moov/udta/meta (where FFmpeg and ComfyUI write) and place=two from moov/meta (where
#           QuickTime writes and reads).
# Happens:  workflow=two, and no place: the second list is skipped, its values get the names of the first and replace
#           them. No warning.
# Matters:  a phone's film with a workflow added by another tool reads back wrong. omni2sound puts all keys of a copy
#           into one list (media/copy/tags.py).
#
# PYTHON=python3.13 chooses another interpreter.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check av==18.1.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder/two.mp4" <<'PYTHON'
import struct
import sys
from fractions import Fraction

import av
import numpy as np


def box(kind, body):
    return struct.pack(">I4s", 8 + len(body), kind) + body


options = {"movflags": "use_metadata_tags"}
with av.open(sys.argv[1], "w", container_options=options) as container:
    container.metadata["workflow"] = "one"
    stream = container.add_stream("mpeg4", rate=25)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
data = open(sys.argv[1], "rb").read()
at = data.rindex(b"moov") - 4  # lies last
meta = box(
    b"meta",
    bytes(4)
    + box(b"hdlr", bytes(8) + b"mdta" + bytes(13))
    + box(b"keys", struct.pack(">II", 0, 1) + box(b"mdta", b"place"))
    + box(b"ilst", box(struct.pack(">I", 1), box(b"data", struct.pack(">II", 1, 0) + b"two"))),
)
moov = data[at:] + meta
open(sys.argv[1], "wb").write(data[:at] + struct.pack(">I", len(moov)) + moov[4:])
with av.open(sys.argv[1]) as container:
    tags = {key: value for key, value in container.metadata.items() if value in ("one", "two")}
print("FFmpeg", av.ffmpeg_version_info, tags)
assert tags == {"workflow": "two"}
PYTHON
echo "still so"
