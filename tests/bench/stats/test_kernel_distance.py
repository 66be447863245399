"""KAD: laws of the unbiased squared MMD, and why its width is the reference's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from omni2sound.bench.metrics.kad import kad_score
from omni2sound.bench.stats.frechet_sets import groups_of
from omni2sound.bench.stats.kernel_distance import KernelReference, median_distance
from omni2sound.errors import ShapeError

Table = NDArray[np.float64]


def normals(seed: int, count: int = 24, width: int = 5, spread: float = 1.0) -> Table:
    return spread * np.random.default_rng(seed).standard_normal((count, width))


def by_hand(x_ND: Table, y_ND: Table, width: float) -> float:
    """The definition, pair by pair."""

    def kernel(a: Table, b: Table) -> float:
        return float(np.exp(-np.square(a - b).sum() / (2 * width**2)))

    n = len(x_ND)
    within = sum(
        kernel(some[i], some[j])
        for some in (x_ND, y_ND)
        for i in range(n)
        for j in range(n)
        if i != j
    )
    between = sum(kernel(a, b) for a in x_ND for b in y_ND)
    return 100 * (within / (n * (n - 1)) - 2 * between / n**2)


def kad(real_ND: Table, made_ND: Table) -> Table:
    return KernelReference(real_ND, groups_of(len(real_ND))).distance(made_ND)


def test_it_is_the_definition_over_all_clips_and_without_each_group() -> None:
    real, made, groups = normals(0), normals(1) + 0.5, groups_of(24)
    found = kad(real, made)
    width = median_distance(real)
    assert found[0] == pytest.approx(by_hand(real, made, width))
    for group in range(groups.max() + 1):
        kept = groups != group
        assert found[1 + group] == pytest.approx(by_hand(real[kept], made[kept], width))


@given(st.integers(0, 99), st.floats(0.01, 100), st.floats(-50, 50))
def test_neither_scale_nor_place_nor_order_changes_it(
    seed: int, scale: float, shift: float
) -> None:
    real, made = normals(seed), normals(seed + 1000) + 1
    order = np.random.default_rng(seed).permutation(len(made))
    moved = kad(scale * real + shift, (scale * made + shift)[order])
    assert moved[0] == pytest.approx(kad(real, made)[0], rel=1e-6, abs=1e-6)


def test_equal_distributions_lie_around_zero_and_farther_ones_farther() -> None:
    same = [kad(normals(seed), normals(seed + 500))[0] for seed in range(60)]
    error = np.std(same) / np.sqrt(len(same))
    assert abs(np.mean(same)) < 3 * error, "unbiased"
    shifts = [
        np.mean([kad(normals(s), normals(s + 500) + d)[0] for s in range(5)]) for d in range(4)
    ]
    assert shifts == sorted(shifts)


def test_the_evaluated_sets_width_changes_places_and_the_references_does_not() -> None:
    """Of two systems the one that spreads twice as wide is farther; its own width hides it."""
    real = normals(0, count=200)
    wide, shifted = normals(1, count=200, spread=2.2), normals(2, count=200) + 0.75
    assert kad(real, wide)[0] > kad(real, shifted)[0]
    own = [by_hand(real[:60], some[:60], median_distance(some)) for some in (wide, shifted)]
    assert own[0] < own[1]


def test_tables_larger_than_a_tile_are_summed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    real, made = normals(0), normals(1)
    whole = kad(real, made)
    monkeypatch.setattr("omni2sound.bench.stats.kernel_distance._TILE_ROWS", 7)
    np.testing.assert_allclose(kad(real, made), whole)


def test_what_has_no_width_or_another_shape_is_refused() -> None:
    with pytest.raises(ShapeError, match="no width"):
        KernelReference(np.ones((8, 3)), groups_of(8))
    with pytest.raises(ShapeError, match="one clip per real one"):
        kad(normals(0), normals(1, width=4))


def test_the_score_has_a_protocol_of_its_own() -> None:
    score = kad_score(kad(normals(0), normals(1)), network="yamnet", num_clips=24)
    assert (score.protocol, score.name, score.direction) == ("kad-yamnet-v1", "KAD", "lower")
    assert score.estimate.low < score.estimate.value < score.estimate.high
