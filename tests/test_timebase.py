"""Laws of time."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.errors import ConfigError, UserError
from omni2sound.timebase import TimeBase

TIME = TimeBase()
SECONDS = st.floats(0, 3600, allow_nan=False)


def test_ten_seconds_of_the_default_model() -> None:
    assert TIME.latent_rate_hz == 25
    assert TIME.num_samples(10.0) == 160_000
    assert TIME.num_latent_frames(10.0) == 250
    assert TIME.num_vision_frames(10.0) == 80


@given(SECONDS)
def test_latent_frames_cover_the_samples_and_not_one_more(seconds: float) -> None:
    spare = TIME.num_latent_frames(seconds) * TIME.hop_samples - TIME.num_samples(seconds)
    assert 0 <= spare < TIME.hop_samples


@given(SECONDS, SECONDS)
def test_longer_never_needs_less(a: float, b: float) -> None:
    shorter, longer = sorted((a, b))
    for count in (TIME.num_samples, TIME.num_latent_frames, TIME.num_vision_frames):
        assert count(shorter) <= count(longer)


@given(st.integers(0, 10**6))
def test_half_a_sample_always_rounds_up(samples: int) -> None:
    assert TIME.num_samples(Fraction(2 * samples + 1, 32_000)) == samples + 1


@pytest.mark.parametrize("bad", [-0.1, float("nan")])
def test_impossible_times_are_refused(bad: float) -> None:
    with pytest.raises(UserError, match="must be >= 0 seconds"):
        TIME.num_samples(bad)


def test_rates_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="hop_samples must be positive, got 0"):
        TimeBase(hop_samples=0)
