"""FD, KL and inception score against closed forms and a slow scipy version."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import linalg

from omni2sound.bench.stats.distances import frechet_distance, kl_divergences
from omni2sound.bench.stats.distributions import inception_score
from omni2sound.errors import ShapeError


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
    score = inception_score(logits)
    assert score.mean == pytest.approx(4)
    assert score.std == pytest.approx(0, abs=1e-9)


@given(st.integers(10, 60), st.integers(2, 30))
def test_is_lies_between_one_and_the_number_of_classes(clips: int, classes: int) -> None:
    score = inception_score(drawn(clips, clips, classes))
    assert 1 - 1e-9 <= score.mean <= classes
    assert inception_score(np.zeros((clips, classes))).mean == pytest.approx(1)


def test_a_class_that_no_clip_has_is_no_nan() -> None:
    logits = np.full((20, 3), -2000.0)
    logits[:, 0] = 0
    assert inception_score(logits).mean == pytest.approx(1)


def test_too_few_clips_and_unequal_tables_are_refused() -> None:
    with pytest.raises(ShapeError, match="N >= 10"):
        inception_score(np.zeros((9, 3)))
    with pytest.raises(ShapeError, match="equal numbers"):
        kl_divergences(np.zeros((2, 3)), np.zeros((3, 3)))
    with pytest.raises(ShapeError, match="N >= 2"):
        frechet_distance(np.zeros((1, 3)), np.zeros((4, 3)))
    with pytest.raises(ShapeError, match="width"):
        frechet_distance(np.zeros((4, 2)), np.zeros((4, 3)))
    with pytest.raises(ShapeError):
        frechet_distance(np.full((4, 2), math.nan), np.zeros((4, 2)))
