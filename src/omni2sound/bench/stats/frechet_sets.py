"""FD, KID and inception score of sets larger than memory, with jackknife intervals.

In:   `TaggerFeatures` of real and generated sounds, in the same order of clips.
Out:  the statistics, also without each jackknife group; `Estimate`s.

For patches only each group's number, mean and scatter are kept (merged as they come: Chan,
Golub and LeVeque 1979), for clips their mean embedding and logits: 15,000 clips of YAMNet
take 0.4 GB, whatever their length. A jackknife's statistic merges all groups but one; the
real side is decomposed once for all systems.

A bootstrap would count clips twice and shift FD and KID, which depend on the number of distinct
clips. In a delete-group jackknife every value has the same number of clips, and only their
spread is used: se^2 = (G - 1) / G * sum (value_g - mean)^2. With so few values the spread itself
is uncertain, so the interval is Student's with G - 1 degrees of freedom.

Shape suffixes: G groups, N clips, P patches, D embedding, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from omni2sound.bench.stats.distances import (
    checked_rows,
    factor_of,
    inception_score,
    overlap_trace,
)
from omni2sound.bench.stats.estimate import Estimate
from omni2sound.errors import ShapeError

Matrix = NDArray[np.float64]
_KERNEL_ROWS = 1024
NUM_GROUPS = 10
"""Number of jackknife groups, for 20 clips or more."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TaggerFeatures:
    """A tagger's output for one clip of 8 s."""

    embeddings_PD: NDArray[np.float32]
    logits_K: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Moments:
    """Number, mean (D,) and scatter (D, D) of vectors; scatter / (count - 1) is the covariance."""

    count: int
    mean_D: Matrix
    scatter_DD: Matrix

    @classmethod
    def of(cls, vectors_PD: NDArray[np.float32]) -> Moments:
        """Compute the moments of vectors (P, D).

        Raises:
            ShapeError: There are none, or a number is not finite.
        """
        vectors = checked_rows(vectors_PD, least=1)
        mean = vectors.mean(axis=0)
        centred = vectors - mean
        return cls(count=len(vectors), mean_D=mean, scatter_DD=centred.T @ centred)

    def merged(self, other: Moments) -> Moments:
        """Combine with the moments of another set of vectors."""
        count = self.count + other.count
        shift = other.mean_D - self.mean_D
        weight = self.count * other.count / count
        return Moments(
            count=count,
            mean_D=self.mean_D + shift * (other.count / count),
            scatter_DD=self.scatter_DD + other.scatter_DD + np.outer(shift, shift) * weight,
        )

    @property
    def covariance_DD(self) -> Matrix:
        """Unbiased covariance (D, D)."""
        covariance: Matrix = self.scatter_DD / (self.count - 1)
        return covariance


def frechet_of_moments(
    x: Moments, y: Moments, factor_of_x_DR: Matrix | None = None, *, rough: bool = False
) -> float:
    """Squared Frechet distance of two sets' Gaussians, from their moments.

    |mean x - mean y|^2 + Tr(Cx + Cy - 2 (Cx Cy)^1/2), without a matrix square root.

    Args:
        x: Moments of one set.
        y: Moments of the other set.
        factor_of_x_DR: `factor_of` the covariance of x, if known.
        rough: See `overlap_trace`; good enough for a spread.

    Raises:
        ShapeError: A set has fewer than two vectors, or the widths differ.
    """
    if min(x.count, y.count) < 2 or x.mean_D.shape != y.mean_D.shape:
        raise ShapeError(
            f"FD needs two vectors or more of one width in both sets, got {x.count} x "
            f"{len(x.mean_D)} and {y.count} x {len(y.mean_D)}"
        )
    cov_x, cov_y = x.covariance_DD, y.covariance_DD
    factor = factor_of(cov_x) if factor_of_x_DR is None else factor_of_x_DR
    shift = x.mean_D - y.mean_D
    spread = float(np.trace(cov_x) + np.trace(cov_y))
    return float(shift @ shift) + spread - 2 * overlap_trace(factor, cov_y, rough=rough)


