"""Bootstrap intervals for means, differences, ratios and medians over clips.

In:   one number per clip (a hit is 1.0, a miss 0.0).
Out:  `Estimate` with a 95 % interval.

All intervals are percentile bootstrap over clips, in float64, from a fixed seed. Two systems
that were scored on the same clips must be compared with the *paired* functions: the difference
of two separate intervals is wider than the data justify. A rate of exactly 0 or 1 has no
spread to resample, so its interval has no width: that is the method's limit, not certainty.

Shape suffixes: N clips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omni2sound.bench.stats.estimate import Estimate
from omni2sound.errors import ShapeError

NUM_RESAMPLES = 10_000
NUM_MEDIAN_RESAMPLES = 2_000
LEVEL = 0.95
_CHUNK_DRAWS = 4_000_000  # indices in memory at once, 32 MB

Array = NDArray[np.float64]


def bootstrap_mean(values_N: ArrayLike, *, seed: int = 0) -> Estimate:
    """Mean of one number per clip.

    Args:
        values_N: One finite number per clip, at least one.
        seed: Seed of the resampling.

    Raises:
        ShapeError: If `values_N` is empty, not one-dimensional or not finite.
    """
    return bootstrap_means((_checked(values_N),), lambda means: means[0], seed)


def bootstrap_difference(a_N: ArrayLike, b_N: ArrayLike) -> Estimate:
    """Paired mean(a) - mean(b): scores of the same clips in the same order.

    Raises:
        ShapeError: If the lengths differ, or as `bootstrap_mean`.
    """
    return bootstrap_mean(np.subtract(*_checked_pair(a_N, b_N)))


def bootstrap_ratio(a_N: ArrayLike, b_N: ArrayLike) -> Estimate:
    """Paired mean(a) / mean(b) of non-negative scores.

    A denominator of 0 gives infinity (also 0 / 0: nothing is then known of the ratio, and
    the upper end of an interval is where that belongs).

    Raises:
        ShapeError: If the lengths differ, or as `bootstrap_mean`.
    """
    return bootstrap_means(_checked_pair(a_N, b_N), lambda means: ratio_of(*means))


def bootstrap_pooled_median(values_per_clip: Sequence[Sequence[float]]) -> Estimate:
    """Median of all clips' values together; clips are resampled whole.

    Args:
        values_per_clip: Any number of finite values per clip, at least one in total.

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
        if len(drawn):  # a draw of clips without any value has no median
            medians.append(float(np.median(drawn)))
    value = float(np.median(pooled))
    return percentile_interval(value, np.array(medians), len(table), interpolate=True)


def percentile_interval(
    value: float, resampled_R: Array, num_clips: int, *, interpolate: bool = False
) -> Estimate:
    """Estimate from resampled values: their central 95 %.

    Args:
        value: The value over all clips.
        resampled_R: The value in each resample.
        num_clips: Number of clips behind it.
        interpolate: Interpolate between resampled values; not for values that may be infinite,
            between which interpolation is NaN.
    """
    tail = (1 - LEVEL) / 2
    return Estimate(
        value=value,
        low=float(np.quantile(resampled_R, tail, method="linear" if interpolate else "lower")),
        high=float(
            np.quantile(resampled_R, 1 - tail, method="linear" if interpolate else "higher")
        ),
        num_clips=num_clips,
    )


def ratio_of(numerator: Array, denominator: Array, *, empty: float = np.inf) -> Array:
    """Divide elementwise; `empty` where the denominator is 0."""
    full = np.full_like(numerator, empty)
    return np.divide(numerator, denominator, out=full, where=denominator != 0)


Statistic = Callable[[Sequence[Array]], Array]


def bootstrap_means(columns: Sequence[Array], statistic: Statistic, seed: int = 0) -> Estimate:
    """`statistic` of the columns' means; every resample draws the same clips in all columns."""
    num_clips = len(columns[0])
    rng = np.random.default_rng(seed)
    rows_per_chunk = max(1, _CHUNK_DRAWS // num_clips)
    parts = []
    for start in range(0, NUM_RESAMPLES, rows_per_chunk):
        num_rows = min(rows_per_chunk, NUM_RESAMPLES - start)
        drawn = rng.integers(num_clips, size=(num_rows, num_clips))
        parts.append(statistic([column[drawn].mean(axis=1) for column in columns]))
    value = float(statistic([np.array([column.mean()]) for column in columns])[0])
    return percentile_interval(value, np.concatenate(parts), num_clips)


def _checked(values_N: ArrayLike) -> Array:
    values = np.asarray(values_N, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise ShapeError(f"expected finite numbers (N,) with N >= 1, got shape {values.shape}")
    return values


def _checked_pair(a_N: ArrayLike, b_N: ArrayLike) -> tuple[Array, Array]:
    a, b = _checked(a_N), _checked(b_N)
    if len(a) != len(b):
        raise ShapeError(f"paired scores need one clip per place, got {len(a)} and {len(b)}")
    return a, b
