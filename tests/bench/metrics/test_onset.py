"""The benchmark's definitions on sounds whose answers are known by construction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from omni2sound.bench.metrics.onset import (
    is_impulsive,
    is_silent,
    onset_hit,
    strongest_onset_s,
)
from omni2sound.errors import ShapeError, UserError

RATES = st.sampled_from([8_000, 16_000, 22_050, 44_100, 48_000])
TIMES = st.floats(0.1, 1.8)


def sound_at(
    kind: str, time_s: float, rate: int, *, duration_s: float = 2.0, gain: float = 0.5
) -> tuple[NDArray[np.float64], float]:
    """A sound and the exact time of its first sample that is not zero."""
    rng = np.random.default_rng(0)
    start = round(time_s * rate)
    since = np.arange(round(duration_s * rate)) - start
    t = since / rate
    shapes = {
        "click": since == 0,
        "tone": np.sin(2 * np.pi * 440 * t),
        "noise": rng.standard_normal(len(t)) / 3,
        "knock": np.exp(-np.maximum(t, 0) * 20) * rng.standard_normal(len(t)) / 2,
        "thud": np.exp(-np.maximum(t, 0) * 10) * np.sin(2 * np.pi * 80 * t),
    }
    return gain * np.where(since >= 0, shapes[kind], 0), start / rate


@given(st.sampled_from(["click", "tone", "noise", "knock", "thud"]), TIMES, RATES)
def test_one_sound_is_found_to_5_ms(kind: str, time_s: float, rate: int) -> None:
    waveform, truth_s = sound_at(kind, time_s, rate)
    assert strongest_onset_s(waveform, rate) == pytest.approx(truth_s, abs=0.005)


@settings(max_examples=30)
@given(TIMES, st.floats(0.0, 0.02), st.integers(0, 9))
def test_steady_noise_moves_the_answer_by_10_ms_at_most(
    time_s: float, level: float, seed: int
) -> None:
    waveform, truth_s = sound_at("knock", time_s, 16_000)
    waveform = waveform + level * np.random.default_rng(seed).standard_normal(len(waveform))
    assert strongest_onset_s(waveform, 16_000) == pytest.approx(truth_s, abs=0.010)


@given(st.floats(-0.09, 0.09))
def test_a_shift_of_the_sound_is_a_shift_of_the_answer(shift_s: float) -> None:
    here, truth_s = sound_at("click", 1.0, 16_000)
    there, moved_s = sound_at("click", 1.0 + shift_s, 16_000)
    first, second = strongest_onset_s(here, 16_000), strongest_onset_s(there, 16_000)
    assert first is not None
    assert second is not None
    assert second - first == pytest.approx(moved_s - truth_s, abs=0.005)


@given(st.integers(0, 9), st.floats(0.03, 0.9))
def test_the_strongest_of_a_click_train_wins_at_any_level(loudest: int, level: float) -> None:
    times_s = [0.15 + 0.17 * i for i in range(10)]
    gains = [1.0 if i == loudest else 0.6 for i in range(10)]
    waveform = sum(
        sound_at("click", t, 16_000, gain=level * g)[0] for t, g in zip(times_s, gains, strict=True)
    )
    assert strongest_onset_s(waveform, 16_000) == pytest.approx(times_s[loudest], abs=0.005)


def test_a_sound_that_stops_is_no_onset() -> None:
    loud_first, _ = sound_at("noise", 0.0, 16_000, gain=0.5)
    loud_first[16_000:] *= 0.01
    quiet, truth_s = sound_at("tone", 1.5, 16_000, gain=0.1)
    assert strongest_onset_s(loud_first + quiet, 16_000) == pytest.approx(truth_s, abs=0.010)


def test_what_sounds_from_the_first_instant_has_not_begun_there() -> None:
    hum = 0.3 * np.sin(2 * np.pi * 200 * np.arange(32_000) / 16_000)
    knock, truth_s = sound_at("knock", 1.2, 16_000, gain=0.1)
    assert strongest_onset_s(hum + knock, 16_000) == pytest.approx(truth_s, abs=0.010)
    assert strongest_onset_s(np.full(16_000, 0.5), 16_000) is None  # direct current never rises


@pytest.mark.parametrize("level", [0.0, 5e-4])
def test_silence_has_no_onset(level: float) -> None:
    waveform = level * np.random.default_rng(0).standard_normal(16_000)
    assert is_silent(waveform, 16_000)
    assert strongest_onset_s(waveform, 16_000) is None


def test_one_audible_instant_is_not_silence() -> None:
    waveform = np.zeros(16_000)
    waveform[8000:8320] = 2e-3
    assert not is_silent(waveform, 16_000)


@pytest.mark.parametrize("function", [is_silent, strongest_onset_s])
def test_what_is_no_sound_is_refused(function: object) -> None:
    assert callable(function)
    with pytest.raises(ShapeError, match="mono"):
        function(np.zeros((2, 100)), 16_000)
    with pytest.raises(ShapeError, match="N >= 1"):
        function(np.zeros(0), 16_000)
    with pytest.raises(UserError, match="NaN"):
        function(np.array([np.nan]), 16_000)


def test_a_hit_is_within_the_tolerance_on_both_sides() -> None:
    assert onset_hit(1.1, 1.0)
    assert onset_hit(0.9, 1.0)
    assert not onset_hit(1.101, 1.0)
    assert not onset_hit(None, 1.0)
    assert not onset_hit(1.06, 1.0, tolerance_s=0.05)


@pytest.mark.parametrize(
    ("level", "impulsive"),
    [
        ([1, 0.8, 0.6, 0.4, 0.2, 0.1], True),  # a strike, at 20 levels a second
        ([0.2, 0.4, 0.6, 0.8, 1, 1], False),  # a swell
        ([1, 1, 1, 1, 1, 1], True),  # a steady tone that begins at once
        ([0.4, 0.3, 0.2, 0.1, 0.1, 0.1, 1, 0.5], False),  # a faint prelude to something louder
        ([0.6, 0.3, 0.2, 0.1, 0.1, 0.1, 1, 0.5], True),  # two hits, the second one louder
        ([0, 0, 0, 0, 0, 0], False),
        ([1], True),
    ],
)
def test_impulsive_is_what_begins_at_once(level: list[float], impulsive: bool) -> None:
    assert is_impulsive(level, 20) is impulsive
    assert is_impulsive([7 * x for x in level], 20) is impulsive
