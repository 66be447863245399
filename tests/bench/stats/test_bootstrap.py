"""Intervals against closed forms and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.bench.stats import bootstrap as metrics
from omni2sound.bench.stats.bootstrap import (
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_ratio,
)
from omni2sound.errors import ShapeError


def test_the_interval_of_a_mean_is_the_textbook_one() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    estimate = bootstrap_mean(values)
    half_width = 1.96 * values.std() / math.sqrt(400)
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - half_width, abs=0.1 * half_width)
    assert estimate.high == pytest.approx(values.mean() + half_width, abs=0.1 * half_width)
    assert estimate.num_clips == 400


@pytest.mark.parametrize("draw", ["normal", pytest.param("hit", marks=pytest.mark.slow)])
def test_intervals_hold_the_truth_in_93_to_97_percent(
    draw: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "NUM_RESAMPLES", 1000)
    rng = np.random.default_rng(1)
    truth, held, trials = 0.4, 0, 1000
    for trial in range(trials):
        values = rng.normal(truth, 1, 100) if draw == "normal" else rng.random(200) < truth
        estimate = bootstrap_mean(values, seed=trial)
        held += estimate.low <= truth <= estimate.high
    assert 0.93 <= held / trials <= 0.97


def test_pairing_makes_a_difference_sharper() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 10, 200)
    a, b = shared + 1, shared + rng.normal(0, 0.1, 200)
    difference = bootstrap_difference(a, b)
    assert difference.value == pytest.approx(1, abs=0.02)
    assert difference.high - difference.low < 0.05
    assert bootstrap_mean(a).high - bootstrap_mean(a).low > 2


def test_a_ratio_of_proportional_scores_is_exact() -> None:
    b = np.random.default_rng(0).random(50) + 0.1
    ratio = bootstrap_ratio(0.5 * b, b)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((0.5, 0.5, 0.5))


def test_a_ratio_to_nothing_is_infinite() -> None:
    assert bootstrap_ratio([1, 0, 1], [0, 0, 0]).value == math.inf
    some = bootstrap_ratio([1, 1, 1, 1], [0, 0, 0, 1])
    assert some.value == 4
    assert some.high == math.inf
    assert math.isfinite(some.low)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30), st.integers(0, 9))
def test_laws_of_the_mean(values: list[float], seed: int) -> None:
    patch = pytest.MonkeyPatch()
    with patch.context() as m:
        m.setattr(metrics, "NUM_RESAMPLES", 50)
        first = bootstrap_mean(values, seed=seed)
        assert first == bootstrap_mean(values, seed=seed)
        assert min(values) - 1e-6 <= first.low <= first.high <= max(values) + 1e-6
        m.setattr(metrics, "_CHUNK_DRAWS", 1)
        assert bootstrap_mean(values, seed=seed) == first  # chunks are no part of the result


@pytest.mark.parametrize("wrong", [[], [[1.0]], [1.0, math.nan]])
def test_what_has_no_mean_is_refused(wrong: list[float]) -> None:
    with pytest.raises(ShapeError):
        bootstrap_mean(wrong)


def test_pairs_of_unequal_length_are_refused() -> None:
    with pytest.raises(ShapeError, match="3 and 2"):
        bootstrap_difference([1, 2, 3], [1, 2])
