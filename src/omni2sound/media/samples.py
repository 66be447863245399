"""Sound in memory: `Audio`, resampling, cutting and padding.

In:   float samples.
Out:  an `Audio` at another rate or of another length.

Lengths follow from exact fractions of seconds, rounded half-up; never from what a
resampler happens to return.

Shape suffixes: C channels, N samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import soxr
from numpy.typing import NDArray

from omni2sound.errors import ShapeError

MAX_SAMPLE_RATE_HZ = 768_000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Audio:
    """Sound in memory.

    Raises:
        ShapeError: `samples_CN` is not a float32 array of at least one channel, or the
            rate is not positive.
    """

    samples_CN: NDArray[np.float32]
    """Channels by samples; full scale is 1."""
    sample_rate_hz: int

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

    @property
    def duration_s(self) -> Fraction:
        """Length, exact."""
        return Fraction(self.samples_CN.shape[1], self.sample_rate_hz)

    @property
    def num_channels(self) -> int:
        """Number of channels C."""
        return int(self.samples_CN.shape[0])


def resample(audio: Audio, sample_rate_hz: int) -> Audio:
    """Change the sample rate (soxr, HQ); the length is rounded half-up to whole samples.

    Raises:
        ShapeError: The rate is not positive.
    """
    if sample_rate_hz == audio.sample_rate_hz:
        return audio
    num_samples = round_half_up(audio.duration_s * sample_rate_hz)
    resampled = Audio(
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
    return Audio(samples_CN=samples_CN, sample_rate_hz=audio.sample_rate_hz)


def round_half_up(value: Fraction) -> int:
    """The package's one rounding rule (`timebase`), for counts of samples and ticks."""
    return math.floor(value + Fraction(1, 2))
