"""Loudness meter: ITU-R BS.1770-5 (EBU R 128), with the loudest 3 s and the loudest 0.4 s.

In:   a `Sound` with its channel layout.
Out:  `Loudness`, or the reason why the sound has none.

The sound is weighted by frequency (K), its channels by place, and its power averaged over blocks
of 0.4 s that begin every 0.1 s. Blocks below -70 LUFS don't count, nor those 10 LU below the rest.
What not to get wrong: a block counts only if the sound fills it, and the LFE channel never.

The filters are the standard's analogue ones, which the bilinear transform brings to the sound's own
rate, as libebur128 and FFmpeg do: the file is as loud as their meters say. They are applied as a
product of spectra, because `scipy.signal` takes longer to import than most sounds to measure.
Shape suffixes: C channels, N samples, F frequencies, H steps of 0.1 s, B blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from omni2sound.media.layouts import channel_names
from omni2sound.media.long_sound import fitted, in_blocks, resampled
from omni2sound.media.samples import Sound

_OFFSET_LU = -0.691
_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE_LU = 10.0
_STEPS_A_SECOND = 10
_MOMENTARY_STEPS = 4
_SHORT_TERM_STEPS = 30
_FOREGROUND_LU = 10.0
_FLOOR_SHARE = 0.1
_LOWEST_RATE_HZ = 8000
"""Below, the filters lose their shape, or are none at all; such a sound is measured at 48 kHz."""
_METER_RATE_HZ = 48_000
_TAIL_S = 0.25
"""The filters' response has decayed by 500 dB: both poles of the high-pass are at 38 Hz."""
_WINDOW = 2**15

# The analogue prototypes of BS.1770's two stages; at 48 kHz they give its coefficients.
_SHELF_HZ, _SHELF_Q, _SHELF_DB = 1681.974450955533, 0.7071752369554196, 3.999843853973347
_SHELF_MIDDLE = 0.4996667741545416
_PASS_HZ, _PASS_Q = 38.13547087602444, 0.5003270373238773


@dataclass(frozen=True, kw_only=True, slots=True)
class Loudness:
    """How loud a sound is; a value is None where there is none, and `missing` says why."""

    integrated_lufs: float | None = None
    """Of the whole sound, without its pauses."""
    short_term_lufs: float | None = None
    """Of the loudest 3 s; None for a shorter sound."""
    momentary_lufs: float | None = None
    """Of the loudest 0.4 s."""
    floor_lufs: float | None = None
    """What a tenth of the blocks stays below; None if those are digital silence."""
    foreground_s: float = 0.0
    """Time covered by the blocks within 10 LU of the loudest one."""
    missing: str = ""
    """Why there is no loudness: the sound is silent or shorter than a block."""


def measure(sound: Sound) -> Loudness:
    """Measure the loudness of a sound.

    Channels without a place (of an unknown layout) count like the front ones.
    """
    if sound.sample_rate_hz < _LOWEST_RATE_HZ:
        sound = resampled(sound, _METER_RATE_HZ)
    power_H = _step_powers(sound)
    if len(power_H) < _MOMENTARY_STEPS:
        return Loudness(missing="shorter than 0.4 s")
    power_B = _block_means(power_H, _MOMENTARY_STEPS)
    loudest = _lufs(power_B.max())
    counted_B = power_B > _power(_ABSOLUTE_GATE_LUFS)
    if loudest is None or not counted_B.any():
        return Loudness(missing="silent")
    gate = power_B[counted_B].mean() * 10 ** (-_RELATIVE_GATE_LU / 10)
    counted_B &= power_B > gate
    near_B = power_B > power_B.max() * 10 ** (-_FOREGROUND_LU / 10)
    covered_H = np.convolve(near_B, np.ones(_MOMENTARY_STEPS)) > 0.5
    short_term = None
    if len(power_H) >= _SHORT_TERM_STEPS:
        short_term = _lufs(_block_means(power_H, _SHORT_TERM_STEPS).max())
    return Loudness(
        integrated_lufs=_lufs(power_B[counted_B].mean()),
        short_term_lufs=short_term,
        momentary_lufs=loudest,
        floor_lufs=_lufs(np.quantile(power_B, _FLOOR_SHARE, method="lower")),
        foreground_s=float(covered_H.sum()) / _STEPS_A_SECOND,
    )


def channel_weights(layout: str | None, num_channels: int) -> NDArray[np.float64]:
    """Return BS.1770's weight of each channel (C,): LFE 0, surrounds 1.41, all others 1.

    A surround is what stands 60 to 120 degrees from the front: the side channels, and the back ones
    where there are no side ones (5.1 by any name).
    """
    if layout is None:
        return np.ones(num_channels)
    names = channel_names(layout)
    surrounds = {"SL", "SR"} if "SL" in names or "SR" in names else {"BL", "BR"}
    return np.array(
        [0.0 if name == "LFE" else 1.41 if name in surrounds else 1.0 for name in names]
    )


