"""Sound in memory: `Audio`, resampling, cutting and padding.

In:   float samples.
Out:  an `Audio` at another rate or of another length.

Lengths follow from exact fractions of seconds, rounded half-up; never from what a
resampler happens to return.

Shape suffixes: C channels, N samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol

import numpy as np
import soxr
from numpy.typing import NDArray

from omni2sound.errors import ShapeError
from omni2sound.media.layouts import ASSUMED, channel_names

MAX_SAMPLE_RATE_HZ = 768_000


class Sound(Protocol):
    """A sound that can be read in blocks: in memory, or a `media.long_sound.LongSound`."""

    @property
    def num_samples(self) -> int:
        """Samples of each channel."""

    @property
    def num_channels(self) -> int:
        """Number of channels C."""

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate."""

    @property
    def layout(self) -> str | None:
        """What the channels are; None: not stated."""

    @property
    def assumed_layout(self) -> str | None:
        """The layout, or where none is stated the usual one of as many channels (up to 8)."""

    @property
    def duration_s(self) -> Fraction:
        """Length, exact."""

    def read(self) -> Iterator[NDArray[np.float32]]:
        """Yield the samples in blocks (C, N), from the beginning each time."""


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
        return Fraction(self.num_samples, self.sample_rate_hz)

    @property
    def num_samples(self) -> int:
        """Samples of each channel."""
        return int(self.samples_CN.shape[1])

    @property
    def num_channels(self) -> int:
        """Number of channels C."""
        return int(self.samples_CN.shape[0])

    @property
    def assumed_layout(self) -> str | None:
        """The layout, or where none is stated the usual one of as many channels (up to 8)."""
        return self.layout or ASSUMED.get(self.num_channels)

    def read(self) -> Iterator[NDArray[np.float32]]:
        """Yield all samples (C, N) as one block."""
        yield self.samples_CN


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


def as_stereo(audio: Audio) -> Audio:
    """Put one channel on both sides; more than one stay."""
    if audio.num_channels > 1:
        return audio
    return replace(audio, samples_CN=np.repeat(audio.samples_CN, 2, axis=0), layout=None)


def fit_length(audio: Audio, num_samples: int) -> Audio:
    """Cut, or pad with silence, at the end."""
    samples_CN = audio.samples_CN[:, :num_samples]
    missing = num_samples - samples_CN.shape[1]
    if missing:
        samples_CN = np.pad(samples_CN, ((0, 0), (0, missing)))
    return replace(audio, samples_CN=samples_CN)


def round_half_up(value: Fraction) -> int:
    """The package's one rounding rule (`timebase`), for counts of samples and ticks."""
    return math.floor(value + Fraction(1, 2))


def convolve(
    samples_CN: NDArray[np.floating], filter_CK: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Filter sounds, block by block by products of spectra; as long as the sounds.

    As `scipy.signal.oaconvolve`, whose import takes longer than what is done with it here.

    Args:
        samples_CN: Channels, or one sound (N,).
        filter_CK: A filter for each of them, or for all.
    """
    taps, num_samples = filter_CK.shape[-1], samples_CN.shape[-1]
    size = 1 << (4 * taps).bit_length()
    spectrum = np.fft.rfft(filter_CK, size)
    shape = np.broadcast_shapes(samples_CN.shape[:-1], filter_CK.shape[:-1])
    made = np.zeros((*shape, num_samples + size))
    for begin in range(0, num_samples, step := size - taps + 1):
        block = np.fft.rfft(samples_CN[..., begin : begin + step], size)
        made[..., begin : begin + size] += np.fft.irfft(block * spectrum, size)
    return made[..., :num_samples]


def running_mean(x_N: NDArray[np.floating], size: int) -> NDArray[np.float64]:
    """Mean over `size` values around each one, the earlier half first; ends are held."""
    before = size // 2
    padded = np.pad(x_N.astype(np.float64), (before, size - before - 1), mode="edge")
    sums = np.concatenate([[0.0], np.cumsum(padded)])
    mean_N: NDArray[np.float64] = (sums[size:] - sums[:-size]) / size
    return mean_N
