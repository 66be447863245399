"""Definitions of silence, of a sound's strongest onset, and of impulsive sounds.

In:   mono waveforms in [-1, 1] and their sample rate.
Out:  times in seconds or None, yes or no.

These definitions are fixed once a model has been scored with them: a changed one needs a new name.

*Silent*: no 20 ms of the clip reach -60 dBFS (RMS).

*Strongest onset*: where loudness rises most. The signal is analysed every 2.5 ms in a
10 ms Hann window; power is summed in 11 bands, two Bark wide each, and compressed to loudness
(power^0.3, Stevens). Rise at t = sum over bands of the positive part of (mean loudness of the
20 ms from t on - mean loudness of the 20 ms before). The strongest onset is the largest rise,
moved to the steepest point (over 5 ms) within 20 ms around it. A sound that is already there in
the clip's first frame has no onset: time before the clip is taken to sound like that frame.

*Impulsive*: a sound that within 80 ms of its onset reaches 90 % of the loudest level of its first
0.3 s, and half of its overall loudest level: its onset is then known to a few milliseconds.

Shape suffixes: N samples, F frames of 2.5 ms, B bands.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omni2sound.errors import ShapeError, UserError

ONSET_TOLERANCE_S = 0.1
STEP_S = 0.0025
"""Time between frames of loudness."""

_SILENCE_RMS = 10 ** (-60 / 20)
_SILENCE_WINDOW_S = 0.02
_WINDOW_S = 0.010
_SIDE_FRAMES = 8  # 20 ms on each side
_BAND_EDGES_HZ = (200, 400, 630, 920, 1270, 1720, 2320, 3150, 4400, 6400)
_LOUDNESS_EXPONENT = 0.3


_ATTACK_S, _FIRST_S = 0.08, 0.3
_OF_FIRST, _OF_ALL = 0.9, 0.5


def is_silent(waveform_N: ArrayLike, sample_rate_hz: int) -> bool:
    """Whether no 20 ms of the clip reach -60 dBFS RMS.

    Raises:
        ShapeError: If the waveform is not (N,) with N >= 1.
        UserError: If it holds NaN or infinity.
    """
    waveform = checked_waveform(waveform_N)
    window = max(1, round(_SILENCE_WINDOW_S * sample_rate_hz))
    energy = np.add.reduceat(waveform**2, np.arange(0, len(waveform), window))
    return bool(energy.max() / window < _SILENCE_RMS**2)


def is_impulsive(level_T: ArrayLike, rate_hz: float) -> bool:
    """Whether a sound is impulsive, as defined at the top of this module.

    Args:
        level_T: Level (amplitude, any scale) from the onset on, (T,).
        rate_hz: Levels per second.

    Raises:
        ShapeError: If the level is not (T,) with T >= 1.
        UserError: If it holds NaN or infinity.
    """
    level = checked_waveform(level_T)
    attack = level[: max(1, round(_ATTACK_S * rate_hz))].max()
    first = level[: max(1, round(_FIRST_S * rate_hz))].max()
    return bool(attack > 0 and attack >= _OF_FIRST * first and attack >= _OF_ALL * level.max())


def strongest_onset_s(waveform_N: ArrayLike, sample_rate_hz: int) -> float | None:
    """Time of the steepest rise in loudness; None if the clip is silent or never gets louder.

    Clicks and steps are found to within 5 ms.

    Args:
        waveform_N: Mono samples.
        sample_rate_hz: Sample rate, at least 8000.

    Raises:
        ShapeError: If the waveform is not (N,) with N >= 1.
        UserError: If it holds NaN or infinity.
    """
    waveform = checked_waveform(waveform_N)
    if is_silent(waveform, sample_rate_hz):
        return None
    loudness_FB = loudness_bands(waveform, sample_rate_hz)
    rise_F = rise_of(loudness_FB, _SIDE_FRAMES)
    peak = int(rise_F.argmax())
    if rise_F[peak] <= 1e-9 * loudness_FB.max():
        return None
    first = max(0, peak - _SIDE_FRAMES)
    steep_F = rise_of(loudness_FB, 1)[first : peak + _SIDE_FRAMES + 1]
    return (first + int(steep_F.argmax())) * STEP_S


def onset_hit(
    onset_s: float | None, truth_s: float, *, tolerance_s: float = ONSET_TOLERANCE_S
) -> bool:
    """Whether an onset lies within the tolerance of the truth; no onset is a miss."""
    return onset_s is not None and abs(onset_s - truth_s) <= tolerance_s + 1e-9


def checked_waveform(waveform_N: ArrayLike) -> NDArray[np.float64]:
    """Convert mono samples to float64.

    Raises:
        ShapeError: If the waveform is not (N,) with N >= 1.
        UserError: If it holds NaN or infinity.
    """
    waveform = np.asarray(waveform_N, dtype=np.float64)
    if waveform.ndim != 1 or len(waveform) == 0:
        raise ShapeError(f"waveform must be mono (N,) with N >= 1, got {waveform.shape}")
    if not np.isfinite(waveform).all():
        raise UserError("waveform holds NaN or infinity; the sound before it is broken")
    return waveform


def loudness_bands(waveform_N: NDArray[np.float64], sample_rate_hz: int) -> NDArray[np.float64]:
    """Loudness (F, B) in each band, in windows centred at 0, 2.5 ms, 5 ms, ..."""
    window = round(_WINDOW_S * sample_rate_hz)
    padded = np.pad(waveform_N, (0, max(0, window - len(waveform_N))))
    num_frames = int(len(waveform_N) / sample_rate_hz / STEP_S) + 1
    # The step need not be whole samples (44.1 kHz): each start is rounded by itself. Windows
    # stay inside the clip: one that hung over its edge would see an onset there.
    starts = np.round(np.arange(num_frames) * STEP_S * sample_rate_hz).astype(int) - window // 2
    starts = starts.clip(0, len(padded) - window)
    shape = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(window) + 0.5) / window)
    edges_hz = [0, *(hz for hz in _BAND_EDGES_HZ if hz < sample_rate_hz / 2)]
    num_fft = 2 * window  # zero-padded, so that the lowest bands hold some bins each
    bins = np.round(np.array(edges_hz) * num_fft / sample_rate_hz).astype(int)
    parts = []
    for chunk in np.array_split(starts, max(1, num_frames // 4096)):
        frames = padded[chunk[:, None] + np.arange(window)] * shape
        power = np.abs(np.fft.rfft(frames, n=num_fft)) ** 2
        parts.append(np.add.reduceat(power, bins, axis=1) ** _LOUDNESS_EXPONENT)
    return np.concatenate(parts)


def rise_of(loudness_FB: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Positive change (F,) from the `side` frames before t to the `side` frames from t on."""
    padded = np.pad(loudness_FB, ((side, side), (0, 0)), mode="edge")
    total = np.cumsum(np.pad(padded, ((1, 0), (0, 0))), axis=0)
    mean = (total[side:] - total[:-side]) / side  # mean[i] covers padded frames i .. i + side - 1
    num_frames = len(loudness_FB)
    after, before = mean[side : side + num_frames], mean[:num_frames]
    rise: NDArray[np.float64] = np.maximum(after - before, 0).sum(axis=1)
    return rise