def groups_of(num_clips: int, *, seed: int = 0) -> NDArray[np.intp]:
    """Deal clips at random to jackknife groups; returns the group of each, (N,).

    Args:
        num_clips: Number of clips; below 20 each group has two.
        seed: Random seed.

    Raises:
        ShapeError: There are fewer than four clips.
    """
    if num_clips < 4:
        raise ShapeError(f"a jackknife needs at least 4 clips, got {num_clips}")
    order = np.random.default_rng(seed).permutation(num_clips)
    group_N = np.zeros(num_clips, np.intp)
    for group, members in enumerate(np.array_split(order, min(NUM_GROUPS, num_clips // 2))):
        group_N[members] = group
    return group_N


class GroupedMoments:
    """Moments of vectors by jackknife group, accumulated from a stream."""

    def __init__(self, vectors: Iterable[tuple[int, NDArray[np.float32]]], num_groups: int) -> None:
        """Read the vectors.

        Args:
            vectors: Group and vectors (P, D) of each clip.
            num_groups: Number of groups; one may stay empty.
        """
        # Vectors are collected first: a product of few rows costs as much as one of many.
        waiting: list[list[NDArray[np.float32]]] = [[] for _ in range(num_groups)]
        self._moments: list[Moments | None] = [None] * num_groups
        for group, vectors_PD in vectors:
            waiting[group].append(vectors_PD)
            if sum(map(len, waiting[group])) >= _KERNEL_ROWS:
                self._settle(group, waiting)
        for group in range(num_groups):
            self._settle(group, waiting)

    def _settle(self, group: int, waiting: list[list[NDArray[np.float32]]]) -> None:
        if waiting[group]:
            new = Moments.of(np.concatenate(waiting[group]))
            old = self._moments[group]
            self._moments[group] = new if old is None else old.merged(new)
            waiting[group].clear()

    def without(self, group: int | None) -> Moments:
        """Moments of all vectors, or of all groups but one.

        Raises:
            ShapeError: There are none.
        """
        kept = [m for g, m in enumerate(self._moments) if g != group and m is not None]
        if not kept:
            raise ShapeError("no vectors are left")
        return reduce(Moments.merged, kept)


class SetOfSounds:
    """Features of one system's clips, reduced to what the statistics need."""

    def __init__(self, clips: Iterable[TaggerFeatures], group_N: NDArray[np.intp]) -> None:
        """Read the clips.

        Args:
            clips: Features in the order of `group_N`.
            group_N: Result of `groups_of`.

        Raises:
            ValueError: The number of clips differs from the length of `group_N`.
        """
        self.group_N = group_N
        self.num_groups = int(group_N.max()) + 1
        means, logits = [], []

        def vectors() -> Iterator[tuple[int, NDArray[np.float32]]]:
            for clip, group in zip(clips, group_N, strict=True):
                means.append(clip.embeddings_PD.mean(axis=0, dtype=np.float64))
                logits.append(clip.logits_K)
                yield int(group), clip.embeddings_PD

        self._moments = GroupedMoments(vectors(), self.num_groups)
        self.means_ND = np.stack(means)
        self.logits_NK = np.stack(logits)

    def moments_without(self, group: int | None) -> Moments:
        """Moments of all patches, or of all groups but one."""
        return self._moments.without(group)

    @cached_property
    def factors(self) -> list[Matrix]:
        """`factor_of` the covariance of all patches, then without each group."""
        groups = (None, *range(self.num_groups))
        return [factor_of(self.moments_without(g).covariance_DD) for g in groups]

    @cached_property
    def kernel_GG(self) -> tuple[Matrix, Matrix]:
        """Sums of the kernel within the set by pairs of groups, and of its diagonal by group."""
        sums = _kernel_sums(self.means_ND, self.means_ND, self.group_N)
        width = self.means_ND.shape[1]
        diagonal_N = (np.square(self.means_ND).sum(axis=1) / width + 1) ** 3
        diagonal = np.bincount(self.group_N, weights=diagonal_N, minlength=self.num_groups)
        return sums, diagonal.astype(np.float64)


def _kernel_sums(x_ND: Matrix, y_ND: Matrix, group_N: NDArray[np.intp]) -> Matrix:
    num_groups = int(group_N.max()) + 1
    member_NG = np.eye(num_groups)[group_N]
    sums = np.zeros((num_groups, num_groups))
    tiles = [slice(k, k + _KERNEL_ROWS) for k in range(0, len(x_ND), _KERNEL_ROWS)]
    for rows, columns in product(tiles, tiles):
        kernel = (x_ND[rows] @ y_ND[columns].T / x_ND.shape[1] + 1) ** 3
        sums += member_NG[rows].T @ kernel @ member_NG[columns]
    return sums


Statistic = Callable[[int | None], float]
"""A value over all groups (None), or without one group."""


def statistics_of(real: SetOfSounds, made: SetOfSounds) -> dict[str, Statistic]:
    """FD, KID and IS of one system as functions of the group that is left out.

    Raises:
        ShapeError: The sets are not of the same clips.
    """
    if not np.array_equal(real.group_N, made.group_N):
        raise ShapeError(f"one sound per real one, got {len(made.group_N)} for {len(real.group_N)}")

    def fd(group: int | None) -> float:
        factor = real.factors[0 if group is None else group + 1]
        return frechet_of_moments(
            real.moments_without(group),
            made.moments_without(group),
            factor,
            rough=group is not None,
        )

    def isc(group: int | None) -> float:
        kept = slice(None) if group is None else made.group_N != group
        return inception_score(made.logits_NK[kept])

    return {"FD": fd, "KID": _kid(real, made), "IS": isc}


def _kid(real: SetOfSounds, made: SetOfSounds) -> Statistic:
    """Unbiased squared MMD with the kernel (x.y / D + 1)^3; may be negative.

    Source: Binkowski et al. 2018, arXiv:1801.01401, section 3 and appendix.
    """
    between = _kernel_sums(real.means_ND, made.means_ND, real.group_N)
    sizes = np.bincount(real.group_N)

    def kid(group: int | None) -> float:
        kept = np.arange(len(sizes)) != (-1 if group is None else group)
        n = int(sizes[kept].sum())
        within = 0.0
        for sums, diagonal in (real.kernel_GG, made.kernel_GG):
            total = float(sums[np.ix_(kept, kept)].sum() - diagonal[kept].sum())
            within += total / (n * (n - 1))
        return within - 2 * float(between[np.ix_(kept, kept)].sum()) / n**2

    return kid


def set_values(real: SetOfSounds, made: SetOfSounds) -> dict[str, Matrix]:
    """FD, KID and IS, each (1 + G,): over all groups, then without each group.

    Raises:
        ShapeError: The sets are not of the same clips.
    """
    groups = (None, *range(made.num_groups))
    statistics = statistics_of(real, made)
    return {name: np.array([of(group) for group in groups]) for name, of in statistics.items()}


def jackknife_groups(statistic: Statistic, num_groups: int, num_clips: int) -> Estimate:
    """Estimate of a statistic, with a 95 % interval from leaving out one group at a time.

    Args:
        statistic: Value over all groups, or without one.
        num_groups: Number of groups.
        num_clips: Number of clips in them.
    """
    left_out_G = np.array([statistic(group) for group in range(num_groups)])
    return jackknife_estimate(statistic(None), left_out_G, num_clips)


def jackknife_estimate(value: float, left_out_G: NDArray[np.float64], num_clips: int) -> Estimate:
    """Estimate from a value and the values (G,) without one group each."""
    num_groups = len(left_out_G)
    spread = np.square(left_out_G - left_out_G.mean()).sum() * (num_groups - 1) / num_groups
    half = float(student_t.ppf(0.975, num_groups - 1) * np.sqrt(spread))
    return Estimate(value=value, low=value - half, high=value + half, num_clips=num_clips)
