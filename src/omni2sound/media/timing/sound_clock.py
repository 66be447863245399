"""Where blocks of decoded sound stand, by their timestamps.

In:   each block's timestamp and length, in samples.
Out:  `Piece`: runs of blocks without a hole, each with its place and, where the sound card's clock
      ran fast or slow, the mapping that a resampler follows.

A timestamp is a measurement: containers round it (Matroska to 1 ms), recorders let it jitter. The
number of samples is exact, as long as none is missing. So blocks follow each other without a gap
until timestamps say, for several blocks in a row, that they do not: a step is a hole or a
repetition, a slope is a clock that drifts.

Shape suffixes: C channels, N samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import chain, pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

_MIN_STEP_S = 0.001
"""The smallest step that is a hole; smaller ones count as drift."""
_MIN_DRIFT_S = 0.001
_NEIGHBOURS = 8
"""Blocks on each side that must agree on a step."""
_KNOT_S = 5.0
"""Distance of the points between which the clock's error is taken for a straight line."""
_MIN_FITTED_BLOCKS = 16
_MESS_S = 0.5
"""A hole of this length and as long a repetition are none: such timestamps are damaged."""
_MAX_SLOPE = 0.05
"""A clock that is wrong by more is no clock; such timestamps are damaged."""

_TAPS, _PHASES = 32, 1024
_CHUNK = 1 << 14


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Piece:
    """A run of blocks that follow each other without a hole."""

    first: int
    """Number of its first block."""
    stop: int
    """Number of the block behind its last one."""
    at: int
    """Place of its first sample, without a warp."""
    warp: Warp | None = None

    def span(self, lengths: Sequence[int]) -> tuple[int, int]:
        """Return the place of its first sample, and of the one behind its last.

        Args:
            lengths: Samples of each block of the track.
        """
        if self.warp is not None:
            return self.warp.span
        return self.at, self.at + sum(lengths[self.first : self.stop])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Warp:
    """Which sample of a piece is heard when: straight lines between points."""

    sources: NDArray[np.float64]
    """Sample in the piece, rising."""
    places: NDArray[np.float64]
    """Its place on the timeline, in samples, rising."""

    @property
    def span(self) -> tuple[int, int]:
        """Place of the first sample, and of the one behind the last."""
        begin = int(np.ceil(self.places[0]))
        return begin, max(begin + 1, round(float(self.places[-1])))

    def apply(
        self, piece_CN: NDArray[np.float32], *, skipped: int = 0
    ) -> tuple[int, NDArray[np.float32]]:
        """Resample a piece (C, N); return the place of the first sample, and the samples.

        Args:
            piece_CN: The piece without ...
            skipped: ... so many samples at its beginning.
        """
        begin = int(np.ceil(np.interp(skipped, self.sources, self.places)))
        stop = max(begin + 1, self.span[1])
        return begin, _interpolate(piece_CN, self._sources_at(begin, stop) - skipped)

    def apply_to(self, blocks: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Resample a piece that comes in blocks (C, n); yield its samples from the first on."""
        place, stop = self.span
        held: list[NDArray[np.float32]] = []
        first = end = 0  # of what is held, in samples of the piece
        for block_CN in chain(blocks, [None]):
            if block_CN is not None:
                held.append(block_CN)
                end += block_CN.shape[1]
                if end - first < _CHUNK:
                    continue
            held = [np.concatenate(held, axis=1)] if held else []
            known = stop
            if block_CN is not None:  # a value needs samples on both sides
                known = min(stop, int(np.interp(end - _TAPS, self.sources, self.places)))
            if not held or place >= known:
                continue
            yield _interpolate(held[0], self._sources_at(place, known) - first)
            place = known
            needed = int(np.interp(place, self.places, self.sources)) - _TAPS
            if needed > first:
                held, first = [held[0][:, needed - first :]], needed

    def _sources_at(self, place: int, stop: int) -> NDArray[np.float64]:
        return np.interp(np.arange(place, stop), self.places, self.sources)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Places at which blocks begin that are all of one length, in samples.

    Where reading begins in the middle, the first timestamp alone would say where all of it stands,
    and it may be rounded to 1 ms. Read from the beginning, blocks are counted.
    """

    origin: int
    length: int
    tick: float
    """What the container rounds timestamps to."""

    def holds(self, num_blocks: int, span: Fraction) -> bool:
        """Whether the timestamps of a whole track, from first to last, have neither hole nor drift.

        Args:
            num_blocks: Number of its blocks; the last one may be short.
            span: From the beginning of the first to the end of the last.
        """
        missing = num_blocks * self.length - float(span)
        return -2 * self.tick <= missing <= self.length + 2 * self.tick

    def place(self, stamp: int | None) -> int | None:
        """Return the place that a timestamp means; itself if it is none of them."""
        if stamp is None:
            return None
        steps = _half_up((stamp - self.origin) / self.length)
        place = self.origin + steps * self.length
        return place if abs(place - stamp) <= 2 * self.tick else stamp


def place_blocks(
    stamps: Sequence[float | None], lengths: Sequence[int], *, rate_hz: int, tick_s: float
) -> list[Piece]:
    """Find the place of each block.

    Args:
        stamps: Timestamps in samples; None where a block has none.
        lengths: Samples of each block.
        rate_hz: Sample rate.
        tick_s: What the container rounds timestamps to.
    """
    if not lengths:
        return []
    counted = np.concatenate([[0], np.cumsum(lengths)])
    tick = tick_s * rate_hz
    errors = _errors(stamps, counted, tick)
    told = [stamp for stamp in stamps if stamp is not None]
    if len(told) >= _MIN_FITTED_BLOCKS and max(told) - min(told) < counted[-1] / 2:
        # Most of the sound would overlap itself (avi written by a stream copy): no clock at all.
        return [Piece(first=0, stop=len(lengths), at=_half_up(errors[0]))]
    ends_right = abs(errors[-1] - errors[0]) <= 2 * max(lengths)
    if ends_right and len(told) >= _MIN_FITTED_BLOCKS and np.ptp(errors) > _MESS_S * rate_hz:
        # Nothing is missing, and yet most of it would be heard elsewhere (FLAC in asf).
        return [Piece(first=0, stop=len(lengths), at=_half_up(errors[0]))]
    if float(np.ptp(errors)) <= max(_MIN_DRIFT_S * rate_hz, 2 * tick):
        return [Piece(first=0, stop=len(lengths), at=_half_up(errors[0]))]
    noise = _noise(errors)
    bounds = [0, *_steps(errors, max(_MIN_STEP_S * rate_hz, 6 * noise, 2 * tick)), len(lengths)]
    pieces = []
    for first, stop in pairwise(bounds):
        at = errors[first]
        middle = float(np.median(errors[first:stop]))
        warp = _warp(errors[first:stop], counted[first : stop + 1], rate_hz=rate_hz, noise=noise)
        if abs(at - middle) > max(2 * tick, _MIN_STEP_S * rate_hz) and warp is None:
            at = middle  # the first stamp is the odd one out
        pieces.append(Piece(first=first, stop=stop, at=_half_up(at + counted[first]), warp=warp))
    return pieces


def _errors(
    stamps: Sequence[float | None], counted: NDArray[np.int64], tick: float
) -> NDArray[np.float64]:
    """Timestamp minus samples counted; a block without a timestamp follows the one before.

    So does one with the timestamp of the block before: FFmpeg counts on from that one, whose
    length it does not know yet in a stream that appears on the way.
    """
    errors = np.zeros(len(stamps))
    latest = 0.0
    before: float | None = None
    for i, stamp in enumerate(stamps):
        is_repeated = stamp == before and i > 0 and counted[i] - counted[i - 1] > 2 * tick
        before = stamp
        if stamp is not None and not is_repeated:
            latest = stamp - float(counted[i])
        errors[i] = latest
    return errors


def _noise(errors: NDArray[np.float64]) -> float:
    """Standard deviation of the timestamps' jitter, whatever steps and slopes there are."""
    changes = np.diff(errors)
    return float(1.4826 * np.median(np.abs(changes - np.median(changes))) / np.sqrt(2))


def _steps(errors: NDArray[np.float64], threshold: float) -> list[int]:
    """Blocks before which the error changes by more than `threshold`, and stays so."""
    found = []
    for i in np.flatnonzero(np.abs(np.diff(errors)) > threshold) + 1:
        jump = errors[i] - errors[i - 1]
        before = np.median(errors[max(0, i - _NEIGHBOURS) : i])
        after = np.median(errors[i : i + _NEIGHBOURS])
        if (after - before) * np.sign(jump) > max(threshold, abs(jump) / 2):
            found.append(int(i))
    return found


def _warp(
    errors: NDArray[np.float64], counted: NDArray[np.int64], *, rate_hz: int, noise: float
) -> Warp | None:
    """Fit the drift of a piece; None if its clock is right."""
    sources = (counted - counted[0]).astype(np.float64)
    if len(errors) < _MIN_FITTED_BLOCKS:
        return None
    num_lines = max(1, round(sources[-1] / (_KNOT_S * rate_hz)))
    knots = np.linspace(0, sources[-1], num_lines + 1)
    # Each error is a mix of those at the two knots around it: a spline of the first order.
    at = np.clip(np.searchsorted(knots, sources[:-1], side="right") - 1, 0, num_lines - 1)
    share = (sources[:-1] - knots[at]) / (knots[1] - knots[0])
    fitted = _least_squares(at, share, errors, num_lines + 1)
    per_line = len(errors) / num_lines
    least = max(_MIN_DRIFT_S * rate_hz, 8 * noise / np.sqrt(per_line))
    slopes = np.diff(fitted) / np.diff(knots)
    if float(np.ptp(fitted)) <= least or float(np.abs(slopes).max()) > _MAX_SLOPE:
        return None
    return Warp(sources=knots, places=knots + float(counted[0]) + fitted)


def _least_squares(
    at: NDArray[np.int64], share: NDArray[np.float64], values: NDArray[np.float64], size: int
) -> NDArray[np.float64]:
    """Solve for the knots' values; the system has three diagonals."""
    middle, beside, right = np.zeros(size), np.zeros(size), np.zeros(size)
    np.add.at(middle, at, (1 - share) ** 2)
    np.add.at(middle, at + 1, share**2)
    np.add.at(beside, at + 1, share * (1 - share))
    np.add.at(right, at, (1 - share) * values)
    np.add.at(right, at + 1, share * values)
    middle += 1e-9  # a knot without a block around it
    for i in range(1, size):  # elimination; the matrix is positive definite, so without pivots
        factor = beside[i] / middle[i - 1]
        middle[i] -= factor * beside[i]
        right[i] -= factor * right[i - 1]
    solved = right / middle
    for i in range(size - 2, -1, -1):
        solved[i] = (right[i] - beside[i + 1] * solved[i + 1]) / middle[i]
    return solved


@lru_cache(maxsize=1)
def _kernel() -> NDArray[np.float32]:
    """Windowed sinc by phase, (phases + 1, taps)."""
    phases = np.arange(_PHASES + 1)[:, None] / _PHASES
    distance = np.arange(_TAPS)[None] - (_TAPS // 2 - 1) - phases
    window = np.i0(9.0 * np.sqrt(np.clip(1 - (distance / (_TAPS / 2)) ** 2, 0, 1))) / np.i0(9.0)
    kernel = np.sinc(distance) * window
    scaled: NDArray[np.float32] = (kernel / kernel.sum(axis=1, keepdims=True)).astype(np.float32)
    return scaled


def _interpolate(
    samples_CN: NDArray[np.float32], positions: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Values between samples, (C, positions); silence lies beyond both ends."""
    kernel = _kernel()
    before = _TAPS // 2 - 1
    padded_CN = np.pad(samples_CN, ((0, 0), (before, _TAPS)))
    windows = sliding_window_view(padded_CN, _TAPS, axis=1)
    result_CN = np.empty((samples_CN.shape[0], len(positions)), np.float32)
    for start in range(0, len(positions), _CHUNK):
        part = np.clip(positions[start : start + _CHUNK], 0, samples_CN.shape[1])
        whole = np.floor(part).astype(np.int64)
        phase = (part - whole) * _PHASES
        row = phase.astype(np.int64)
        between = (phase - row).astype(np.float32)[:, None]
        weights = kernel[row] * (1 - between) + kernel[np.minimum(row + 1, _PHASES)] * between
        for channel in range(samples_CN.shape[0]):
            taken = windows[channel, whole]
            result_CN[channel, start : start + len(part)] = np.einsum("nt,nt->n", taken, weights)
    return result_CN


def _half_up(value: float) -> int:
    return int(np.floor(value + 0.5))
