"""Distances of sets whose distance is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.bench.stats.distances import (
    frechet_distance,
    inception_score,
    kl_divergences,
)
from omni2sound.errors import ShapeError


def exact(mean: np.ndarray, cov: np.ndarray, n: int, seed: int) -> np.ndarray:
    """A set whose sample mean and covariance are exactly these."""
    z = np.random.default_rng(seed).standard_normal((n, len(mean)))
    z -= z.mean(axis=0)
    z = z @ np.linalg.inv(np.linalg.cholesky(np.cov(z, rowvar=False))).T
    return mean + z @ np.linalg.cholesky(cov).T


@given(st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_fd_of_two_gaussians_is_the_closed_form(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal((5, 8)) for _ in range(2))
    cov_a, cov_b = a @ a.T, b @ b.T
    mean_a, mean_b = rng.standard_normal((2, 5))
    root = scipy.linalg.sqrtm(cov_a @ cov_b)
    expected = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root.real)
    x, y = exact(mean_a, cov_a, 40, seed), exact(mean_b, cov_b, 60, seed + 1)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert frechet_distance(y, x) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_fd_of_two_gaussians_that_share_their_axes_needs_no_root(seed: int) -> None:
    """Then it is |difference of means|^2 + |difference of standard deviations|^2."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    sigma_a, sigma_b = rng.uniform(0.1, 3, (2, 5))
    mean_a, mean_b = rng.standard_normal((2, 5))
    x, y = (
        exact(mean, (axes * sigma**2) @ axes.T, 40, seed + k)
        for k, (mean, sigma) in enumerate(((mean_a, sigma_a), (mean_b, sigma_b)))
    )
    expected = ((mean_a - mean_b) ** 2).sum() + ((sigma_a - sigma_b) ** 2).sum()
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fd_is_that_of_the_matrix_square_root(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = (rng.standard_normal((300, 40)) @ rng.standard_normal((40, 40)) for _ in range(2))
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    expected = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() + np.trace(
        cov_x + cov_y - 2 * scipy.linalg.sqrtm(cov_x @ cov_y).real
    )
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("num_clips", [20, 200])
@pytest.mark.parametrize("flat", [0, 30])
def test_fd_with_itself_is_below_a_millionth(num_clips: int, flat: int) -> None:
    """Also where some dimensions, as those of a rectified embedding, never change."""
    x = 30 * np.random.default_rng(7).random((num_clips, 64))
    x[:, :flat] = 3.0
    assert abs(frechet_distance(x, x)) < 1e-6
    assert abs(frechet_distance(x, x[::-1])) < 1e-6


def test_kl_and_is_by_hand() -> None:
    """Two clips, two classes; tables worked out on paper."""
    real, made = np.log([[0.5, 0.5], [0.9, 0.1]]), np.log([[0.25, 0.75], [0.9, 0.1]])
    first = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)  # 0.1438
    assert kl_divergences(real, made) == pytest.approx([first, 0])
    # Means are (0.7, 0.3): KL of the clips from it are 0.0872 and 0.1163.
    expected = np.exp(
        (0.5 * np.log(0.5 / 0.7) + 0.5 * np.log(0.5 / 0.3) + 0.9 * np.log(9 / 7) - 0.1 * np.log(3))
        / 2
    )
    assert inception_score(real) == pytest.approx(expected)
    assert expected == pytest.approx(1.1071, abs=1e-4)


def test_fd_of_a_set_and_itself_is_zero_even_with_fewer_clips_than_dimensions() -> None:
    x = np.random.default_rng(0).standard_normal((20, 64))
    assert frechet_distance(x, x[::-1]) == pytest.approx(0, abs=1e-4)
    assert frechet_distance(x, x + 3) == pytest.approx(64 * 9, rel=1e-6)


@given(st.integers(0, 1000), st.sampled_from([6, 20, 31, 32, 33, 80]))
@settings(max_examples=25, deadline=None)
def test_fd_is_the_same_by_both_ways(seed: int, num_clips: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((num_clips, 32)), 1 + 2 * rng.standard_normal((90, 32))
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    values = np.linalg.eigvals(cov_x @ cov_y).real
    expected = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() + np.trace(cov_x + cov_y)
    expected -= 2 * np.sqrt(np.clip(values, 0, None)).sum()
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_kl_is_of_real_from_made_and_zero_for_equal() -> None:
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.1, 0.1, 0.8])
    real, made = np.log([p, p, q]), np.log([q, p, q]) + 5  # a softmax ignores a constant
    expected = [(p * np.log(p / q)).sum(), 0, 0]
    np.testing.assert_allclose(kl_divergences(real, made), expected, atol=1e-12)


def test_inception_score_counts_the_classes_that_are_told_apart() -> None:
    sure = np.where(np.eye(5), 60.0, 0.0)
    assert inception_score(sure) == pytest.approx(5, rel=1e-6)
    assert inception_score(np.repeat(sure[:1], 7, axis=0)) == pytest.approx(1)
    assert inception_score(np.zeros((6, 5))) == pytest.approx(1)


def test_what_cannot_be_compared_is_refused() -> None:
    x = np.zeros((4, 3))
    for wrong in (np.zeros((4, 2)), np.zeros(3), np.full((4, 3), np.nan), np.zeros((1, 3))):
        with pytest.raises(ShapeError):
            frechet_distance(x, wrong)
    with pytest.raises(ShapeError, match="equal numbers"):
        kl_divergences(x, np.zeros((5, 3)))
