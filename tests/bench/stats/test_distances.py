"""Distances of sets whose distance is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import linalg

from omni2sound.bench.stats.distances import (
    inception_score,
    kl_divergences,
    split_inception_score,
)
from omni2sound.bench.stats.frechet_sets import Moments, frechet_of_moments
from omni2sound.errors import ShapeError


def frechet_distance(x_ND: NDArray[np.float64], y_ND: NDArray[np.float64]) -> float:
    return frechet_of_moments(Moments.of(x_ND), Moments.of(y_ND))


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


@given(st.integers(0, 1000), st.integers(2, 20), st.integers(2, 80))
@settings(max_examples=25, deadline=None)
def test_fd_of_few_vectors_needs_no_covariance(seed: int, num_x: int, num_y: int) -> None:
    """Tr (Cx Cy)^1/2 is the sum of the singular values of the product of the centred vectors."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((num_x, 32)), 1 + 2 * rng.standard_normal((num_y, 32))
    x_0, y_0 = ((v - v.mean(axis=0)) / np.sqrt(len(v) - 1) for v in (x, y))
    overlap = np.linalg.svd(x_0 @ y_0.T, compute_uv=False).sum()
    expected = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() - 2 * overlap
    expected += np.square(x_0).sum() + np.square(y_0).sum()
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(y, x) == pytest.approx(expected, rel=1e-6)


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


def drawn(seed: int, clips: int, dim: int, scale: float = 1.0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dim, dim))
    return scale * rng.normal(size=(clips, dim)) @ mixing + rng.normal(size=dim)


def with_moments(mean: float, std: float, clips: int = 50) -> NDArray[np.float64]:
    """One feature whose sample mean and deviation are exactly those."""
    values = np.random.default_rng(0).normal(size=clips)
    values = (values - values.mean()) / values.std(ddof=1)
    return (mean + std * values)[:, None]


@given(st.floats(-5, 5), st.floats(0.1, 4), st.floats(-5, 5), st.floats(0.1, 4))
def test_fd_of_one_feature_is_the_textbook_one(m1: float, s1: float, m2: float, s2: float) -> None:
    found = frechet_distance(with_moments(m1, s1), with_moments(m2, s2))
    assert found == pytest.approx((m1 - m2) ** 2 + (s1 - s2) ** 2, abs=1e-9)


@given(st.integers(0, 99), st.integers(2, 12), st.integers(13, 60))
def test_fd_is_a_square_of_a_distance(seed: int, dim: int, clips: int) -> None:
    a, b = drawn(seed, clips, dim), drawn(seed + 100, clips, dim, 1.3)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6, abs=1e-6)
    assert frechet_distance(a, a + 2) == pytest.approx(4 * dim, rel=1e-6)


@pytest.mark.parametrize("clips", [40, 6])  # 6 clips of 10 features: singular covariances
def test_fd_agrees_with_the_matrix_root(clips: int) -> None:
    a, b = drawn(1, clips, 10), drawn(2, clips, 10)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(cov_a @ cov_b)
    difference = a.mean(axis=0) - b.mean(axis=0)
    expected = difference @ difference + np.trace(cov_a + cov_b - 2 * root.real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-4)


@given(st.integers(0, 99), st.floats(-50, 50))
def test_kl_looks_at_probabilities_only(seed: int, shift: float) -> None:
    a, b = drawn(seed, 5, 7), drawn(seed + 1, 5, 7)
    divergence = kl_divergences(a, b)
    assert (divergence >= -1e-12).all()
    np.testing.assert_allclose(kl_divergences(a + shift, b), divergence, atol=1e-9)
    np.testing.assert_allclose(kl_divergences(a, a), 0, atol=1e-12)


def test_is_of_certain_and_varied_clips_is_the_number_of_classes() -> None:
    """One clip of each of 4 classes in every part: 40 clips in an order that undoes theirs."""
    order = np.random.RandomState(2020).permutation(40)
    logits = np.zeros((40, 4))
    logits[order, np.arange(40) % 4] = 200.0
    score = split_inception_score(logits)
    assert score.mean == pytest.approx(4)
    assert score.std == pytest.approx(0, abs=1e-9)


@given(st.integers(10, 60), st.integers(2, 30))
def test_is_lies_between_one_and_the_number_of_classes(clips: int, classes: int) -> None:
    score = split_inception_score(drawn(clips, clips, classes))
    assert 1 - 1e-9 <= score.mean <= classes
    assert split_inception_score(np.zeros((clips, classes))).mean == pytest.approx(1)


def test_a_class_that_no_clip_has_is_no_nan() -> None:
    logits = np.full((20, 3), -2000.0)
    logits[:, 0] = 0
    assert split_inception_score(logits).mean == pytest.approx(1)


def test_too_few_clips_and_unequal_tables_are_refused() -> None:
    with pytest.raises(ShapeError, match="N >= 10"):
        split_inception_score(np.zeros((9, 3)))
    with pytest.raises(ShapeError, match="equal numbers"):
        kl_divergences(np.zeros((2, 3)), np.zeros((3, 3)))
    with pytest.raises(ShapeError, match="two vectors or more"):
        frechet_distance(np.zeros((1, 3)), np.zeros((4, 3)))
    with pytest.raises(ShapeError, match="one width"):
        frechet_distance(np.zeros((4, 2)), np.zeros((4, 3)))
    with pytest.raises(ShapeError):
        frechet_distance(np.full((4, 2), math.nan), np.zeros((4, 2)))
