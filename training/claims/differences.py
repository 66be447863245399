"""Differences between two recipes over the same seeds and test scenes, and what they can tell.

In:   a measure of both recipes for each seed and each scene, as numerator and denominator.
Out:  `Difference`: the value, its interval and p-value over seeds *and* scenes, the share of each
      source in its variance, and how many seeds would have decided it.

Seeds and scenes are crossed: every seed is measured on the same scenes. A score is a ratio of sums,
so its difference is replaced by the mean of each cell's influence on it (the delta method):

    y_SN = d + seed_S + scene_N + rest_SN

The variance of d is that of the three parts (two-way analysis of variance without repetition), and
the interval is Student's with the degrees of freedom of Satterthwaite: near S - 1 where seeds
dominate, so three seeds are not taken for many. Beside it stands the hierarchical bootstrap: seeds
are drawn, then scenes; with three seeds it has 10 combinations to offer, and is too narrow where
seeds dominate and too wide where the rest does.

Shape suffixes: S seeds, N scenes, 2 numerator and denominator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

Table = NDArray[np.float64]
LEVEL = 0.05
POWER = 0.8
NUM_RESAMPLES = 4000
MOST_SEEDS = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """Variance of one cell of y_SN, by its source; never negative."""

    seed: float
    scene: float
    rest: float

    def standard_error(self, num_seeds: int, num_scenes: int) -> float:
        """Standard error of a difference over so many seeds and scenes."""
        pairs = num_seeds * num_scenes
        return float(np.sqrt(self.seed / num_seeds + self.scene / num_scenes + self.rest / pairs))

    def freedom(self, num_seeds: int, num_scenes: int) -> float:
        """Degrees of freedom of that standard error: Satterthwaite's, at most those of the seeds.

        Few seeds estimate their own variance badly; where they underestimate it, Satterthwaite's
        number jumps to that of the scenes, and small p-values come several times too often.
        """
        s, n = num_seeds, num_scenes
        by_seed = self.seed / s + self.rest / (s * n)
        by_scene = self.scene / n + self.rest / (s * n)
        both = self.rest / (s * n)
        spread = by_seed**2 / (s - 1) + by_scene**2 / (n - 1) + both**2 / ((s - 1) * (n - 1))
        total = by_seed + by_scene - both
        return s - 1.0 if spread == 0 else min(s - 1.0, float(total**2 / spread))


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A difference A - B, and how certain it is."""

    a: float
    b: float
    value: float
    low: float
    high: float
    """95 % interval over seeds and scenes."""
    bootstrap: tuple[float, float]
    """The same by the hierarchical bootstrap."""
    p: float
    parts: Parts
    num_seeds: int
    num_scenes: int
    by_seed: tuple[float, ...]
    """The difference of each seed."""


def compare(a_SN2: Table, b_SN2: Table, *, resamples: int = NUM_RESAMPLES) -> Difference:
    """Compare two recipes.

    Args:
        a_SN2: Of the one recipe; at least two seeds and two scenes, with a sum of denominators > 0.
        b_SN2: Of the other one, for the same seeds and scenes.
        resamples: Number of resamples of the bootstrap.
    """
    value_a, value_b = (float(ratio(x[None])[0]) for x in (a_SN2, b_SN2))
    y_SN = influence(a_SN2) - influence(b_SN2)
    num_seeds, num_scenes = y_SN.shape
    parts = variance_parts(y_SN)
    error = parts.standard_error(num_seeds, num_scenes)
    value = value_a - value_b
    if error == 0:
        low = high = value
        p = 1.0 if value == 0 else 0.0
    else:
        freedom = parts.freedom(num_seeds, num_scenes)
        half = error * float(student_t.ppf(1 - LEVEL / 2, freedom))
        low, high = value - half, value + half
        p = float(2 * student_t.sf(abs(value) / error, freedom))
    by_seed_S = ratio(a_SN2[:, None]) - ratio(b_SN2[:, None])
    return Difference(
        a=value_a,
        b=value_b,
        value=value,
        low=low,
        high=high,
        bootstrap=_bootstrap(a_SN2, b_SN2, resamples),
        p=p,
        parts=parts,
        num_seeds=num_seeds,
        num_scenes=num_scenes,
        by_seed=tuple(by_seed_S.tolist()),
    )


def ratio(tables_RSN2: Table) -> Table:
    """Mean over seeds of the ratio of sums over scenes, for each of R tables."""
    sums = tables_RSN2.sum(axis=2)
    with np.errstate(invalid="ignore"):  # a resample may hold no scene that counts
        ratios: Table = (sums[..., 0] / sums[..., 1]).mean(axis=1)
    return ratios


def influence(x_SN2: Table) -> Table:
    """Influence (S, N) of each cell on the ratio of its seed, so that its mean is the ratio."""
    sums_S12 = x_SN2.sum(axis=1, keepdims=True)
    ratio_S1 = sums_S12[..., 0] / sums_S12[..., 1]
    scale_S1 = sums_S12[..., 1] / x_SN2.shape[1]
    found: Table = ratio_S1 + (x_SN2[..., 0] - ratio_S1 * x_SN2[..., 1]) / scale_S1
    return found


def variance_parts(y_SN: Table) -> Parts:
    """Two-way analysis of variance without repetition, estimates below 0 set to 0."""
    num_seeds, num_scenes = y_SN.shape
    rows_S1, columns_1N = y_SN.mean(axis=1, keepdims=True), y_SN.mean(axis=0, keepdims=True)
    left_SN = y_SN - rows_S1 - columns_1N + y_SN.mean()
    rest = float(np.square(left_SN).sum() / ((num_seeds - 1) * (num_scenes - 1)))
    seed = float(rows_S1.var(ddof=1)) - rest / num_scenes
    scene = float(columns_1N.var(ddof=1)) - rest / num_seeds
    return Parts(seed=max(seed, 0.0), scene=max(scene, 0.0), rest=rest)


def _bootstrap(a_SN2: Table, b_SN2: Table, resamples: int) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    num_seeds, num_scenes = a_SN2.shape[:2]
    seeds = rng.integers(num_seeds, size=(resamples, num_seeds, 1))
    scenes = rng.integers(num_scenes, size=(resamples, 1, num_scenes))
    drawn = ratio(a_SN2[seeds, scenes]) - ratio(b_SN2[seeds, scenes])
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.quantile(drawn, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def detectable(parts: Parts, num_seeds: int, num_scenes: int, level: float) -> float:
    """Smallest difference that so many seeds and scenes find with a power of 80 %.

    Args:
        parts: Variance by source.
        num_seeds: Number of seeds, two or more.
        num_scenes: Number of scenes, two or more.
        level: Level of the test, after division by the number of comparisons.
    """
    freedom = parts.freedom(num_seeds, num_scenes)
    reach = float(student_t.ppf(1 - level / 2, freedom) + student_t.ppf(POWER, freedom))
    return reach * parts.standard_error(num_seeds, num_scenes)


def seeds_needed(difference: Difference, num_scenes: int, level: float) -> int | None:
    """Number of seeds with which a true difference of this size is found; None above 1000."""
    for num_seeds in range(2, MOST_SEEDS + 1):
        if detectable(difference.parts, num_seeds, num_scenes, level) <= abs(difference.value):
            return num_seeds
    return None
