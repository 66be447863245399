"""Is an event heard when it should be? Told by loudness, which had no part in placing it.

In:   a stem, and the time at which its event should begin.
Out:  when its loudness comes to a fifth and to half of what it reaches at once.

Scenes place recordings by `levels.onset_of`, a rule on the RMS of the whole band. A check by
the same rule can find a misplaced recording and cannot find a bad rule. So this one looks
at something else: every millisecond a 5 ms Hann window, its power in six bands, each compressed
to loudness (power^0.3, Stevens), and their sum. No rule finds the beginning of a swelling
violin to 5 ms, so there are two times, between which a sound begins: a fifth of the loudest of the
next 0.3 s is audible, and before half of it most of the attack has yet to come. Both fractions were
set on the 120 recordings that 600 test scenes play: there all 120 bracket their onset.

Shape suffixes: N samples, F frames of 1 ms, B bands, Q frequencies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ

__all__ = ["Beginning", "beginning_of"]

_BEFORE_S, _AFTER_S = 0.2, 0.3
_HOP = SAMPLE_RATE_HZ // 1000
_WINDOW = 5 * _HOP
_FFT = 128
_BAND_EDGES_HZ = (250, 500, 1000, 2000, 4000)
_LOUDNESS_EXPONENT = 0.3
_SILENT = 1e-4
"""No sample is larger: nothing is heard."""
_AUDIBLE, _BEGUN = 0.2, 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Beginning:
    """The attack of one event, in seconds from the onset that it should have."""

    audible_s: float
    """When its loudness reaches a fifth."""
    begun_s: float
    """When its loudness reaches half."""

    def is_at_onset(self, tolerance_s: float) -> bool:
        """Whether it is audible soon enough after the onset, and did not begin long before it."""
        return self.audible_s <= tolerance_s and self.begun_s >= -tolerance_s


def beginning_of(stem_N: NDArray[np.float32], onset_s: float) -> Beginning | None:
    """How the sound begins around `onset_s`; None if nothing is heard there.

    Args:
        stem_N: One event alone, at 16 kHz.
        onset_s: When it should begin.
    """
    onset = round(onset_s * SAMPLE_RATE_HZ)
    before, after = round(_BEFORE_S * SAMPLE_RATE_HZ), round(_AFTER_S * SAMPLE_RATE_HZ)
    padded_N = np.pad(stem_N, (before + _WINDOW, after + _WINDOW))
    # Padded time is `before + _WINDOW` late; frame 0 is centred `before` ahead of the onset.
    first = onset + _WINDOW - _WINDOW // 2
    near_N = padded_N[first : first + before + after + _WINDOW]
    if not np.abs(near_N).max(initial=0.0) > _SILENT:
        return None
    loudness_F = _loudness(near_N)
    largest = loudness_F.max()
    audible, begun = (int(np.argmax(loudness_F >= part * largest)) for part in (_AUDIBLE, _BEGUN))
    return Beginning(
        audible_s=audible * _HOP / SAMPLE_RATE_HZ - _BEFORE_S,
        begun_s=begun * _HOP / SAMPLE_RATE_HZ - _BEFORE_S,
    )


def _loudness(sound_N: NDArray[np.float32]) -> NDArray[np.float64]:
    """(F,): sum of compressed power over bands."""
    frames = np.lib.stride_tricks.sliding_window_view(sound_N, _WINDOW)[::_HOP]
    spectrum_FQ = np.fft.rfft(frames * np.hanning(_WINDOW + 2)[1:-1], _FFT)
    power_FQ = np.abs(spectrum_FQ) ** 2
    starts = np.searchsorted(np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE_HZ), (0, *_BAND_EDGES_HZ))
    loudness: NDArray[np.float64] = (
        np.add.reduceat(power_FQ, starts, axis=1) ** _LOUDNESS_EXPONENT
    ).sum(axis=1)
    return loudness
