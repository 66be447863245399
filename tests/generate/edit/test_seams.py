"""Seams: what is given survives, what is alike does not change, power is kept."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from omni2sound.errors import UserError
from omni2sound.generate.edit.ranges import Range, joined_ranges, parse_range, windows
from omni2sound.generate.edit.seams import EDGE_S, REACH_S, insert, level_gain

RATE_HZ = 8000
FRAMES_PER_S = Fraction(25)


def noise(seed: int, seconds: float = 4.0, channels: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.normal(size=(channels, round(seconds * RATE_HZ)))).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    start_s=st.floats(0, 3.8),
    length_s=st.floats(0.05, 4),
    channels=st.sampled_from([1, 2]),
)
@example(start_s=0.0001, length_s=1.0, channels=1)
@example(start_s=0.0, length_s=3.9999, channels=1)
def test_outside_of_the_edges_every_sample_is_the_given_one(
    start_s: float, length_s: float, channels: int
) -> None:
    old, new = noise(0, channels=channels), noise(1, channels=channels)
    start, end = (round(t * RATE_HZ) for t in (start_s, min(4.0, start_s + length_s)))
    mixed, _ = insert(old, new, start=start, end=end, sample_rate_hz=RATE_HZ)
    edge = round(EDGE_S * RATE_HZ)
    before, after = max(0, start - edge // 2), min(old.shape[1], end + edge // 2)
    np.testing.assert_array_equal(mixed[:, :before], old[:, :before])
    np.testing.assert_array_equal(mixed[:, after:], old[:, after:])
    reach = min(round(REACH_S * RATE_HZ), (end - start) // 3) + 1
    inner = slice(start + reach if start else 0, end - reach if end < old.shape[1] else end)
    np.testing.assert_array_equal(mixed[:, inner], new[:, inner])


def test_two_equal_sounds_stay_what_they_are() -> None:
    old = noise(0)
    mixed, _ = insert(old, old.copy(), start=8000, end=16_000, sample_rate_hz=RATE_HZ)
    assert np.abs(mixed - old).max() < 1e-6


def test_strange_sounds_keep_their_power_over_the_seam() -> None:
    powers = []
    for seed in range(200):
        old, new = noise(2 * seed, 1.0, 1), noise(2 * seed + 1, 1.0, 1)
        mixed, _ = insert(old, new, start=4000, end=8000, sample_rate_hz=RATE_HZ)
        powers.append(np.square(mixed[0, 3840:4160]).mean())
    assert np.mean(powers) == pytest.approx(0.01, rel=0.05)


def test_a_seam_lies_where_both_are_alike() -> None:
    # A sine whose copy is late by 3 ms: somewhere within 20 ms both are in phase.
    time_s = np.arange(2 * RATE_HZ) / RATE_HZ
    old = np.sin(2 * np.pi * 110 * time_s).astype(np.float32)[None]
    new = np.sin(2 * np.pi * 117 * time_s).astype(np.float32)[None]
    mixed, _ = insert(old, new, start=8000, end=16_000, sample_rate_hz=RATE_HZ)
    assert np.abs(np.diff(mixed[0])).max() < 1.3 * np.abs(np.diff(old[0])).max()


@pytest.mark.parametrize("louder", ["given", "new"])
def test_a_sound_that_breaks_off_dies_away_evenly(louder: str) -> None:
    loud, quiet = noise(0, 2.0, 1), noise(1, 2.0, 1) * np.float32(0.003)
    old, new = (loud, quiet) if louder == "given" else (quiet, loud)
    mixed, _ = insert(old, new, start=6000, end=10_000, sample_rate_hz=RATE_HZ)
    np.testing.assert_array_equal(mixed[:, : 6000 - 320], old[:, : 6000 - 320])
    np.testing.assert_array_equal(mixed[:, 10_000 + 320 :], old[:, 10_000 + 320 :])
    level_db = 10 * np.log10(np.square(mixed[0]).reshape(-1, 160).mean(axis=1))
    assert np.abs(np.diff(level_db)).max() < 14  # of 50
    np.testing.assert_array_equal(mixed[:, 8000:8100], new[:, 8000:8100])


def test_the_level_is_that_of_the_context() -> None:
    context = noise(0)[0]
    assert level_gain(context, context / 1.5) == pytest.approx(1.5)
    assert level_gain(context, context * 10) == pytest.approx(10 ** (-6 / 20))
    assert level_gain(context * 0, context) == 1.0
    assert level_gain(context[:0], context[:0]) == 1.0


def test_ranges_are_read_joined_and_refused() -> None:
    spans = [parse_range(t) for t in ("1:02-1:04", "3.2-5", "0:04.5-6")]
    assert joined_ranges(spans, 70) == [Range(start_s=3.2, end_s=6), Range(start_s=62, end_s=64)]
    going_on = [Range(start_s=70, end_s=75), Range(start_s=75, end_s=76)]
    assert joined_ranges(going_on, 70) == [Range(start_s=70, end_s=76)]
    with pytest.raises(UserError, match=r"ranges: 71-72 begins after the sound's end at 70\.000 s"):
        joined_ranges([Range(start_s=71, end_s=72)], 70)
    for wrong in ("3", "5-3.2", "a-b", "1-1", "-1-2"):
        with pytest.raises(UserError, match="ranges"):
            parse_range(wrong)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 60), st.floats(0.05, 5)), min_size=1, max_size=6))
def test_windows_hold_their_ranges_and_do_not_touch(spans: list[tuple[float, float]]) -> None:
    ranges = joined_ranges(
        [Range(start_s=s, end_s=min(s + length, 60.0)) for s, length in spans if s < 59.9]
        or [Range(start_s=0, end_s=1)],
        60.0,
    )
    made = windows(ranges, total_s=60.0, frames_per_s=FRAMES_PER_S)
    assert [span for window in made for span in window.ranges] == ranges
    for before, after in pairwise(made):
        assert before.first + before.num_frames < after.first
    for window in made:
        new = window.new_frames(FRAMES_PER_S)
        for number, is_new in enumerate(new):
            begin, end = (Fraction(window.first + number + k, 25) for k in (0, 1))
            touched = any(r.start_s < end and r.end_s > begin for r in window.ranges)
            assert is_new == touched
