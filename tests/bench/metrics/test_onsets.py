"""Onsets of clicks at known times, and pairs that can be counted another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from omni2sound.bench.metrics.onsets import Onsets, count_pairs, onset_errors
from omni2sound.errors import ShapeError

RATE_HZ = 16_000
TRUTH_S = (0.6, 1.3, 2.05, 3.4)


def clicks(times_s: tuple[float, ...], *, duration_s: float = 4.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    sound = 1e-4 * rng.standard_normal(round(duration_s * RATE_HZ))
    decay = np.exp(-np.arange(800) / 160)
    for time_s in times_s:
        start = round(time_s * RATE_HZ)
        piece = decay[: len(sound) - start] * rng.standard_normal(len(decay[: len(sound) - start]))
        sound[start : start + len(piece)] += 0.3 * piece
    return sound.astype(np.float32)


def f1(found: tuple[float, ...], tolerance_s: float) -> float:
    pairs = count_pairs(found, TRUTH_S, tolerance_s=tolerance_s)
    return 2 * pairs / (len(found) + len(TRUTH_S))


@pytest.mark.parametrize("shift_ms", [-120, -70, -30, 0, 10, 45, 60, 95, 130])
def test_clicks_shifted_by_known_milliseconds_give_the_known_answer(shift_ms: int) -> None:
    onsets = Onsets(clicks(tuple(t + shift_ms / 1000 for t in TRUTH_S)), RATE_HZ)
    offsets = onsets.own_offsets_s(TRUTH_S)
    assert [np.nan if o is None else 1000 * o for o in offsets] == pytest.approx(
        [shift_ms] * 4, abs=5
    )
    assert f1(onsets.times_s, 0.05) == (1.0 if abs(shift_ms) <= 45 else 0.0)
    assert f1(onsets.times_s, 0.1) == (1.0 if abs(shift_ms) <= 95 else 0.0)


def test_a_dense_train_of_clicks_fails() -> None:
    train = tuple(np.arange(0.05, 3.95, 0.1).tolist())
    onsets = Onsets(clicks(train), RATE_HZ)
    assert len(onsets.times_s) > 30  # it is seen for what it is
    assert f1(onsets.times_s, 0.1) < 0.25
    in_sync = [abs(o) <= 0.1 for o in onsets.own_offsets_s(TRUTH_S) if o is not None]
    assert sum(in_sync) <= 2
    assert onsets.num_outside([(t - 0.1, t + 0.2) for t in TRUTH_S]) > 20


def test_missing_and_added_clicks_cost_recall_and_precision() -> None:
    assert f1(Onsets(clicks(TRUTH_S[:2]), RATE_HZ).times_s, 0.1) == pytest.approx(2 * 2 / 6)
    assert f1(Onsets(clicks((*TRUTH_S, 2.7, 3.0)), RATE_HZ).times_s, 0.1) == pytest.approx(0.8)


def test_silence_and_steady_noise_have_no_onsets() -> None:
    assert Onsets(np.zeros(RATE_HZ), RATE_HZ).times_s == ()
    noise = 0.1 * np.random.default_rng(1).standard_normal(4 * RATE_HZ)
    assert Onsets(noise, RATE_HZ).times_s == ()
    assert Onsets(np.zeros(RATE_HZ), RATE_HZ).own_offsets_s([0.5]) == [None]


def test_an_event_looks_no_farther_than_half_way_to_its_neighbour() -> None:
    onsets = Onsets(clicks((1.0, 1.35)), RATE_HZ)
    first, second = onsets.own_offsets_s([1.0, 1.3])
    assert (first, second) == (pytest.approx(0, abs=0.005), pytest.approx(0.05, abs=0.005))
    assert Onsets(clicks((1.35,)), RATE_HZ).own_offsets_s([1.0], [1.3]) == [None]


@given(
    st.lists(st.integers(0, 400), max_size=12, unique=True),
    st.lists(st.integers(0, 400), max_size=12, unique=True),
    st.integers(1, 60),
)
@settings(max_examples=200, deadline=None)
def test_no_way_of_pairing_finds_more_pairs(
    found: list[int], true: list[int], tolerance: int
) -> None:
    found_s, true_s = sorted(t / 100 for t in found), sorted(t / 100 for t in true)
    pairs = count_pairs(found_s, true_s, tolerance_s=tolerance / 100)
    close = np.array([[abs(a - b) <= tolerance / 100 + 1e-9 for b in true_s] for a in found_s])
    best = 0
    if found and true:
        best = int((maximum_bipartite_matching(csr_array(close.astype(int))) >= 0).sum())
    assert pairs == best
    assert pairs == count_pairs(true_s, found_s, tolerance_s=tolerance / 100)


def test_times_out_of_order_are_refused() -> None:
    with pytest.raises(ShapeError, match="sort"):
        count_pairs([1.0, 0.5], [1.0], tolerance_s=0.1)


def test_onset_errors_in_closed_form() -> None:
    errors = onset_errors([1.1, 2.0, None, 2.7, 4.0], [1.0, 2.0, 3.0, 3.0, 4.2])
    assert (errors.num_clips, errors.num_without_onset) == (5, 1)
    assert errors.median_s == pytest.approx(0.15)
    assert errors.median_signed_s == pytest.approx(-0.1)
    assert errors.p90_s == pytest.approx(0.27)


def test_no_onset_at_all_gives_no_error() -> None:
    errors = onset_errors([None, None], [1.0, 2.0])
    assert errors.num_without_onset == 2
    assert math.isnan(errors.median_s)
    with pytest.raises(ShapeError, match="one truth per onset"):
        onset_errors([None], [])
