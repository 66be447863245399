"""A sound as a picture: levels over time and frequency, in colours.

In:   mono samples; levels in [0, 1].
Out:  an array of levels; an array of RGB.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LOWEST_HZ = 50.0
RANGE_DB = 70.0
FULL_SCALE_RANGE_DB = 90.0
"""Of the absolute scale; its top is a sine of full scale."""
QUIETEST_PEAK_DB = -20.0
"""A sound whose loudest spot is below this is drawn dark, not stretched to full brightness."""
WINDOW_S = 0.032

# Anchors of a dark-to-bright colour scale whose lightness grows evenly.
_COLOURS = np.array(
    [[0, 0, 4], [59, 15, 112], [140, 41, 129], [222, 73, 104], [254, 159, 109], [252, 253, 191]],
    dtype=np.float64,
)


def log_spectrogram_FT(
    samples_N: NDArray[np.float32], sample_rate_hz: int, num_rows: int, num_columns: int
) -> NDArray[np.float64]:
    """Level in [0, 1], 1 at the loudest spot, 0 `RANGE_DB` below; top row is half the sample rate.

    Column t is centred at (t + 0.5) / num_columns of the sound; rows are spaced evenly in
    the logarithm of frequency, from `LOWEST_HZ` up.
    """
    power_FT = _power_FT(samples_N, sample_rate_hz, num_rows, num_columns)
    level_db = 10 * np.log10(power_FT + 1e-12)
    peak_db = max(float(level_db.max()), QUIETEST_PEAK_DB)
    return np.asarray(np.clip(1 + (level_db - peak_db) / RANGE_DB, 0, 1))


def full_scale_spectrogram_FT(
    samples_N: NDArray[np.float32], sample_rate_hz: int, num_rows: int, num_columns: int
) -> NDArray[np.float64]:
    """Level in [0, 1] of an absolute scale: 1 for a sine of full scale, 0 for -90 dB and less.

    Rows and columns are those of `log_spectrogram_FT`; two pictures can be compared.
    """
    power_FT = _power_FT(samples_N, sample_rate_hz, num_rows, num_columns)
    sine = (np.hanning(round(WINDOW_S * sample_rate_hz)).sum() / 2) ** 2
    level_db = 10 * np.log10(power_FT / sine + 1e-12)
    return np.asarray(np.clip(1 + level_db / FULL_SCALE_RANGE_DB, 0, 1))


def _power_FT(
    samples_N: NDArray[np.float32], sample_rate_hz: int, num_rows: int, num_columns: int
) -> NDArray[np.float64]:
    window_samples = round(WINDOW_S * sample_rate_hz)
    padded = np.pad(samples_N.astype(np.float64), window_samples)
    centres = (np.arange(num_columns) + 0.5) / num_columns * len(samples_N)
    starts = np.round(centres).astype(int) + window_samples - window_samples // 2
    pieces_TN = padded[starts[:, None] + np.arange(window_samples)] * np.hanning(window_samples)
    power_TK = np.abs(np.fft.rfft(pieces_TN, axis=1)) ** 2
    rows_hz = np.geomspace(sample_rate_hz / 2, LOWEST_HZ, num_rows)
    bins_hz = np.fft.rfftfreq(window_samples, 1 / sample_rate_hz)
    return np.stack([np.interp(rows_hz, bins_hz, power_K) for power_K in power_TK], axis=1)


def colours_of(level_FT: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(F, T, 3): dark for 0, bright for 1."""
    anchors = np.linspace(0, 1, len(_COLOURS))
    channels = [np.interp(level_FT, anchors, _COLOURS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)
