"""Statistics of scores: intervals for means, differences and ratios, and onset errors.

In:   one number per clip (a hit is 1.0, a miss 0.0), or onset times in seconds.
Out:  `Estimate` with a 95 % interval; `OnsetErrors`.

All intervals are percentile bootstrap over clips, in float64, from a fixed seed. Two systems
that were scored on the same clips must be compared with the *paired* functions: the difference
of two separate intervals is wider than what the data say. A rate of exactly 0 or 1 has no
spread to resample, so its interval has no width: that is the method's limit, not certainty.

Shape suffixes: N clips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omni2sound.bench.stats.estimate import Estimate
from omni2sound.errors import ShapeError

__all__ = [
    "bootstrap_difference",
    "bootstrap_mean",
    "bootstrap_pooled_median",
    "bootstrap_ratio",
    "bootstrap_ratio_difference",
]

NUM_RESAMPLES = 10_000
NUM_MEDIAN_RESAMPLES = 2_000
LEVEL = 0.95
_CHUNK_DRAWS = 4_000_000  # indices in memory at once, 32 MB


def bootstrap_mean(values_N: ArrayLike, *, seed: int = 0) -> Estimate:
    """The mean of one number per clip, with its 95 % interval.

    Args:
        values_N: One finite number per clip, at least one.
        seed: Of the resampling; the default makes a table repeatable.

    Raises:
        ShapeError: If `values_N` is empty, not one-dimensional or not finite.
    """
    values = _checked(values_N)
    return _bootstrap((values,), lambda means: means[0], seed)


def bootstrap_difference(a_N: ArrayLike, b_N: ArrayLike, *, seed: int = 0) -> Estimate:
    """mean(a) - mean(b), paired: a and b are scores of the same clips in the same order.

    Raises:
        ShapeError: If the lengths differ, or as `bootstrap_mean`.
    """
    return bootstrap_mean(np.subtract(*_checked_pair(a_N, b_N)), seed=seed)


def bootstrap_ratio(a_N: ArrayLike, b_N: ArrayLike, *, seed: int = 0) -> Estimate:
    """mean(a) / mean(b) of non-negative scores, paired as in `bootstrap_difference`.

    A denominator of 0 gives infinity (also 0 / 0: nothing is then known of the ratio, and
    the upper end of an interval is where that belongs).

    Raises:
        ShapeError: If the lengths differ, or as `bootstrap_mean`.
    """
    return _bootstrap(_checked_pair(a_N, b_N), _ratio, seed)


def bootstrap_ratio_difference(
    a: tuple[ArrayLike, ArrayLike], b: tuple[ArrayLike, ArrayLike]
) -> Estimate:
    """Ratio of sums of a minus that of b, such as two systems' onset F1 on the same clips.

    Args:
        a: Numbers (N,) above and below the line; those below are positive.
        b: Those of the other system on the same clips, in the same order.

    Raises:
        ShapeError: If lengths differ, or a number is not finite, or one below not positive.
    """
    columns = [*_checked_pair(*a), *_checked_pair(*b)]
    _checked_pair(columns[0], columns[2])
    if not (columns[1] > 0).all() or not (columns[3] > 0).all():
        raise ShapeError("expected positive numbers below the line of each clip's ratio")
    return _bootstrap(columns, lambda means: means[0] / means[1] - means[2] / means[3], 0)


def bootstrap_pooled_median(values_per_clip: Sequence[Sequence[float]]) -> Estimate:
    """The median of all clips' values together; clips are resampled whole.

    Args:
        values_per_clip: Any number of finite values each, one or more in all.

    Raises:
        ShapeError: If there is no value, or one is not finite.
    """
    pooled = _checked([v for values in values_per_clip for v in values])
    most = max(len(values) for values in values_per_clip)
    table = np.full((len(values_per_clip), most), np.nan)
    for row, values in zip(table, values_per_clip, strict=True):
        row[: len(values)] = values
    rng = np.random.default_rng(0)
    medians = []
    for _ in range(NUM_MEDIAN_RESAMPLES):
        drawn = table[rng.integers(len(table), size=len(table))].ravel()
        drawn = drawn[~np.isnan(drawn)]
        if len(drawn):  # a draw of clips without any value says nothing
            medians.append(float(np.median(drawn)))
    tail = (1 - LEVEL) / 2
    return Estimate(
        value=float(np.median(pooled)),
        low=float(np.quantile(medians, tail)),
        high=float(np.quantile(medians, 1 - tail)),
        num_clips=len(values_per_clip),
    )


Statistic = Callable[[Sequence[NDArray[np.float64]]], NDArray[np.float64]]


def _bootstrap(columns: Sequence[NDArray[np.float64]], statistic: Statistic, seed: int) -> Estimate:
    """`statistic` of the columns' means; every resample draws the same clips in all columns."""
    num_clips = len(columns[0])
    rng = np.random.default_rng(seed)
    rows_per_chunk = max(1, _CHUNK_DRAWS // num_clips)
    parts = []
    for start in range(0, NUM_RESAMPLES, rows_per_chunk):
        num_rows = min(rows_per_chunk, NUM_RESAMPLES - start)
        drawn = rng.integers(num_clips, size=(num_rows, num_clips))
        parts.append(statistic([column[drawn].mean(axis=1) for column in columns]))
    tail = (1 - LEVEL) / 2
    # "lower" and "higher" pick drawn values: interpolation between infinities is NaN.
    resampled = np.concatenate(parts)
    return Estimate(
        value=float(statistic([np.array([column.mean()]) for column in columns])[0]),
        low=float(np.quantile(resampled, tail, method="lower")),
        high=float(np.quantile(resampled, 1 - tail, method="higher")),
        num_clips=num_clips,
    )


def _ratio(means: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    top, bottom = means
    return np.divide(top, bottom, out=np.full_like(top, np.inf), where=bottom != 0)


def _checked(values_N: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(values_N, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise ShapeError(f"expected finite numbers (N,) with N >= 1, got shape {values.shape}")
    return values


def _checked_pair(
    a_N: ArrayLike, b_N: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = _checked(a_N), _checked(b_N)
    if len(a) != len(b):
        raise ShapeError(f"paired scores need one clip per place, got {len(a)} and {len(b)}")
    return a, b
