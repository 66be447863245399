"""Seams between a given sound and a new part of it.

In:   the given sound and the new one over the same samples, and the range that is to be new.
Out:  the given sound with the new part in it; outside of soft edges, sample for sample.

Fades of several lengths are tried at places from 40 ms before a range's end to 0.25 s inside it,
and the smoothest transition is taken: the one whose level moves least over 20 ms. Near the end is
better, and so is where both sounds are alike. The gains keep the power for just that likeness: two
equal sounds fade linearly, two strange ones with equal power. Where one side is much louder, the
louder one fades evenly in dB: a sound that breaks off is heard more than one that dies away.

Shape suffixes: C channels, N samples, F frames of 5 ms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

EDGE_S = 0.08
"""No sample farther than this from a range's end differs from the given one."""
REACH_S = 0.25
"""Farther inside a range than this, but never in its middle third, all is new."""
_FADES_S = (0.04, 0.1, 0.2, 0.28)
_OUT_S = 0.04
_STEP_S, _FINE_S = 0.01, 0.0005
_FRAME_S = 0.005
_SIDE_FRAMES = 4
"""What is compared on both sides of a place: 20 ms."""
_FLOOR_DB = -70.0
_EVEN_DB = 6.0
"""Levels that differ by less need not fade evenly in dB."""
_TAPER = 0.2
"""Share of a long fade in which the rest goes to 0."""
_LATE_DB_PER_S, _UNLIKE_DB = 8.0, 1.0
"""What a place inside the range, and sounds that are not alike, cost in dB of a step."""
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
) -> tuple[Samples, Samples]:
    """Return the given sound with the samples [start, end) new, and soft edges.

    At the beginning and the end of the sound there is no edge.

    Args:
        given_CN: The sound.
        new_CN: Of the same shape; inside the range and around it.
        start: First new sample.
        end: Behind the last one.
        sample_rate_hz: Their rate.

    Returns:
        The sound, and the gain (N,) of the given one in it, 1 where nothing is new.
    """
    num_samples = given_CN.shape[1]
    new_N, kept_N = np.zeros(num_samples, np.float32), np.ones(num_samples, np.float32)
    new_N[start:end], kept_N[start:end] = 1, 0
    room = min((end - start) // 3, round(REACH_S * sample_rate_hz))
    if start > 0:
        fade = _best_fade(given_CN, new_CN, start, room, sample_rate_hz)
        fade.put(new_N, kept_N, start)
    if end < num_samples:
        # The same, seen from the other end.
        fade = _best_fade(
            given_CN[:, ::-1], new_CN[:, ::-1], num_samples - end, room, sample_rate_hz
        )
        fade.put(new_N[::-1], kept_N[::-1], num_samples - end)
    mixed_CN = given_CN * kept_N + new_CN * new_N
    untouched_N = new_N == 0
    mixed_CN[:, untouched_N] = given_CN[:, untouched_N]
    kept_N[untouched_N] = 1
    return np.asarray(mixed_CN, np.float32), kept_N


@dataclass(frozen=True, slots=True)
class _Fade:
    """Gains from one sample on: of the new sound, rising, and of the given one, falling."""

    first: int
    rise_N: Samples
    fall_N: Samples

    def put(self, new_N: Samples, kept_N: Samples, at: int) -> None:
        """Write the gains; between a range's beginning and a later fade the given sound stays."""
        new_N[at : self.first], kept_N[at : self.first] = 0, 1
        faded = slice(self.first, self.first + len(self.rise_N))
        new_N[faded], kept_N[faded] = self.rise_N, self.fall_N


def _best_fade(
    given_CN: Samples, new_CN: Samples, at: int, room: int, sample_rate_hz: int
) -> _Fade:
    """The smoothest transition near the beginning of a range."""
    frame = max(1, round(_FRAME_S * sample_rate_hz))
    around = 2 * _SIDE_FRAMES * frame
    begin = min(at, round(_OUT_S * sample_rate_hz))
    first = max(0, at - begin - around)
    part = slice(first, at + room + around)
    given_N, new_N = (x_CN[:, part].mean(axis=0).astype(np.float64) for x_CN in (given_CN, new_CN))
    best, least = _Fade(at, new_N[:0], new_N[:0]), math.inf
    longest = begin + room
    for fade_s in _FADES_S:
        size = min(round(fade_s * sample_rate_hz), longest)
        if size == 0:
            break
        stride = max(1, round(_STEP_S * sample_rate_hz))
        for place in range(at - begin, at + room - size + 1, stride):
            fade = _fade_at(given_N, new_N, place - first, size)
            step_db = _largest_step_db(given_N, new_N, fade, frame)
            late_s = max(0, place + size / 2 - at) / sample_rate_hz
            cost = step_db + _LATE_DB_PER_S * late_s
            cost += _UNLIKE_DB * (1 - _likeness(given_N, new_N, fade.first, size))
            if cost < least - 1e-9:
                best, least = fade, cost
        if size == longest:
            break
    fine = _aligned(given_N, new_N, best, at - begin - first, at + room - first, sample_rate_hz)
    return _Fade(fine.first + first, fine.rise_N, fine.fall_N)


def _aligned(
    given_N: NDArray[np.float64],
    new_N: NDArray[np.float64],
    fade: _Fade,
    begin: int,
    end: int,
    sample_rate_hz: int,
) -> _Fade:
    """The fade moved by less than a place to where both sounds are most alike."""
    size, reach = len(fade.rise_N), round(_STEP_S / 2 * sample_rate_hz)
    places = range(
        fade.first - reach, fade.first + reach + 1, max(1, round(_FINE_S * sample_rate_hz))
    )
    inside = [p for p in places if begin <= p <= end - size]
    if not size or not inside:
        return fade
    best = max(inside, key=lambda p: (_likeness(given_N, new_N, p, size), -abs(p - fade.first)))
    return _fade_at(given_N, new_N, best, size)


def _likeness(
    given_N: NDArray[np.float64], new_N: NDArray[np.float64], first: int, size: int
) -> float:
    """Correlation of both sounds, 0 to 1."""
    a_N, b_N = given_N[first : first + size], new_N[first : first + size]
    norm = math.sqrt(float((a_N @ a_N) * (b_N @ b_N)))
    return float(np.clip(float(a_N @ b_N) / norm, 0, 1)) if norm > 1e-9 else 0.0


def _fade_at(
    given_N: NDArray[np.float64], new_N: NDArray[np.float64], first: int, size: int
) -> _Fade:
    """The fade between both sounds at a place."""
    levels = []
    for sound_N in (given_N, new_N):
        power = float(np.mean(np.square(sound_N[first : first + size]))) if size else 0.0
        levels.append(max(_FLOOR_DB, 10 * math.log10(power + 1e-12)))
    step_db = levels[1] - levels[0]
    rise_N = (np.arange(size) + 0.5) / max(1, size)
    fall_N = 1 - rise_N
    if abs(step_db) < _EVEN_DB:
        likeness = _likeness(given_N, new_N, first, size)
        power_N = np.sqrt(rise_N**2 + fall_N**2 + 2 * likeness * rise_N * fall_N)
        return _Fade(
            first, (rise_N / power_N).astype(np.float32), (fall_N / power_N).astype(np.float32)
        )
    # The louder one moves evenly in dB, and ends at 0; the other one fills up the power.
    time_N = fall_N if step_db > 0 else rise_N
    loud_N = 10 ** (-abs(step_db) / 20 * time_N) * np.minimum(1, (1 - time_N) / _TAPER)
    loud_N, quiet_N = loud_N.astype(np.float32), np.sqrt(1 - loud_N**2).astype(np.float32)
    return _Fade(first, *((loud_N, quiet_N) if step_db > 0 else (quiet_N, loud_N)))


def _largest_step_db(
    given_N: NDArray[np.float64], new_N: NDArray[np.float64], fade: _Fade, frame: int
) -> float:
    """Largest change of the level between 20 ms and the next 20 ms, in a fade and around it."""
    size = len(fade.rise_N)
    around = 2 * _SIDE_FRAMES * frame
    begin, end = max(0, fade.first - around), fade.first + size + around
    mixed_N = new_N[begin:end].copy()
    mixed_N[: fade.first - begin] = given_N[begin : fade.first]
    faded = slice(fade.first - begin, fade.first - begin + size)
    same = slice(fade.first, fade.first + size)
    mixed_N[faded] = given_N[same] * fade.fall_N + new_N[same] * fade.rise_N
    num_frames = len(mixed_N) // frame
    if num_frames < 2 * _SIDE_FRAMES:
        return 0.0
    power_F = np.square(mixed_N[: num_frames * frame]).reshape(num_frames, frame).mean(axis=1)
    sums_F = np.concatenate([[0.0], power_F.cumsum()])
    mean_F = (sums_F[_SIDE_FRAMES:] - sums_F[:-_SIDE_FRAMES]) / _SIDE_FRAMES
    level_F = np.maximum(10 * np.log10(np.maximum(mean_F, 0) + 1e-12), _FLOOR_DB)
    return float(np.abs(level_F[_SIDE_FRAMES:] - level_F[:-_SIDE_FRAMES]).max())
