"""Stereo by place: a seen thing is heard where it is, a seen scene from all around.

In:   a mono sound, and what the video shows.
Out:  left and right (2, N), whose mean is the mono sound.

Left and right are `mid +- side`, so a mono player hears exactly what one channel gives. A thing on
the left or right gets 6 dB more on its side: mild, since the picture is small and the ear is
exact. Where several things sound at once, their places are averaged by prominence. What is
recognised in the whole picture (the sea, a forest) has no place, nor has a bed of ambience: its
side is the sound itself with its phases stirred.

Shape suffixes: N samples, K samples of a filter, P places, 100 a second.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from omni2sound.media.samples import convolve, running_mean
from omni2sound.recognise.observe import SeenThing
from omni2sound.recognise.things import load_things

Sound = NDArray[np.float32]

MOST_PAN = 1 / 3
"""Side over mid of a thing at the left or right: 6 dB between the channels."""
WIDTH = 0.6
"""Side over mid of a scene: the channels' correlation is .47."""
_SIDES = {"left": -1.0, "centre": 0.0, "right": 1.0}
_GLIDE_S = 0.5
"""Time in which a place gives way to the next."""
_PLACES_PER_S = 100
_BLOCK_S = 20
_STIR_S = 0.02
_LEAST_SIDE_HZ = 200
"""Bass stays in the middle: there the ear has no direction."""


def to_stereo(mono_N: Sound, sample_rate_hz: int, things: Sequence[SeenThing]) -> Sound:
    """Place a sound by what is seen to sound.

    Args:
        mono_N: The sound.
        sample_rate_hz: Its rate.
        things: What was recognised; those that don't sound have no say.

    Returns:
        Left and right (2, N); twice the same where nothing says otherwise.
    """
    pan_P, width_P = _places(len(mono_N) / sample_rate_hz, things)
    stirred_N = _stirred(mono_N, sample_rate_hz) if width_P.any() else None
    stereo_CN = np.stack([mono_N, mono_N])
    for begin in range(0, len(mono_N), _BLOCK_S * sample_rate_hz):  # an hour is large
        block = slice(begin, begin + _BLOCK_S * sample_rate_hz)
        at_N = (np.arange(begin, min(block.stop, len(mono_N))) / sample_rate_hz) * _PLACES_PER_S
        side_N = _between(pan_P, at_N) * mono_N[block]
        if stirred_N is not None:
            side_N = side_N + _between(width_P, at_N) * stirred_N[block]
        stereo_CN[0, block] -= side_N
        stereo_CN[1, block] += side_N
    return stereo_CN


def widened(mono_N: Sound, sample_rate_hz: int) -> Sound:
    """A bed of ambience from all around: left and right (2, N)."""
    side_N = np.float32(WIDTH) * _stirred(mono_N, sample_rate_hz)
    return np.stack([mono_N - side_N, mono_N + side_N])


def _places(duration_s: float, things: Sequence[SeenThing]) -> tuple[Sound, Sound]:
    """Pan and width, means over the things that sound then."""
    scenes = load_things().places
    last = int(duration_s * _PLACES_PER_S) + 1
    sums = np.zeros((3, last + 1), np.float32)
    for thing in things:
        if not thing.sounding or thing.sound is None:
            continue
        is_scene = thing.name in scenes
        for start_s, end_s in thing.spans_s:
            end = last if end_s >= duration_s else round(end_s * _PLACES_PER_S)
            span = slice(round(start_s * _PLACES_PER_S), end + 1)
            sums[0, span] += thing.prominence
            sums[1, span] += 0 if is_scene else MOST_PAN * _SIDES[thing.place] * thing.prominence
            sums[2, span] += WIDTH * thing.prominence if is_scene else 0
    pan_P, width_P = sums[1:] / np.maximum(sums[0], 1e-6)
    glide = round(_GLIDE_S * _PLACES_PER_S)
    pan_P, width_P = (running_mean(x, glide).astype(np.float32) for x in (pan_P, width_P))
    return pan_P, width_P


def _between(value_P: Sound, at_N: NDArray[np.float64]) -> Sound:
    value_N: Sound = np.interp(at_N, np.arange(len(value_P)), value_P).astype(np.float32)
    return value_N


def _stirred(mono_N: Sound, rate_hz: int) -> Sound:
    """The sound with other phases and equal spectrum above the bass: 20 ms of fixed noise."""
    length = round(_STIR_S * rate_hz)
    time_K = np.arange(length) / length
    noise_K = np.random.default_rng(0).normal(size=length) * np.exp(-3 * time_K)
    spectrum = np.fft.rfft(noise_K, 2 * length)
    hz = np.fft.rfftfreq(2 * length, 1 / rate_hz)
    flat = spectrum / np.maximum(np.abs(spectrum), 1e-9) * np.clip(hz / _LEAST_SIDE_HZ, 0, 1) ** 2
    filter_K = np.fft.irfft(flat)
    return convolve(mono_N, filter_K).astype(np.float32)
