"""Seams between a given sound and a new part of it.

In:   the given sound and the new one over the same samples, and the range that is to be new.
Out:  the given sound with the new part in it; outside of soft edges, sample for sample.

A seam lies where both sounds are most alike, within 20 ms of the range's end, and fades over 40 ms
by the gains that keep the power for just that likeness: two equal sounds fade linearly, two strange
ones with equal power. Where one side is much louder, the louder one fades evenly in dB, for up to
0.25 s and inside the range: a sound that breaks off is heard more than one that dies away.

Shape suffixes: C channels, N samples.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

EDGE_S = 0.08
"""No sample farther than this from a range's end differs from the given one."""
_FADE_S = 0.04
_SEARCH_S = 0.02
_STEP_S = 0.0005
_SIDE_S = 0.04
"""What is compared on both sides of a range's end."""
_FLOOR_DB = -70.0
_EVEN_DB = 6.0
"""Levels that differ by less need no longer fade."""
_S_PER_DB, _MAX_FADE_S = 0.006, 0.25
_TAPER = 0.2
"""Share of a long fade in which the rest goes to 0."""
_MAX_GAIN_DB = 6.0
_SILENCE = 1e-3
"""Root mean square of a context that says nothing about the level."""


def level_gain(given_N: Samples, again_N: Samples) -> float:
    """Gain that brings a decoded context to the level of the given one.

    Args:
        given_N: Samples around the range.
        again_N: The same through the autoencoder.
    """
    wanted, got = (float(np.sqrt(np.mean(np.square(x)))) if x.size else 0.0
                   for x in (given_N, again_N))  # fmt: skip
    if min(wanted, got) < _SILENCE:
        return 1.0
    most = 10 ** (_MAX_GAIN_DB / 20)
    return float(np.clip(wanted / got, 1 / most, most))


def insert(
    given_CN: Samples, new_CN: Samples, *, start: int, end: int, sample_rate_hz: int
) -> Samples:
    """Return the given sound with the samples [start, end) new, and soft edges.

    At the beginning and the end of the sound there is no edge.

    Args:
        given_CN: The sound.
        new_CN: Of the same shape; inside the range and around it.
        start: First new sample.
        end: Behind the last one.
        sample_rate_hz: Their rate.
    """
    num_samples = given_CN.shape[1]
    new_N, kept_N = np.zeros(num_samples, np.float32), np.ones(num_samples, np.float32)
    new_N[start:end], kept_N[start:end] = 1, 0
    room, side = (end - start) // 4, max(1, round(_SIDE_S * sample_rate_hz))
    if start > 0:
        first, last, likeness = _seam(given_CN, new_CN, start, sample_rate_hz, room)
        step_db = _step_db(
            new_CN[:, start : start + side], given_CN[:, max(0, start - side) : start], side
        )
        last = max(last, min(first + _length(step_db, sample_rate_hz), start + 2 * room))
        new_N[first:last], kept_N[first:last] = _fade(last - first, likeness, step_db)
    if end < num_samples:
        first, last, likeness = _seam(given_CN, new_CN, end, sample_rate_hz, room)
        step_db = _step_db(new_CN[:, max(0, end - side) : end], given_CN[:, end : end + side], side)
        first = min(first, max(last - _length(step_db, sample_rate_hz), end - 2 * room))
        new_N[end:last], kept_N[end:last] = 0, 1
        rise_N, fall_N = _fade(last - first, likeness, step_db)
        new_N[first:last], kept_N[first:last] = rise_N[::-1], fall_N[::-1]
    mixed_CN = given_CN * kept_N + new_CN * new_N
    untouched_N = new_N == 0
    mixed_CN[:, untouched_N] = given_CN[:, untouched_N]
    return np.asarray(mixed_CN, np.float32)


def _step_db(new_CN: Samples, given_CN: Samples, side: int) -> float:
    """Level of the new sound over that of the given one; 0 where too little is given to tell."""
    if given_CN.shape[1] < side:
        return 0.0
    return _level_db(new_CN) - _level_db(given_CN)


def _level_db(samples_CN: Samples) -> float:
    power = float(np.mean(np.square(samples_CN, dtype=np.float64))) if samples_CN.size else 0.0
    return max(_FLOOR_DB, 10 * math.log10(power + 1e-12))


def _length(step_db: float, sample_rate_hz: int) -> int:
    """Samples of a fade between two levels."""
    seconds = np.clip(abs(step_db) * _S_PER_DB, _FADE_S, _MAX_FADE_S)
    return round(float(seconds) * sample_rate_hz)


def _fade(num_samples: int, likeness: float, step_db: float) -> tuple[Samples, Samples]:
    """Gains of the new sound, rising, and of the given one, falling.

    Args:
        num_samples: Length.
        likeness: Of both sounds, 0 to 1.
        step_db: Level of the new sound over that of the given one.
    """
    rise_N = (np.arange(num_samples) + 0.5) / num_samples
    fall_N = 1 - rise_N
    if abs(step_db) < _EVEN_DB:
        power_N = np.sqrt(rise_N**2 + fall_N**2 + 2 * likeness * rise_N * fall_N)
        return (rise_N / power_N).astype(np.float32), (fall_N / power_N).astype(np.float32)
    # The louder one moves evenly in dB, and ends at 0; the other one fills up the power.
    time_N = fall_N if step_db > 0 else rise_N
    loud_N = 10 ** (-abs(step_db) / 20 * time_N) * np.minimum(1, (1 - time_N) / _TAPER)
    quiet_N = np.sqrt(1 - loud_N**2)
    gains = (loud_N, quiet_N) if step_db > 0 else (quiet_N, loud_N)
    return gains[0].astype(np.float32), gains[1].astype(np.float32)


def _seam(
    given_CN: Samples, new_CN: Samples, at: int, sample_rate_hz: int, room: int
) -> tuple[int, int, float]:
    """First sample of the fade near `at`, the one behind it, and how alike the sounds are there."""
    num_samples = given_CN.shape[1]
    half = max(1, min(room, round(_FADE_S / 2 * sample_rate_hz)))
    step = max(1, round(_STEP_S * sample_rate_hz))
    reach = min(room, round(_SEARCH_S * sample_rate_hz)) // step
    given_N, new_N = given_CN.mean(axis=0), new_CN.mean(axis=0)
    best = (max(0, at - half), min(num_samples, at + half), 0.0)
    best_score = -1.0
    for offset in sorted(range(-reach, reach + 1), key=abs):
        first, last = at + offset * step - half, at + offset * step + half
        if first < 0 or last > num_samples:
            continue
        a, b = given_N[first:last].astype(np.float64), new_N[first:last].astype(np.float64)
        norm = float(np.sqrt((a @ a) * (b @ b)))
        score = float(a @ b) / norm if norm > 1e-9 else 0.0
        if score > best_score + 1e-6:
            best, best_score = (first, last, float(np.clip(score, 0, 1))), score
    return best
