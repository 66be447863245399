"""Changes to a training waveform that keep its meaning and its timing.

In:   a waveform (N,) and a random generator.
Out:  a waveform (N,) of the same length, peak at most 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["augment_waveform"]

GAIN_DB = (-4.0, 2.0)
"""Range of the overall gain."""
EQ_DB = 4.0
"""Standard deviation of the equaliser at each of its knots."""
EQ_KNOTS = 5
"""Knots of the equaliser, evenly spaced in log frequency."""


def augment_waveform(
    waveform_N: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Random gain and a smooth random equaliser (zero phase, so onsets stay in place)."""
    spectrum = np.fft.rfft(waveform_N)
    position = np.log1p(np.arange(len(spectrum)) / len(spectrum) * 100) / np.log(101)
    knots_db = rng.normal(0, EQ_DB / 2, EQ_KNOTS) + rng.uniform(*GAIN_DB)
    gain_db = np.interp(position, np.linspace(0, 1, EQ_KNOTS), knots_db)
    shaped = np.fft.irfft(spectrum * 10 ** (gain_db / 20), n=len(waveform_N))
    return (shaped / max(1.0, float(np.abs(shaped).max()))).astype(np.float32)
