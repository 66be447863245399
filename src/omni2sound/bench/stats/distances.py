"""Distances between two sets of sounds: KL and inception scores, and what FD is made of.

In:   embeddings and logits of clips.
Out:  numbers in float64. (`frechet_sets` has FD, KID, intervals, and sets larger than memory.)

Lower is better for all but the inception scores. FD grows as 1 / N, so compare two systems at one
N. `inception_score` uses all clips at once; `split_inception_score` is av-benchmark's: mean over
ten parts, in an order that is shuffled from a fixed seed of the old NumPy generator. The two
cannot be compared at small N. Known answers are tested: two Gaussians for FD, tables worked out
by hand for the others.

The embeddings' type is part of a metric's definition: everything is raised to float64 first
(a covariance of rounded numbers is another number).

Shape suffixes: N clips or patches, D embedding, R rank of a covariance, K classes.
Source: FD Heusel et al. 2017, arXiv:1706.08500; IS Salimans et al. 2016, arXiv:1606.03498;
hkchengrex/av-benchmark, av_bench/metrics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg.lapack import dpstrf
from scipy.special import log_softmax

from omni2sound.errors import ShapeError

NUM_SPLITS = 10
_SHUFFLE_SEED = 2020
_NEAR = 1e-3
"""Share of both variances: sets that differ less are measured with more digits."""

Matrix = NDArray[np.float64]


def factor_of(covariance_DD: Matrix) -> Matrix:
    """Factorise C = F F^T by Cholesky; with pivots, up to the rank, if C is singular.

    Returns:
        F, (D, R): few vectors give few columns, and all that follows costs less.
    """
    try:
        return np.asarray(np.linalg.cholesky(covariance_DD), np.float64)
    except np.linalg.LinAlgError:
        packed, pivots, rank, _ = dpstrf(covariance_DD, lower=1)
        factor_DR: Matrix = np.zeros((len(covariance_DD), rank))
        factor_DR[pivots - 1] = np.tril(packed)[:, :rank]
        return factor_DR


def overlap_trace(factor_x_DR: Matrix, cov_y_DD: Matrix, *, rough: bool = False) -> float:
    """Tr (Cx Cy)^1/2, without a matrix square root.

    It is the sum of the roots of the eigenvalues of Fx^T Cy Fx, which is symmetric: no
    imaginary part can appear, and eigenvalues that rounding made negative count as 0. A root
    keeps half of the digits of a small eigenvalue, so if the two sets hardly differ the sum of
    the singular values of Fx^T Fy is used: eight times as expensive, at full precision.

    Args:
        factor_x_DR: `factor_of` one covariance.
        cov_y_DD: The other covariance.
        rough: Always use the roots of the eigenvalues.
    """
    product = factor_x_DR.T @ cov_y_DD @ factor_x_DR
    eigenvalues = np.linalg.eigvalsh(0.5 * (product + product.T))
    overlap = float(np.sqrt(np.clip(eigenvalues, 0, None)).sum())
    spread = float(np.square(factor_x_DR).sum() + np.trace(cov_y_DD))
    if rough or spread - 2 * overlap > _NEAR * spread:
        return overlap
    return float(np.linalg.svd(factor_x_DR.T @ factor_of(cov_y_DD), compute_uv=False).sum())


def kl_divergences(real_NK: ArrayLike, made_NK: ArrayLike) -> Matrix:
    """KL(real || made) of each pair of clips, (N,), from logits through a softmax.

    Raises:
        ShapeError: If the shapes differ or are not (N, K) with N >= 2.
    """
    real, made = _checked_pair(real_NK, made_NK)
    if len(real) != len(made):
        raise ShapeError(f"paired clips need equal numbers, got {len(real)} and {len(made)}")
    log_p, log_q = log_softmax(real, axis=1), log_softmax(made, axis=1)
    divergences: Matrix = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    return divergences


def inception_score(logits_NK: ArrayLike) -> float:
    """The exponential of the mean KL(clip || mean of all clips): from 1 (all alike) to K.

    Raises:
        ShapeError: If the logits are not (N, K) with N >= 2.
    """
    log_p = log_softmax(checked_rows(logits_NK), axis=1)
    p = np.exp(log_p)
    log_mean = np.log(np.maximum(p.mean(axis=0), 1e-300))
    return float(np.exp((p * (log_p - log_mean)).sum(axis=1).mean()))


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitInceptionScore:
    """Mean and standard deviation over ten parts of the clips."""

    mean: float
    std: float


def split_inception_score(logits_NK: ArrayLike) -> SplitInceptionScore:
    """exp(mean KL(p || mean p)) of softmax(logits), in ten parts; higher is better.

    Args:
        logits_NK: One row per clip, in the order of their names; at least ten.

    Raises:
        ShapeError: Fewer than ten clips, or not a finite table.
    """
    logits = checked_rows(logits_NK, least=NUM_SPLITS)
    # The old generator on purpose: another order gives another score.
    order = np.random.RandomState(_SHUFFLE_SEED).permutation(len(logits))
    log_p = log_softmax(logits[order], axis=1)
    p = np.exp(log_p)
    count = len(logits)
    scores = []
    for part in range(NUM_SPLITS):
        rows = slice(part * count // NUM_SPLITS, (part + 1) * count // NUM_SPLITS)
        marginal = p[rows].mean(axis=0)
        # A class that no clip of the part has underflows to 0 * log 0, which is 0.
        log_marginal = np.log(marginal, out=np.zeros_like(marginal), where=marginal > 0)
        kl = (p[rows] * (log_p[rows] - log_marginal)).sum(axis=1)
        scores.append(float(np.exp(kl.mean())))
    return SplitInceptionScore(mean=float(np.mean(scores)), std=float(np.std(scores)))


def checked_rows(x: ArrayLike, *, least: int = 2) -> Matrix:
    """Convert to float64.

    Raises:
        ShapeError: If the numbers are not finite, or not (N, D) with N >= `least`.
    """
    array = np.asarray(x, dtype=np.float64)
    if array.ndim != 2 or len(array) < least or not np.isfinite(array).all():
        raise ShapeError(f"expected finite numbers (N, D) with N >= {least}, got {array.shape}")
    return array


def _checked_pair(x: ArrayLike, y: ArrayLike) -> tuple[Matrix, Matrix]:
    a, b = checked_rows(x), checked_rows(y)
    if a.shape[1] != b.shape[1]:
        raise ShapeError(f"both sets must have the same width D, got {a.shape[1]} and {b.shape[1]}")
    return a, b
