"""The only place where seconds, samples, video frames and latent frames meet.

In:   durations in seconds (from users and manifests) and rates (from a model card).
Out:  integer counts. Nothing else in the package multiplies a duration by a rate.

An off-by-one here does not crash: it shifts every later sound by a frame. Rounding is
half-up, never Python's half-to-even, so a boundary that falls on half a sample always
goes the same way. Frame i of a stream at rate r stands for the interval [i/r, (i+1)/r)
and is looked at in its middle, (i + 0.5)/r.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from omni2sound.errors import ConfigError, UserError

_RATE_RANGE_FPS = (20, 31)
"""Rates at which a network for 25 pictures a second is still given a file's own pictures."""


def _round_half_up(value: Fraction) -> int:
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeBase:
    """How one model divides time.

    Attributes:
        sample_rate_hz: Audio samples per second, one channel.
        hop_samples: Audio samples per latent frame.
        vision_fps: Frames per second that the semantic ("what") encoder sees.
        sync_fps: Frames per second that the temporal ("when") encoder sees.
    """

    sample_rate_hz: int = 16_000
    hop_samples: int = 640
    vision_fps: int = 8
    sync_fps: int = 25

    def __post_init__(self) -> None:
        for name in ("sample_rate_hz", "hop_samples", "vision_fps", "sync_fps"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")

    @property
    def latent_rate_hz(self) -> Fraction:
        """Latent frames per second, exact."""
        return Fraction(self.sample_rate_hz, self.hop_samples)

    def num_samples(self, duration_s: float | Fraction) -> int:
        """Samples in `duration_s` seconds, rounded half-up.

        Raises:
            UserError: If `duration_s` is negative.
        """
        return _round_half_up(_seconds(duration_s) * self.sample_rate_hz)

    def num_latent_frames(self, duration_s: float | Fraction) -> int:
        """The smallest L with ``L * hop_samples >= num_samples(duration_s)``.

        The last frame may be only partly filled; audio is cut to `num_samples` after the
        decoder.

        Raises:
            UserError: If `duration_s` is negative.
        """
        return -(-self.num_samples(duration_s) // self.hop_samples)

    def num_vision_frames(self, duration_s: float | Fraction) -> int:
        """Frames at `vision_fps` whose interval starts inside `duration_s`."""
        return -((-_seconds(duration_s) * self.vision_fps).__floor__())


def _seconds(duration_s: float | Fraction) -> Fraction:
    if not duration_s >= 0:  # also refuses NaN
        raise UserError(f"a time must be >= 0 seconds, got {duration_s}")
    return Fraction(duration_s)


def even_rate(file_fps: Fraction, fps: int) -> Fraction:
    """Rate near `fps` at which every picture of a file is taken equally often.

    At other rates some pictures are taken twice or left out: a thing that moves evenly stops or
    jumps there, as at an impact. It is the file's rate or a whole part of it; if none is near,
    `fps`. (Multiples were no better for files of 12 and 15 pictures a second.)
    """
    rate = file_fps / max(1, round(file_fps / fps))
    low, high = (Fraction(limit, 25) * fps for limit in _RATE_RANGE_FPS)
    return rate if low <= rate <= high else Fraction(fps)


def places_between(
    from_fps: Fraction, to_fps: Fraction | int, num_frames: int, num_given: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Places of frames among given ones at another rate: the ones before and after, and the part.

    Frame i lies at (i + 0.5) / fps; the ends are held.

    Args:
        from_fps: Given frames per second.
        to_fps: Frames per second of the result.
        num_frames: Frames of the result.
        num_given: Given frames, at least one.
    """
    place = (np.arange(num_frames) + 0.5) * float(from_fps / to_fps) - 0.5
    place = place.clip(0, num_given - 1)
    before = np.floor(place).astype(np.int64)
    return before, np.minimum(before + 1, num_given - 1), place - before


def indices_at(
    features_per_s: Fraction | int, latent_rate_hz: Fraction, num_frames: int
) -> list[int]:
    """Index of the feature that each latent frame looks up, in the middle of its interval."""
    rate = features_per_s / latent_rate_hz
    return [int((i + Fraction(1, 2)) * rate) for i in range(num_frames)]
