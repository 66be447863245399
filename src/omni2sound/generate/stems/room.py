"""A small room: impulse responses made in code, and where a sound stands between left and right.

In:   a sound, a `Room`, a pan.
Out:  two channels.

The response is fixed for a rate and a reverberation time, so that stems of one mix stand in one
room. A few reflections come from the walls of a box of that time; behind them noise dies away by
60 dB in that time, twice as fast above 4 kHz, as air and cloth take the treble.

Shape suffixes: C channels, N samples, K samples of a response.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from omni2sound.generate.stems.description import Room
from omni2sound.media.samples import convolve

Samples = NDArray[np.float32]

_SEED = 0
_NUM_REFLECTIONS = 6
_FIRST_S = 0.003
_BUILD_UP_S = 0.015
_TREBLE_HZ = 4000
_REFLECTED = 0.5
"""Share of the power in the first reflections."""


def in_room(samples_CN: Samples, sample_rate_hz: int, room: Room) -> Samples:
    """Add a room to a sound (2, N); what rings on after its end is cut.

    Args:
        samples_CN: Left and right.
        sample_rate_hz: Their rate.
        room: The room.
    """
    response_CK = impulse_response(room.seconds, sample_rate_hz)
    gain = 10 ** (room.wet_db / 20)
    wet_CN = convolve(samples_CN, response_CK)
    made: Samples = (samples_CN + gain * wet_CN).astype(np.float32)
    return made


@lru_cache(maxsize=8)
def impulse_response(seconds: float, sample_rate_hz: int) -> Samples:
    """Response (2, K) of a room without the direct sound; the energy of each channel is 1.

    Args:
        seconds: Time in which it dies away by 60 dB.
        sample_rate_hz: Its rate.
    """
    length = max(2, math.ceil(seconds * sample_rate_hz))
    rng = np.random.default_rng(_SEED)
    time_K = np.arange(length) / sample_rate_hz
    noise_CK = rng.normal(size=(2, length))
    spectrum = np.fft.rfft(noise_CK)
    is_treble = np.fft.rfftfreq(length, 1 / sample_rate_hz) > _TREBLE_HZ
    treble_CK = np.fft.irfft(spectrum * is_treble, length)
    decay_K = 10 ** (-3 * time_K / seconds)
    late_CK = (noise_CK - treble_CK) * decay_K + treble_CK * decay_K**2
    late_CK *= np.clip((time_K - _FIRST_S) / _BUILD_UP_S, 0, 1)
    early_CK = np.zeros((2, length))
    last_s = min(_FIRST_S + 0.08 * seconds, 0.9 * seconds)
    for channel in range(2):
        at_s = np.sort(rng.uniform(_FIRST_S, max(last_s, 2 * _FIRST_S), _NUM_REFLECTIONS))
        at = np.minimum((at_s * sample_rate_hz).astype(int), length - 1)
        signs = rng.choice([-1.0, 1.0], _NUM_REFLECTIONS)
        early_CK[channel, at] = signs * decay_K[at] / (1 + np.arange(_NUM_REFLECTIONS))
    both_CK = np.sqrt(_REFLECTED) * _unit(early_CK) + np.sqrt(1 - _REFLECTED) * _unit(late_CK)
    return _unit(both_CK).astype(np.float32)


def _unit(x_CK: NDArray[np.float64]) -> NDArray[np.float64]:
    energy_C1 = np.square(x_CK).sum(axis=1, keepdims=True)
    scaled_CK: NDArray[np.float64] = x_CK / np.sqrt(np.maximum(energy_C1, 1e-12))
    return scaled_CK


def panned(samples_CN: Samples, pan: float) -> Samples:
    """Move a sound (2, N) between left and right, at constant power of equal channels.

    Args:
        samples_CN: Left and right.
        pan: -1 (left) to 1 (right); 0 leaves every sample as it is.
    """
    if pan == 0:
        return samples_CN
    angle = (pan + 1) * math.pi / 4
    gains_C1 = np.array([[math.cos(angle)], [math.sin(angle)]], np.float32) * math.sqrt(2)
    made: Samples = (samples_CN * gains_C1).astype(np.float32)
    return made
