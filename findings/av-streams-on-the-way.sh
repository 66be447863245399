#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8.1): a transport stream in which a stream appears on the way ends in an IndexError.
#
# Guess before the run: the packets of the new stream are left out, or `streams` grows; `demux` ends as always.
# Expected: three parts of 200 pictures, the middle one with another packet identifier; demuxing ends quietly.
# Happens:  the 400 packets of the first and third part come, the 200 of the second don't, and then `demux` raises
#           IndexError: it flushes a decoder for each stream that FFmpeg has by now, and its own list is the old one.
# Matters:  recorders and joined recordings change identifiers. The error comes after the last packet and looks like
#           damage; without it nobody would know that a part is missing. omni2sound takes it for what it is, and says
#           that a stream is left out (media/files.py).
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from collections import Counter
from pathlib import Path

import av
import numpy as np

NUM_PICTURES = 200


def part(first_pid):
    """A part of about 2 MB; FFmpeg looks at the first 5 MB and at the end for streams."""
    rng = np.random.default_rng(first_pid)
    options = {"mpegts_start_pid": str(first_pid)}
    with av.open("part.ts", "w", format="mpegts", options=options) as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 320, 240, "yuv420p", 2_000_000
        for _ in range(NUM_PICTURES):
            noise = rng.integers(0, 255, (240, 320, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode(None))
    return Path("part.ts").read_bytes()


first, other = part(0x100), part(0x200)
Path("joined.ts").write_bytes(first + other + first)
found, error = Counter(), None
with av.open("joined.ts", options={"probesize": "200000"}) as container:
    try:
        for packet in container.demux():
            found[packet.stream.index] += bool(packet.size)
    except IndexError as raised:
        error = raised
print("FFmpeg", av.ffmpeg_version_info, "packets by stream", dict(found), "then", repr(error))
assert dict(found) == {0: 2 * NUM_PICTURES}
assert isinstance(error, IndexError)
PYTHON
echo "still so"
