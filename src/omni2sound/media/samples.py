"""Sound in memory: `Audio`, resampling, cutting and padding, mixing by channel layout.

In:   float samples.
Out:  an `Audio` at another rate or of another length.

Lengths follow from exact fractions of seconds, rounded half-up; never from what a
resampler happens to return.

Shape suffixes: C channels, N samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import soxr
from numpy.typing import NDArray

from omni2sound.errors import ShapeError, UserError
from omni2sound.media.layouts import ASSUMED, channel_names, mixed_layout, place

MAX_SAMPLE_RATE_HZ = 768_000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Audio:
    """Sound in memory.

    Raises:
        ShapeError: `samples_CN` is not a float32 array of at least one channel, the rate is
            not positive, or the layout is unknown or has another number of channels.
    """

    samples_CN: NDArray[np.float32]
    """Channels by samples; full scale is 1."""
    sample_rate_hz: int
    layout: str | None = None
    """What the channels are, by FFmpeg's names ("stereo", "3.0", "5.1(side)"); None: not stated."""

    def __post_init__(self) -> None:
        shape, dtype = np.shape(self.samples_CN), getattr(self.samples_CN, "dtype", None)
        if len(shape) != 2 or shape[0] < 1 or dtype != np.float32:
            raise ShapeError(
                f"samples_CN: expected (channels, samples) float32, got {shape} {dtype}"
            )
        if not 0 < self.sample_rate_hz <= MAX_SAMPLE_RATE_HZ:
            raise ShapeError(
                f"sample_rate_hz: expected 1 to {MAX_SAMPLE_RATE_HZ}, got {self.sample_rate_hz}"
            )
        if self.layout is not None:
            try:
                num_named = len(channel_names(self.layout))
            except ValueError:
                num_named = 0
            if num_named != shape[0]:
                raise ShapeError(f"layout: {self.layout} does not name {shape[0]} channels")

    @property
    def duration_s(self) -> Fraction:
        """Length, exact."""
        return Fraction(self.samples_CN.shape[1], self.sample_rate_hz)

    @property
    def num_channels(self) -> int:
        """Number of channels C."""
        return int(self.samples_CN.shape[0])

    @property
    def assumed_layout(self) -> str | None:
        """The layout, or where none is stated the usual one of as many channels (up to 8)."""
        return self.layout or ASSUMED.get(self.num_channels)


def resample(audio: Audio, sample_rate_hz: int) -> Audio:
    """Change the sample rate (soxr, HQ); the length is rounded half-up to whole samples.

    Raises:
        ShapeError: The rate is not positive.
    """
    if sample_rate_hz == audio.sample_rate_hz:
        return audio
    num_samples = round_half_up(audio.duration_s * sample_rate_hz)
    resampled = replace(
        audio,
        samples_CN=np.ascontiguousarray(
            soxr.resample(
                np.ascontiguousarray(audio.samples_CN.T),
                audio.sample_rate_hz,
                sample_rate_hz,
                quality="HQ",
            ).T
        )
        if num_samples
        else np.zeros((audio.num_channels, 0), dtype=np.float32),
        sample_rate_hz=sample_rate_hz,
    )
    return fit_length(resampled, num_samples)


def fit_length(audio: Audio, num_samples: int) -> Audio:
    """Cut, or pad with silence, at the end."""
    samples_CN = audio.samples_CN[:, :num_samples]
    missing = num_samples - samples_CN.shape[1]
    if missing:
        samples_CN = np.pad(samples_CN, ((0, 0), (0, missing)))
    return replace(audio, samples_CN=samples_CN)


def mix(*sounds: Audio) -> Audio:
    """Add sounds, each at its own level, in a layout that has the channels of all.

    One channel is heard from left and right where another sound has more. The rate is the highest
    of all, the length the longest.

    Raises:
        UserError: No layout has the channels of all.
    """
    rate = max(sound.sample_rate_hz for sound in sounds)
    sounds = tuple(resample(sound, rate) for sound in sounds)
    layouts = [sound.assumed_layout for sound in sounds]
    layout = mixed_layout(*(known or "" for known in layouts)) if all(layouts) else None
    if layout is None:
        raise UserError(
            f"channels of {' and '.join(known or 'unknown layout' for known in layouts)} can't be "
            "mixed; mix one of them down to stereo first"
        )
    num_samples = max(sound.samples_CN.shape[1] for sound in sounds)
    mixed_CN = np.zeros((len(channel_names(layout)), num_samples), dtype=np.float32)
    for sound, known in zip(sounds, layouts, strict=True):
        length = sound.samples_CN.shape[1]
        if sound.num_channels == 1:  # left and right come first in every layout
            mixed_CN[:2, :length] += sound.samples_CN
        else:
            mixed_CN[list(place(known or "", layout)), :length] += sound.samples_CN
    return Audio(samples_CN=mixed_CN, sample_rate_hz=rate, layout=layout)


def to_layout(audio: Audio, layout: str) -> Audio:
    """Store a sound in a layout that has all of its channels; the others are silent.

    Args:
        audio: The sound.
        layout: From `layouts.layout_held`.
    """
    if audio.layout == layout:
        return audio
    samples_CN = audio.samples_CN
    names = channel_names(layout)
    if len(names) > audio.num_channels:
        samples_CN = np.zeros((len(names), samples_CN.shape[1]), dtype=np.float32)
        samples_CN[list(place(audio.assumed_layout or "", layout))] = audio.samples_CN
    return replace(audio, samples_CN=samples_CN, layout=layout)


def round_half_up(value: Fraction) -> int:
    """The package's one rounding rule (`timebase`), for counts of samples and ticks."""
    return math.floor(value + Fraction(1, 2))
