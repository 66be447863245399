#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8.1): FLAC in ASF comes back with nearly all stamps a constant time late.
#
# Guess before the run: a stamp is where its block begins, to the millisecond that ASF keeps, as for other codecs.
# Expected: stamps that follow the samples decoded so far, for FLAC as for PCM and MP2.
# Happens:  the first block is at 0 and the second, with no sample missing between them, 0.648 s after its place; so
#           are all that follow, until the last nine share two stamps. The same packets in Matroska, and PCM and MP2 in
#           ASF, are in their places.
# Matters:  whoever places sound by stamps finds a hole of 0.65 s that isn't one. omni2sound takes stamps that run
#           ahead while nothing is missing for no clock, and counts samples (media/timing/sound_clock.py).
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from fractions import Fraction

import av
import numpy as np

RATE_HZ, BLOCK = 16_000, 1152
sound_CN = (8000 * np.sin(np.arange(5 * RATE_HZ) * 2 * np.pi * 440 / RATE_HZ)).astype(np.int16)[None]


def seconds_late(name, codec):
    """How far each stamp lies behind the sound that was decoded before it, seconds."""
    with av.open(name, "w") as container:
        stream = container.add_stream(codec, rate=RATE_HZ, layout="mono")
        for begin in range(0, sound_CN.shape[1], BLOCK):
            block = sound_CN[:, begin : begin + BLOCK]
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = RATE_HZ, Fraction(1, RATE_HZ), begin
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    late, num_samples = [], 0
    with av.open(name) as container:
        for packet in container.demux(audio=0):
            if packet.size:
                late.append(float(packet.pts * packet.time_base) - num_samples / RATE_HZ)
                num_samples += sum(frame.samples for frame in packet.decode())
    return late


print("FFmpeg", av.ffmpeg_version_info)
for name, codec in (("a.asf", "flac"), ("a.mkv", "flac"), ("a.asf", "pcm_s16le"), ("a.asf", "mp2")):
    late = seconds_late(name, codec)
    print(f"{codec} in {name}: {late[0]:.3f} s late, then {late[1]:.3f}, {late[2]:.3f} ... {late[-1]:.3f}")
    is_flac_in_asf = (name, codec) == ("a.asf", "flac")
    assert abs(late[0]) < 0.002
    assert all(abs(seconds - 0.648 * is_flac_in_asf) < 0.002 for seconds in late[1:-9])
    assert len({round(seconds, 2) for seconds in late[-9:]}) == (6 if is_flac_in_asf else 1)
PYTHON
echo "still so"
