"""All onsets of a sound, their pairs with true onsets, and onset errors.

In:   mono waveforms; onset times in seconds.
Out:  onset times; numbers of one-to-one pairs; for each event, the offset of its own onset.

These definitions belong to `stage-v1` and are as fixed as those of `onset`, whose rise of
loudness they use:

*Onset*: a largest rise within 50 ms on either side that reaches `MIN_RISE` of the clip's
largest loudness (sum over bands), moved to the steepest point within 20 ms. `MIN_RISE` was set
on 180 training scenes' own sound (0.1 to 0.4 tried), where 0.2 gave the highest F1.

*Pairs*: the largest number of (found, true) pairs such that the two lie within the tolerance
and none is used twice. So an endless train of clicks has full recall and low precision.

*Own onset of an event*: the strongest onset between the midpoints to its true
neighbours, at most 0.5 s away. A train of equal clicks has no strongest one near the truth.

Shape suffixes: N samples, F frames of 2.5 ms, B bands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import maximum_filter1d

from omni2sound.bench.metrics.onset import STEP_S, is_silent, loudness_bands, rise_of
from omni2sound.errors import ShapeError

MIN_RISE = 0.2
OWN_REACH_S = 0.5

_APART_FRAMES = 20  # 50 ms
_SIDE_FRAMES = 8  # 20 ms


class Onsets:
    """The onsets of one sound."""

    def __init__(self, waveform_N: ArrayLike, sample_rate_hz: int) -> None:
        """Find the onsets.

        Args:
            waveform_N: Mono samples.
            sample_rate_hz: Sample rate, at least 8000.

        Raises:
            ShapeError: If the waveform is not (N,) with N >= 1.
            UserError: If it holds NaN or infinity.
        """
        self._times_s: tuple[float, ...] = ()
        self._rises: NDArray[np.float64] = np.zeros(0)
        if is_silent(waveform_N, sample_rate_hz):
            return
        loudness_FB = loudness_bands(np.asarray(waveform_N, np.float64), sample_rate_hz)
        rise_F = rise_of(loudness_FB, _SIDE_FRAMES)
        steep_F = rise_of(loudness_FB, 1)
        highest_F = maximum_filter1d(rise_F, 2 * _APART_FRAMES + 1)
        floor = MIN_RISE * float(loudness_FB.sum(axis=1).max())
        found: dict[int, float] = {}
        for peak in np.flatnonzero((rise_F == highest_F) & (rise_F >= floor)):
            first = max(0, int(peak) - _SIDE_FRAMES)
            at = first + int(steep_F[first : peak + _SIDE_FRAMES + 1].argmax())
            found[at] = max(found.get(at, 0.0), float(rise_F[peak]))
        self._times_s = tuple(at * STEP_S for at in sorted(found))
        self._rises = np.array([found[at] for at in sorted(found)])

    @property
    def times_s(self) -> tuple[float, ...]:
        """All onsets, in order of time."""
        return self._times_s

    def own_offsets_s(
        self, events_s: Sequence[float], others_s: Sequence[float] = ()
    ) -> list[float | None]:
        """Own onset of each event minus its true onset; None for an event without one.

        Args:
            events_s: True onsets of the events.
            others_s: Further true onsets, which only limit the search range of their neighbours.
        """
        bounds = sorted({*events_s, *others_s})
        reach = {t: [t - OWN_REACH_S, t + OWN_REACH_S] for t in bounds}
        for left, right in pairwise(bounds):
            middle = 0.5 * (left + right)
            reach[left][1] = min(reach[left][1], middle)
            reach[right][0] = max(reach[right][0], middle)
        times = np.array(self._times_s)
        offsets: list[float | None] = []
        for truth in events_s:
            low, high = reach[truth]
            near = np.flatnonzero((times >= low) & (times <= high))
            if not len(near):
                offsets.append(None)
                continue
            # Rises that differ by a rounding error are equal: the first of them counts.
            rises = self._rises[near]
            strongest = int(np.argmax(rises >= rises.max() * (1 - 1e-6)))
            offsets.append(float(times[near[strongest]] - truth))
        return offsets

    def num_outside(self, spans_s: Sequence[tuple[float, float]]) -> int:
        """Number of onsets that lie in none of the spans (first, last)."""
        return sum(
            not any(first <= time <= last for first, last in spans_s) for time in self._times_s
        )


def count_pairs(found_s: Sequence[float], true_s: Sequence[float], *, tolerance_s: float) -> int:
    """Largest number of one-to-one pairs within the tolerance.

    Both lists are in order of time, so pairing the earliest that can be paired is optimal.

    Raises:
        ShapeError: If a list is not in order.
    """
    for times in (found_s, true_s):
        if any(a > b for a, b in pairwise(times)):
            raise ShapeError("onsets must be in order of time; sort them")
    pairs = i = j = 0
    while i < len(found_s) and j < len(true_s):
        if abs(found_s[i] - true_s[j]) <= tolerance_s + 1e-9:
            pairs, i, j = pairs + 1, i + 1, j + 1
        elif found_s[i] < true_s[j]:
            i += 1
        else:
            j += 1
    return pairs


@dataclass(frozen=True, kw_only=True, slots=True)
class OnsetErrors:
    """Distribution of |onset - truth| over the clips that have an onset.

    Attributes:
        num_clips: Clips in all.
        num_without_onset: Clips without an onset (silence); they count in no quantile.
        median_s: Median absolute error; NaN if no clip has an onset.
        p90_s: 90th percentile of the absolute error; NaN likewise.
        median_signed_s: Median of onset - truth: positive is late; NaN likewise.
    """

    num_clips: int
    num_without_onset: int
    median_s: float
    p90_s: float
    median_signed_s: float


def onset_errors(onsets_s: Sequence[float | None], truths_s: Sequence[float]) -> OnsetErrors:
    """Errors of onsets, one per clip; None is a clip without an onset.

    Raises:
        ShapeError: If the lengths differ.
    """
    if len(onsets_s) != len(truths_s):
        raise ShapeError(f"one truth per onset, got {len(onsets_s)} and {len(truths_s)}")
    errors = np.array(
        [
            onset - truth
            for onset, truth in zip(onsets_s, truths_s, strict=True)
            if onset is not None
        ]
    )
    absolute = np.abs(errors)
    found = len(errors) > 0
    return OnsetErrors(
        num_clips=len(truths_s),
        num_without_onset=len(truths_s) - len(errors),
        median_s=float(np.median(absolute)) if found else float("nan"),
        p90_s=float(np.quantile(absolute, 0.9)) if found else float("nan"),
        median_signed_s=float(np.median(errors)) if found else float("nan"),
    )
