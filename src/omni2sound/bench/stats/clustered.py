"""Intervals for clips that come in groups, and for means over all mismatched pairs.

In:   the group of each clip; a number per clip, or per pair of clips.
Out:  `Estimate` with a 95 % interval.

Prompts of one class share its few recordings and the tagger's bias for it, so they are not
independent: groups are drawn first, then clips within each drawn group (a two-stage bootstrap; a
little too wide rather than too narrow). If clips are independent, each is a group of its own.

A mean over all mismatched pairs (a sound, another clip's truth) changes with either, so the clips
are drawn once for both axes. A clip, or group, that is drawn twice makes no pair with its copy:
such pairs are not mismatched. Pairs within a group keep the share of all pairs that they have by
design.

Shape suffixes: N clips, R resamples.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omni2sound.bench.stats.bootstrap import NUM_RESAMPLES, Array, percentile_interval, ratio_of
from omni2sound.bench.stats.estimate import Estimate
from omni2sound.errors import ShapeError


class Resamples:
    """Number of times that each resample draws each clip; shared by all its estimates."""

    def __init__(self, groups_N: Sequence[Hashable], *, num_resamples: int = NUM_RESAMPLES) -> None:
        """Draw groups, then clips within them.

        Args:
            groups_N: Group of each clip.
            num_resamples: Number of resamples, R.

        Raises:
            ShapeError: If there are fewer than two clips.
        """
        if len(groups_N) < 2:
            raise ShapeError(f"resampling needs at least 2 clips, got {len(groups_N)}")
        names = list(dict.fromkeys(groups_N))
        group_N = np.array([names.index(name) for name in groups_N])
        rng = np.random.default_rng(0)
        times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), num_resamples)
        self._weights_RN = np.zeros((num_resamples, len(groups_N)))
        self._same_NN = group_N[:, None] == group_N
        self._draws: list[tuple[NDArray[np.intp], NDArray[np.intp], Array]] = []
        for group in range(len(names)):
            clips = np.flatnonzero(group_N == group)
            resample = np.repeat(np.arange(num_resamples), times[:, group])
            drawn = rng.multinomial(len(clips), np.full(len(clips), 1 / len(clips)), len(resample))
            weights = np.zeros((num_resamples, len(clips)))
            np.add.at(weights, resample, drawn)
            self._weights_RN[:, clips] = weights
            if len(clips) > 1:
                self._draws.append((clips, resample, drawn.astype(np.float64)))

    def mean(self, values_N: ArrayLike) -> Estimate:
        """Mean of one number per clip."""
        values = self._checked(values_N, 1)
        return self._estimate(float(values.mean()), self._means(values))

    def ratio(self, a_N: ArrayLike, b_N: ArrayLike) -> Estimate:
        """Paired mean(a) / mean(b); infinity where mean(b) is 0."""
        a, b = self._checked(a_N, 1), self._checked(b_N, 1)
        value = ratio_of(a.mean(keepdims=True), b.mean(keepdims=True))
        return self._estimate(float(value[0]), ratio_of(self._means(a), self._means(b)))

    def mismatched_pairs(self, values_NN: ArrayLike) -> Estimate:
        """Mean of everything off the diagonal."""
        values = self._checked(values_NN, 2)
        return self._estimate(_off_diagonal(values), self._mismatched_means(values))

    def above_mismatched_pairs(self, values_NN: ArrayLike) -> Estimate:
        """Mean of the diagonal minus the mean of everything off it."""
        values = self._checked(values_NN, 2)
        own = np.diagonal(values)
        resampled = self._means(own) - self._mismatched_means(values)
        return self._estimate(float(own.mean()) - _off_diagonal(values), resampled)

    def over_mismatched_pairs(self, values_NN: ArrayLike) -> Estimate:
        """Mean of the diagonal over the mean of everything off it; infinity where that is 0."""
        values = self._checked(values_NN, 2)
        own = np.diagonal(values)
        value = ratio_of(own.mean(keepdims=True), np.array([_off_diagonal(values)]))
        resampled = ratio_of(self._means(own), self._mismatched_means(values))
        return self._estimate(float(value[0]), resampled)

    def _means(self, values_N: Array) -> Array:
        means: Array = self._weights_RN @ values_N / self._weights_RN.sum(axis=1)
        return means

    def _mismatched_means(self, values_NN: Array) -> Array:
        """Mean over mismatched pairs (R,); NaN for a resample without any pair of a kind."""
        num_clips = len(values_NN)
        share = (self._same_NN.sum() - num_clips) / (num_clips * (num_clips - 1))
        means = np.zeros(len(self._weights_RN))
        if share > 0:
            total, count = np.zeros_like(means), np.zeros_like(means)
            for clips, resample, drawn in self._draws:
                within = values_NN[np.ix_(clips, clips)] * ~np.eye(len(clips), dtype=bool)
                of_draw = ((drawn @ within) * drawn).sum(axis=1)
                pairs = len(clips) ** 2 - np.square(drawn).sum(axis=1)
                total += np.bincount(resample, of_draw, len(means))
                count += np.bincount(resample, pairs, len(means))
            means += share * ratio_of(total, count, empty=np.nan)
        if share < 1:
            weights, other = self._weights_RN, ~self._same_NN
            total = ((weights @ (values_NN * other)) * weights).sum(axis=1)
            count = ((weights @ other.astype(np.float64)) * weights).sum(axis=1)
            means += (1 - share) * ratio_of(total, count, empty=np.nan)
        return means

    def _estimate(self, value: float, resampled_R: Array) -> Estimate:
        known = resampled_R[~np.isnan(resampled_R)]
        if len(known) == 0:
            raise ShapeError("no resample holds a pair of clips")
        return percentile_interval(value, known, len(self._same_NN))

    def _checked(self, values: ArrayLike, num_axes: int) -> Array:
        array = np.asarray(values, dtype=np.float64)
        expected = (len(self._same_NN),) * num_axes
        if array.shape != expected or not np.isfinite(array).all():
            raise ShapeError(f"expected finite numbers {expected}, got shape {array.shape}")
        return array


def _off_diagonal(values_NN: Array) -> float:
    n = len(values_NN)
    return float((values_NN.sum() - np.trace(values_NN)) / (n * (n - 1)))
