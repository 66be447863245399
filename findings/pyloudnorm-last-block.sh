#!/usr/bin/env bash
# pyloudnorm 0.2.0: a last block that the sound does not fill counts as if it did.
#
# Guess before the run: the number of blocks is rounded down.
# Expected: BS.1770: incomplete gating blocks are not used; 0.5 s and 0.56 s of the same noise are equally loud.
# Happens:  the number of blocks is rounded, and the power of the last one divided by 0.4 s although only 0.36 s are
#           there. Of noise that rises by 60 dB a second, 0.45 to 0.6 s measure 1.7 to 4.3 LU louder than with
#           libebur128; sounds of whole blocks measure alike.
# Matters:  sounds of a few seconds are leveled wrongly and said to be on target. omni2sound counts whole blocks only
#           (media/loudness/meter.py).
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check pyloudnorm==0.2.0 numpy==2.4.6 scipy==1.17.1 pyebur128==0.1.1
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import pyebur128
import pyloudnorm

RATE_HZ = 48_000


def difference_lu(sound_N):
    state = pyebur128.R128State(1, RATE_HZ, pyebur128.MeasurementMode.MODE_I)
    state.add_frames(sound_N, len(sound_N))
    right = pyebur128.get_loudness_global(state)
    found = pyloudnorm.Meter(RATE_HZ, filter_class="DeMan").integrated_loudness(sound_N)
    print(f"{len(sound_N) / RATE_HZ:.2f} s: libebur128 {right:.2f} LUFS, pyloudnorm {found:.2f} LUFS")
    return abs(found - right)


rng = np.random.default_rng(0)
noise_N = 0.1 * rng.standard_normal(RATE_HZ)
rising_N = noise_N * 10 ** (np.linspace(-60, 0, RATE_HZ) / 20)
assert difference_lu(noise_N[: RATE_HZ // 2]) < 0.01  # whole blocks
assert max(difference_lu(rising_N[-n:]) for n in (19_200 + 2_500, 19_200 + 4_700, 24_000 + 4_700)) > 0.2
PYTHON
echo "still so"
