#!/usr/bin/env bash
# pyloudnorm 0.2.0: the loudness of a sound depends on its sample rate.
#
# Guess before the run: within 0.1 LU, the tolerance of EBU Tech 3341 for meters.
# Expected: a sound at 16 kHz and the same sound brought to 48 kHz, band-limited, are equally loud.
# Happens:  white noise measures -17.3 LUFS at 16 kHz and -17.6 at 48 kHz. ITU-R BS.1770 gives its filters for
#           48 kHz; designed anew for a lower rate by the bilinear transform, their shape is bent towards the
#           Nyquist frequency. Sounds without treble differ little: a tone of 1 kHz by .03 LU.
# Matters:  many audio models make 16 kHz. A file normalised to -23 LUFS there is off where a broadcaster's meter,
#           which works at 48 kHz, reads it. libebur128 and FFmpeg do the same, so omni2sound measures a file at its
#           own rate as they do, and below 8 kHz at 48 kHz (media/loudness/meter.py, decision 60).
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check pyloudnorm==0.2.0 soxr==1.1.0 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import pyloudnorm
import soxr

RATE_HZ = 16_000
time_s = np.arange(5 * RATE_HZ) / RATE_HZ
noise = 0.1 * np.random.default_rng(0).standard_normal(len(time_s))
tone = 0.1 * np.sin(2 * np.pi * 1000 * time_s)


def difference_lu(sound):
    at_16 = pyloudnorm.Meter(RATE_HZ).integrated_loudness(sound)
    at_48 = pyloudnorm.Meter(48_000).integrated_loudness(soxr.resample(sound, RATE_HZ, 48_000))
    print(f"16 kHz {at_16:.2f} LUFS, 48 kHz {at_48:.2f} LUFS")
    return at_16 - at_48


assert difference_lu(noise) > 0.2
assert abs(difference_lu(tone)) < 0.05
PYTHON
echo "still so"
