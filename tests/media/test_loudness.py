"""Levels: the limiter's laws for any sound, and a loudness that is reached or said to be missed."""

from __future__ import annotations

import math

import numpy as np
import pyloudnorm
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.errors import UserError
from omni2sound.media.loudness import (
    LIMITER_REACH_S,
    MAX_GAIN_DB,
    TRUE_PEAK_CEILING,
    level,
    limit_peaks,
    loudness_lufs,
    true_peak,
)
from omni2sound.media.samples import Audio

RATE = 16_000
REACH = 2 * round(LIMITER_REACH_S * RATE)
ROUNDING = 1e-6

spikes = st.dictionaries(st.integers(0, 5999), st.floats(-40, 40, width=32), max_size=6)
levels = st.floats(0, 0.5)


def sound(num_samples: int, seed: int, noise: float, spikes: dict[int, float]) -> Audio:
    generator = np.random.default_rng(seed)
    samples_CN = noise * generator.uniform(-1, 1, (1 + seed % 2, num_samples))
    for place, value in spikes.items():
        samples_CN[place % len(samples_CN), place % num_samples] = value
    return Audio(samples_CN=samples_CN.astype(np.float32), sample_rate_hz=RATE)


@settings(max_examples=60)
@given(
    num_samples=st.integers(1, 6000),
    seed=st.integers(0, 9),
    noise=st.floats(0, 5),
    spikes=spikes,
    ceiling=st.floats(0.1, 1),
)
def test_nothing_is_above_the_ceiling_nor_louder_than_it_was(
    num_samples: int, seed: int, noise: float, spikes: dict[int, float], ceiling: float
) -> None:
    audio = sound(num_samples, seed, noise, spikes)
    found_CN = limit_peaks(audio, ceiling=ceiling).samples_CN
    assert found_CN.shape == audio.samples_CN.shape
    assert np.abs(found_CN).max() <= ceiling + ROUNDING
    assert (np.abs(found_CN) <= np.abs(audio.samples_CN)).all()
    assert (found_CN * audio.samples_CN >= 0).all()


@given(seed=st.integers(0, 9), noise=st.floats(0, 1))
def test_what_stays_under_the_ceiling_stays_as_it_is(seed: int, noise: float) -> None:
    audio = sound(2000, seed, noise, {})
    assert limit_peaks(audio) is audio


@settings(max_examples=60)
@given(seed=st.integers(0, 9), noise=levels, spikes=spikes)
def test_far_from_a_peak_nothing_changes(seed: int, noise: float, spikes: dict[int, float]) -> None:
    audio = sound(6000, seed, noise, spikes)
    over_N = np.abs(audio.samples_CN).max(axis=0) > 1
    near_N = np.convolve(over_N, np.ones(2 * REACH + 1), mode="same") > 0.5
    found_CN = limit_peaks(audio).samples_CN
    np.testing.assert_array_equal(found_CN[:, ~near_N], audio.samples_CN[:, ~near_N])


@given(place=st.integers(0, 5999), value=st.floats(1.5, 40), noise=levels)
def test_a_strike_stays_where_it_was_and_at_the_ceiling(
    place: int, value: float, noise: float
) -> None:
    found_CN = limit_peaks(sound(6000, 0, noise, {place: value})).samples_CN
    assert np.argmax(np.abs(found_CN[0])) == place
    assert found_CN[0, place] == pytest.approx(1, abs=ROUNDING)


def test_a_low_tone_keeps_its_shape() -> None:
    """One gain for the whole of it: the limiter is no distortion."""
    tone_N = 3 * np.sin(2 * np.pi * 50 * np.arange(RATE) / RATE)
    audio = Audio(samples_CN=tone_N[None].astype(np.float32), sample_rate_hz=RATE)
    found_CN = limit_peaks(audio).samples_CN
    np.testing.assert_allclose(found_CN[:, REACH:-REACH], tone_N[None, REACH:-REACH] / 3, atol=1e-4)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 9),
    noise=st.floats(0.01, 5),
    target=st.floats(-35, -16),
    spike=st.floats(0, 35),
)
def test_a_target_is_reached_under_its_ceiling(
    seed: int, noise: float, target: float, spike: float
) -> None:
    found, done = level(sound(2 * RATE, seed, noise, {4000: spike}), target_lufs=target)
    assert done.target_missed == ""
    assert loudness_lufs(found) == pytest.approx(target, abs=0.5)
    assert done.lufs == pytest.approx(target, abs=0.5)
    assert np.abs(found.samples_CN).max() <= TRUE_PEAK_CEILING + ROUNDING
    assert 20 * math.log10(true_peak(found) / TRUE_PEAK_CEILING) < 0.3


@pytest.mark.parametrize("num_samples", [0, 100, 2 * RATE])
def test_silence_stays_silent(num_samples: int) -> None:
    audio = Audio(samples_CN=np.zeros((1, num_samples), np.float32), sample_rate_hz=RATE)
    found, done = level(audio, target_lufs=-16)
    assert not found.samples_CN.any()
    assert "silent" in done.target_missed


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 32_000, 44_100, 48_000])
def test_loudness_is_that_of_a_meter_at_48_khz(rate_hz: int) -> None:
    """BS.1770 gives its filters for 48 kHz; the tolerance of EBU Tech 3341 is 0.1 LU."""
    noise_N = 0.1 * np.random.default_rng(0).standard_normal(3 * rate_hz)
    at_48_khz_N = soxr.resample(noise_N, rate_hz, 48_000)
    expected = pyloudnorm.Meter(48_000).integrated_loudness(at_48_khz_N)
    audio = Audio(samples_CN=noise_N.astype(np.float32)[None], sample_rate_hz=rate_hz)
    assert loudness_lufs(audio) == pytest.approx(expected, abs=0.01)


def test_what_is_nearly_silent_does_not_become_loud() -> None:
    audio = sound(2 * RATE, 0, 1e-4, {})  # about -85 dB: below the gate of the standard
    found, done = level(audio, target_lufs=-16)
    assert found is audio
    quiet, missed = level(sound(2 * RATE, 0, 1.5e-3, {}), target_lufs=-16)
    assert missed.gain_db == MAX_GAIN_DB
    assert "too quiet" in missed.target_missed
    assert np.abs(quiet.samples_CN).max() < 0.2
    assert done.target_missed


def test_a_true_peak_lies_between_samples() -> None:
    """A quarter of the rate, sampled half way up on both sides of its crests."""
    tone_N = np.sin(np.pi / 2 * np.arange(RATE) + np.pi / 4)
    audio = Audio(samples_CN=tone_N[None].astype(np.float32), sample_rate_hz=RATE)
    assert np.abs(audio.samples_CN).max() == pytest.approx(0.707, abs=0.001)
    assert true_peak(audio) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("target", [0, -60, math.nan, math.inf])
def test_a_target_that_no_sound_should_have_is_refused(target: float) -> None:
    with pytest.raises(UserError, match="loudness_lufs: expected"):
        level(sound(RATE, 0, 0.1, {}), target_lufs=target)
