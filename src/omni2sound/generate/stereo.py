"""Stereo by place: a seen thing is heard where it is, a seen scene from all around.

In:   a mono sound, and what the video shows.
Out:  left and right (2, N), whose mean is the mono sound.

Left and right are `mid +- side`, so a mono player hears exactly what one channel gives. A thing on
the left or right gets 6 dB more on its side: mild, since the picture is small and the ear is
exact. Where several things sound at once, their places are averaged by prominence. What is
recognised in the whole picture (the sea, a forest) has no place: its side is the sound itself with
its phases stirred.

Shape suffixes: N samples, K samples of a filter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from scipy.signal import oaconvolve

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
    pan_N, width_N = _places(len(mono_N), sample_rate_hz, things)
    side_N = pan_N * mono_N
    if width_N.any():
        side_N = side_N + width_N * _stirred(mono_N, sample_rate_hz)
    return np.stack([mono_N - side_N, mono_N + side_N]).astype(np.float32)


def _places(num_samples: int, rate_hz: int, things: Sequence[SeenThing]) -> tuple[Sound, Sound]:
    """Pan and width of each sample, means over the things that sound then."""
    scenes = load_things().places
    sums = np.zeros((3, num_samples), np.float32)
    for thing in things:
        if not thing.sounding or thing.sound is None:
            continue
        span = slice(round(thing.start_s * rate_hz), round(thing.end_s * rate_hz))
        is_scene = thing.name in scenes
        sums[0, span] += thing.prominence
        sums[1, span] += 0 if is_scene else MOST_PAN * _SIDES[thing.place] * thing.prominence
        sums[2, span] += WIDTH * thing.prominence if is_scene else 0
    pan_N, width_N = sums[1:] / np.maximum(sums[0], 1e-6)
    glide = max(1, round(_GLIDE_S * rate_hz))
    return uniform_filter1d(pan_N, glide, mode="nearest"), uniform_filter1d(
        width_N, glide, mode="nearest"
    )


def _stirred(mono_N: Sound, rate_hz: int) -> Sound:
    """The sound with other phases and equal spectrum above the bass: 20 ms of fixed noise."""
    length = round(_STIR_S * rate_hz)
    time_K = np.arange(length) / length
    noise_K = np.random.default_rng(0).normal(size=length) * np.exp(-3 * time_K)
    spectrum = np.fft.rfft(noise_K, 2 * length)
    hz = np.fft.rfftfreq(2 * length, 1 / rate_hz)
    flat = spectrum / np.maximum(np.abs(spectrum), 1e-9) * np.clip(hz / _LEAST_SIDE_HZ, 0, 1) ** 2
    filter_K = np.fft.irfft(flat)
    stirred: Sound = oaconvolve(mono_N, filter_K)[: len(mono_N)].astype(np.float32)
    return stirred