def _step_powers(sound: Sound) -> NDArray[np.float64]:
    """Mean weighted power of each whole step of 0.1 s (H,), summed over channels."""
    rate_hz, num_samples = sound.sample_rate_hz, sound.num_samples
    step = (rate_hz + _STEPS_A_SECOND // 2) // _STEPS_A_SECOND  # rounded, as in libebur128
    if num_samples * _STEPS_A_SECOND >= _MOMENTARY_STEPS * rate_hz:
        step = min(step, num_samples // _MOMENTARY_STEPS)  # 0.4 s to the sample make one block
    num_steps = num_samples // step
    if num_steps == 0:
        return np.zeros(0)
    end = num_steps * step
    weights_C = channel_weights(sound.assumed_layout, sound.num_channels)
    counted = np.flatnonzero(weights_C)
    mean_H = np.zeros(num_steps)
    window, tail = _window(rate_hz, end)
    hop = window - tail
    before_CN = np.zeros((len(counted), tail))
    power_CN = np.empty((len(counted), step + hop))
    num_held = num_done = 0
    for block_CN in in_blocks(fitted(sound, end).read(), hop):
        new_CN = np.concatenate([before_CN, block_CN[counted].astype(np.float64)], axis=1)
        length = block_CN.shape[1]
        for samples_N, power_N in zip(new_CN, power_CN, strict=True):
            spectrum_F = np.fft.rfft(samples_N, window)
            weighted_N = np.fft.irfft(spectrum_F * _response(rate_hz, window), window)
            power_N[num_held : num_held + length] = weighted_N[tail : tail + length] ** 2
        before_CN = new_CN[:, -tail:]
        num_held += length
        num_whole = num_held // step
        for power_N, weight in zip(power_CN, weights_C[counted], strict=True):
            whole_N = power_N[: num_whole * step]
            mean_H[num_done : num_done + num_whole] += weight * whole_N.reshape(
                num_whole, step
            ).mean(axis=1)
        num_done += num_whole
        rest = num_held - num_whole * step
        power_CN[:, :rest] = power_CN[:, num_whole * step : num_held].copy()
        num_held = rest
    return mean_H


def _window(rate_hz: int, num_samples: int) -> tuple[int, int]:
    """Samples of one Fourier transform, and how many of them are the past."""
    tail = math.ceil(_TAIL_S * rate_hz)
    return 2 ** math.ceil(math.log2(min(max(_WINDOW, 4 * tail), num_samples + tail))), tail


@lru_cache(maxsize=4)
def _response(rate_hz: int, window: int) -> NDArray[np.complex128]:
    """Frequency response of the K weighting (F,), at the frequencies of `numpy.fft.rfft`."""
    delay_F = np.exp(-2j * np.pi * np.fft.rfftfreq(window))
    k = math.tan(math.pi * _SHELF_HZ / rate_hz)
    high, damping = 10 ** (_SHELF_DB / 20), k / _SHELF_Q
    middle = high**_SHELF_MIDDLE * damping
    shelf_F = _biquad(
        delay_F,
        (high + middle + k * k, 2 * (k * k - high), high - middle + k * k),
        (1 + damping + k * k, 2 * (k * k - 1), 1 - damping + k * k),
    )
    k = math.tan(math.pi * _PASS_HZ / rate_hz)
    damping = k / _PASS_Q
    norm = 1 + damping + k * k
    pass_F = _biquad(
        delay_F,
        (1.0, -2.0, 1.0),  # as in the standard, not divided by `norm`
        (1.0, 2 * (k * k - 1) / norm, (1 - damping + k * k) / norm),
    )
    return shelf_F * pass_F


def _biquad(
    delay_F: NDArray[np.complex128],
    b: tuple[float, float, float],
    a: tuple[float, float, float],
) -> NDArray[np.complex128]:
    response_F: NDArray[np.complex128]
    response_F = np.polyval(b[::-1], delay_F) / np.polyval(a[::-1], delay_F)
    return response_F


def _block_means(power_H: NDArray[np.float64], num_steps: int) -> NDArray[np.float64]:
    """Mean of every `num_steps` steps in a row (B,)."""
    mean_B: NDArray[np.float64]
    mean_B = np.lib.stride_tricks.sliding_window_view(power_H, num_steps).mean(axis=1)
    return mean_B


def _lufs(power: float) -> float | None:
    return _OFFSET_LU + 10 * math.log10(power) if power > 0 else None


def _power(lufs: float) -> float:
    return float(10 ** ((lufs - _OFFSET_LU) / 10))
