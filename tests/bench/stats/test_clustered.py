"""Intervals of grouped clips and of wrong pairs, against closed forms and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from omni2sound.bench.stats.bootstrap import bootstrap_mean
from omni2sound.bench.stats.clustered import Resamples
from omni2sound.errors import ShapeError


def test_clips_that_are_groups_of_their_own_give_the_plain_bootstrap() -> None:
    values = np.random.default_rng(0).normal(3, 2, 100)
    ours, plain = Resamples(range(100)).mean(values), bootstrap_mean(values)
    assert ours.value == pytest.approx(plain.value)
    assert ours.low == pytest.approx(plain.low, abs=0.03)
    assert ours.high == pytest.approx(plain.high, abs=0.03)


def test_a_system_that_never_looks_has_mismatched_pairs_as_unsure_as_the_truths_are() -> None:
    """Each row of the matrix is the same, so rows alone would give no width at all."""
    column = np.random.default_rng(0).random(200) < 0.3
    values = np.tile(column, (200, 1)).astype(float)
    estimate = Resamples(range(200)).mismatched_pairs(values)
    half = 1.96 * math.sqrt(column.mean() * (1 - column.mean()) / 200)
    assert estimate.value == pytest.approx(column.mean())
    assert estimate.high - estimate.low == pytest.approx(2 * half, rel=0.1)


def test_prompts_of_classes_that_are_all_hit_or_all_missed_count_as_classes() -> None:
    groups = np.repeat(np.arange(14), 10)
    hits = (groups < 7).astype(float)
    estimate = Resamples(list(groups)).mean(hits)
    half = 1.96 * math.sqrt(0.25 / 14)  # of 14 independent things, not 140
    assert estimate.value == 0.5
    assert estimate.high - estimate.low == pytest.approx(2 * half, rel=0.2)


def test_mismatched_pairs_within_groups_do_not_shift_the_interval() -> None:
    """Copies of a drawn group would double the pairs that ask for the same class."""
    groups = np.repeat(np.arange(14), 10)
    values = (groups[:, None] == groups).astype(float)
    estimate = Resamples(list(groups)).mismatched_pairs(values)
    assert estimate.value == pytest.approx(9 / 139)
    assert (estimate.low, estimate.high) == pytest.approx((9 / 139, 9 / 139))
    ratio = Resamples(list(groups)).over_mismatched_pairs(values)
    assert ratio.value == pytest.approx(139 / 9)
    gain = Resamples(list(groups)).above_mismatched_pairs(values)
    assert gain.value == pytest.approx(130 / 139)


def test_a_ratio_to_nothing_is_infinite_and_equal_scores_have_ratio_one() -> None:
    resamples = Resamples(["a", "a", "b"])
    assert resamples.ratio([1, 1, 1], [0, 0, 0]).value == math.inf
    assert resamples.over_mismatched_pairs(np.eye(3)).value == math.inf
    one = resamples.ratio([0.2, 0.4, 0.6], [0.2, 0.4, 0.6])
    assert (one.low, one.value, one.high) == pytest.approx((1, 1, 1))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="at least 2"):
        Resamples(["a"])
    with pytest.raises(ShapeError, match="expected finite"):
        Resamples("ab").mean([1, 2, 3])
