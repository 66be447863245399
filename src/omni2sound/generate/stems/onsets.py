"""Onsets of a sound: the strongest one, and all of them.

In:   samples, or a sound that is read in blocks.
Out:  seconds.

Loudness is the sum over bands of power to the 0.3; an onset is where it rises most over 20 ms on
both sides, moved to the steepest place near it.

Shape suffixes: C channels, N samples, F frames of 2.5 ms, K frequencies, B bands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from omni2sound.media.samples import Sound

_STEP_S = 0.0025
_WINDOW_FRAMES = 4
_HELD_FRAMES = 2.5
"""From the beginning of the steepest frame to the onset in it, as measured: on average clicks lie
.6 ms after that, noise that sets in at once up to .7 ms before."""
_SIDE_FRAMES = 8
_NUM_BANDS = 24
_LEAST_HZ = 80.0
_TAIL_S = 0.5
"""What has to be left behind the strongest onset."""
_APART_FRAMES = 20
_LEAST_RISE = 0.2
"""Of the largest loudness."""
_LEAST_PEAK = 1e-3
_CHUNK_FRAMES = 2_000


def onset_s(samples_N: NDArray[np.float32], sample_rate_hz: int) -> float:
    """Second of the strongest rise of a sound, not in its last half second.

    Args:
        samples_N: The sound.
        sample_rate_hz: Its rate.
    """
    loud_F = _loudness([samples_N], sample_rate_hz)
    rise_F = _rise(loud_F, _SIDE_FRAMES)
    last = max(1, len(rise_F) - round(_TAIL_S / _STEP_S))
    frame = _steepest(loud_F, int(rise_F[:last].argmax()))
    return _seconds(frame, len(samples_N), sample_rate_hz)


def onsets_s(sound: Sound) -> list[float]:
    """Seconds of all onsets, in order: rises that are largest within 50 ms and large enough.

    A sound that stays below -60 dBFS has none. Channels are averaged.
    """
    from scipy.ndimage import maximum_filter1d

    peak, length = 0.0, 0

    def mono() -> Iterator[NDArray[np.float32]]:
        nonlocal peak, length
        for block_CN in sound.read():
            block_N: NDArray[np.float32] = block_CN.mean(axis=0)
            peak = max(peak, float(np.abs(block_N).max(initial=0.0)))
            length += len(block_N)
            yield block_N

    loud_F = _loudness(mono(), sound.sample_rate_hz)
    if peak < _LEAST_PEAK:
        return []
    rise_F = _rise(loud_F, _SIDE_FRAMES)
    highest_F = maximum_filter1d(rise_F, 2 * _APART_FRAMES + 1)
    least = _LEAST_RISE * float(loud_F.max())
    peaks = np.flatnonzero((rise_F == highest_F) & (rise_F >= least))
    # Around a click several rises are equal, and lead to one frame.
    frames = sorted({_steepest(loud_F, int(peak)) for peak in peaks})
    return [_seconds(frame, length, sound.sample_rate_hz) for frame in frames]


def _hop(sample_rate_hz: int) -> int:
    return round(_STEP_S * sample_rate_hz)


def _seconds(frame: int, num_samples: int, sample_rate_hz: int) -> float:
    """Second of the onset in the steepest frame; the first one has none before it."""
    at = (frame + _HELD_FRAMES) * _hop(sample_rate_hz) if frame else 0
    return min(at, num_samples) / sample_rate_hz


def _steepest(loud_F: NDArray[np.float64], peak: int) -> int:
    first = max(0, peak - _SIDE_FRAMES)
    return first + int(_rise(loud_F, 1)[first : peak + _SIDE_FRAMES + 1].argmax())


def _loudness(blocks: Iterable[NDArray[np.float32]], sample_rate_hz: int) -> NDArray[np.float64]:
    """Loudness of each frame of a sound that comes in blocks (N); a frame begins at its time."""
    hop = _hop(sample_rate_hz)
    size = hop * _WINDOW_FRAMES
    chunk = hop * _CHUNK_FRAMES
    edges_hz = np.geomspace(_LEAST_HZ, sample_rate_hz / 2, _NUM_BANDS + 1)
    edges = np.unique(np.round(edges_hz * size / sample_rate_hz).astype(int))

    def of(part_N: NDArray[np.float32]) -> NDArray[np.float64]:
        frames_FN = np.lib.stride_tricks.sliding_window_view(part_N.astype(np.float64), size)[::hop]
        power_FK = np.square(np.abs(np.fft.rfft(frames_FN * np.hanning(size))))
        loud_F: NDArray[np.float64] = (np.add.reduceat(power_FK, edges[:-1], axis=1) ** 0.3).sum(1)
        return loud_F

    parts, held = [], np.zeros(0, dtype=np.float32)
    for block_N in chain(blocks, [np.zeros(size, dtype=np.float32)]):
        held = np.concatenate([held, block_N])
        while len(held) >= chunk + size - hop:
            parts.append(of(held[: chunk + size - hop]))
            held = held[chunk:]
    if len(held) >= size:
        parts.append(of(held))
    return np.concatenate(parts)


def _rise(loud_F: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Mean of the frames from each one on, less that of those before it."""
    sums = np.concatenate([[0.0], np.cumsum(np.pad(loud_F, side))])
    mean_F = (sums[side:] - sums[:-side]) / side
    rise_F: NDArray[np.float64] = mean_F[side : side + len(loud_F)] - mean_F[: len(loud_F)]
    return rise_F
