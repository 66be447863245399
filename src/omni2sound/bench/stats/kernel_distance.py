"""Kernel audio distance (KAD): unbiased squared MMD, Gaussian kernel of the reference's width.

In:   one embedding of each real and each generated clip, jackknife groups.
Out:  KAD over all clips and without each group, times 100 as in kadtk.

The kernel is exp(-|x - y|^2 / (2 s^2)). What not to get wrong: s is the median distance between two
*real* clips. kadtk takes the evaluated set's, so each system is measured with a kernel of its own,
and one whose sounds spread wider gets a wider kernel, in which everything is near: two systems may
then change places.

Shape suffixes: N clips, G groups, D embedding.
Source: Chung et al. 2025, arXiv:2502.15602; Gretton et al. 2012, JMLR 13, lemma 6.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.stats.distances import checked_rows
from omni2sound.errors import ShapeError

Matrix = NDArray[np.float64]
SCALE = 100.0
_MEDIAN_CLIPS = 4096
"""Most clips whose distances give the width; of more, so many are drawn from a fixed seed."""
_TILE_ROWS = 1024


def median_distance(real_ND: NDArray[np.floating]) -> float:
    """Median distance of two clips over all pairs.

    Raises:
        ShapeError: Fewer than two clips, or not a finite table.
    """
    real = checked_rows(real_ND)
    if len(real) > _MEDIAN_CLIPS:
        chosen = np.random.default_rng(0).choice(len(real), _MEDIAN_CLIPS, replace=False)
        real = real[np.sort(chosen)]
    squares = _squared_distances(real, real)
    return float(np.sqrt(np.median(squares[np.triu_indices(len(real), 1)])))


class KernelReference:
    """Real clips, the width of their kernel, and what they contribute to every comparison."""

    def __init__(self, real_ND: NDArray[np.floating], group_N: NDArray[np.intp]) -> None:
        """Take the real clips' embeddings and their groups (`groups_of`).

        Raises:
            ShapeError: Half of the pairs of clips or more do not differ at all.
        """
        self._real_ND = checked_rows(real_ND)
        self._group_N = group_N
        self.width = median_distance(self._real_ND)
        if not self.width > 0:
            raise ShapeError("most real clips have the same embedding; KAD has no width for them")
        self._within_GG = self._sums(self._real_ND, self._real_ND)

    def distance(self, made_ND: NDArray[np.floating]) -> Matrix:
        """KAD of generated clips, in the order of the real ones: (1 + G,).

        Over all groups first, then without each; may be negative.

        Raises:
            ShapeError: The numbers or widths of the tables differ.
        """
        made = checked_rows(made_ND)
        if made.shape != self._real_ND.shape:
            raise ShapeError(
                f"one clip per real one, of one width, got {made.shape} for {self._real_ND.shape}"
            )
        within_GG, between_GG = self._sums(made, made), self._sums(self._real_ND, made)
        sizes = np.bincount(self._group_N)
        values = []
        for left_out in (-1, *range(len(sizes))):
            kept = np.arange(len(sizes)) != left_out
            n = int(sizes[kept].sum())
            square = np.ix_(kept, kept)
            inner = self._within_GG[square].sum() + within_GG[square].sum() - 2 * n  # k(x, x) = 1
            values.append(inner / (n * (n - 1)) - 2 * between_GG[square].sum() / n**2)
        return SCALE * np.array(values)

    def _sums(self, x_ND: Matrix, y_ND: Matrix) -> Matrix:
        """Sums of the kernel by pairs of groups."""
        num_groups = int(self._group_N.max()) + 1
        member_NG = np.eye(num_groups)[self._group_N]
        sums = np.zeros((num_groups, num_groups))
        tiles = [slice(k, k + _TILE_ROWS) for k in range(0, len(x_ND), _TILE_ROWS)]
        for rows, columns in product(tiles, tiles):
            kernel = np.exp(-_squared_distances(x_ND[rows], y_ND[columns]) / (2 * self.width**2))
            sums += member_NG[rows].T @ kernel @ member_NG[columns]
        return sums


def _squared_distances(x_ND: Matrix, y_ND: Matrix) -> Matrix:
    """Squared distances (N, N); those that rounding made negative count as 0."""
    squares = np.square(x_ND).sum(axis=1)[:, None] + np.square(y_ND).sum(axis=1)
    distances: Matrix = np.maximum(squares - 2 * x_ND @ y_ND.T, 0.0)
    if x_ND is y_ND:
        np.fill_diagonal(distances, 0.0)
    return distances
