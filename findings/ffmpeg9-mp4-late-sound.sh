#!/usr/bin/env bash
# PyAV 19.0.2 (FFmpeg 9.0.2): a sound track of an mp4 that begins late loses its end.
#
# Guess before the run: FFmpeg 9 trims the last AAC packet to the length that the file states; how late a track begins
#           (an empty entry in its edit list) changes when it is heard, not how much of it.
# Expected: 17,024 samples and 1,024 of encoder delay in, 18,048 out, for each start.
# Happens:  begun 100 samples late, 100 samples are missing at the end; begun 600 late, 600. What is trimmed is counted
#           from the end of the last packet (late) to the track's length (not late). Where that makes a whole codec
#           frame (1,024 samples) or more, nothing is trimmed, not even the padding, here of 384 samples. FFmpeg 8.1
#           (PyAV 18.1.0) never trims here.
# Matters:  sound under a video often begins some milliseconds late (copies of transport streams, phones). Up to
#           64 ms at 16 kHz are gone. omni2sound puts the count right before it decodes (media/files.py).
#
# PyAV 19 needs Python 3.12; PYTHON=python3.13 chooses another interpreter.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check av==19.0.2 numpy==2.4.6
"$folder/venv/bin/python" - "$folder/late.mp4" <<'PYTHON'
import sys
from fractions import Fraction

import av
import numpy as np

RATE_HZ, DELAY, NUM_SAMPLES = 16_000, 1024, 17_024
PADDING = -(NUM_SAMPLES + DELAY) % 1024


def samples_read(late):
    with av.open(sys.argv[1], "w", container_options={"movie_timescale": str(RATE_HZ)}) as container:
        stream = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        sound = np.zeros((1, NUM_SAMPLES), np.float32)
        frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
        frame.sample_rate, frame.time_base = RATE_HZ, Fraction(1, RATE_HZ)
        frame.pts = late + DELAY
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(sys.argv[1]) as container:
        return sum(frame.samples for frame in container.decode(audio=0))


print("FFmpeg", av.ffmpeg_version_info)
for late in (0, 100, 600, 639, 640, 4000):
    missing = NUM_SAMPLES + DELAY - samples_read(late)
    print(f"begins {late} samples late: {missing} missing at the end")
    assert missing == (late if PADDING + late < 1024 else -PADDING)
PYTHON
echo "still so"
