"""Peak limiter: lower peaks where they are, and nothing else.

In:   the blocks of a `Sound`, and a ceiling.
Out:  blocks under the ceiling; its peaks, sampled and true.

One spike must not decide how loud everything else is. The gain that each sample needs is made the
smallest of its neighbourhood, then averaged over a window of the same width: every value in that
average is at most what the sample in its middle needs, so the average is too. What not to get
wrong: the two widths.

True peaks are read between samples, at four times the rate.
Shape suffixes: C channels, N samples, M oversampled ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
import soxr
from numpy.typing import NDArray

from omni2sound.media.long_sound import Block, pieces_of, spans_of
from omni2sound.media.samples import Sound

TRUE_PEAK_CEILING = 10 ** (-1 / 20)
"""-1 dBTP, what broadcasters leave for codecs, which change peaks."""
LIMITER_REACH_S = 0.010
"""Reach to each side. Twice this is half a period of 25 Hz: audible tones keep their shape."""
_OVERSAMPLING = 4

WithEnvelope = tuple[Block, NDArray[np.float64]]
"""Samples (C, N), and the largest value at each (N,)."""


class Limiter:
    """Holds a sound under a ceiling, block by block."""

    def __init__(self, ceiling: float, sample_rate_hz: int) -> None:
        """Remember the ceiling.

        Args:
            ceiling: Largest value of the result.
            sample_rate_hz: The sound's.
        """
        self.ceiling = ceiling
        self.reach = max(1, round(LIMITER_REACH_S * sample_rate_hz))
        self.num_samples = self.num_lowered = 0
        """Samples that were read, and those of them that were lowered."""

    @property
    def share(self) -> float:
        """Share of the samples that were lowered."""
        return self.num_lowered / self.num_samples if self.num_samples else 0.0

    def limit(self, parts: Iterator[WithEnvelope], gain: float = 1.0) -> Iterator[Block]:
        """Yield the samples under the ceiling.

        Args:
            parts: Blocks and their peaks, from `with_envelope`.
            gain: Applied before.
        """
        self.num_samples = self.num_lowered = 0
        held: list[Block] = []
        envelopes: list[NDArray[np.float64]] = []
        num_before = 0  # peaks of samples that are already out
        for part in chain(parts, [None]):
            if part is not None:
                held.append(scaled(part[0], gain))
                envelopes.append(part[1] * gain)
                if len(held) < 2:  # a sound of one block is limited in one go
                    continue
            num_held = sum(block_CN.shape[1] for block_CN in held)
            num_ready = num_held - (0 if part is None else 2 * self.reach)
            if num_ready <= 0:
                continue
            held_CN = held[0] if len(held) == 1 else np.concatenate(held, axis=1)
            envelope_N = envelopes[0] if len(envelopes) == 1 else np.concatenate(envelopes)
            gain_N = self._gain(envelope_N)[num_before : num_before + num_ready]
            self.num_samples += num_ready
            self.num_lowered += int(np.count_nonzero(gain_N < 1))
            yield self._lowered(held_CN[:, :num_ready], gain_N)
            done = max(0, num_before + num_ready - 2 * self.reach)
            held, envelopes = [held_CN[:, num_ready:]], [envelope_N[done:]]
            num_before += num_ready - done

    def _lowered(self, samples_CN: Block, gain_N: NDArray[np.float32]) -> Block:
        limited_CN = np.empty_like(samples_CN)
        for begin, end in spans_of(len(gain_N)):
            # The clip takes away what rounding to float32 may add, one unit in the last place.
            lowered_CN = samples_CN[:, begin:end] * gain_N[begin:end]
            limited_CN[:, begin:end] = np.clip(lowered_CN, -self.ceiling, self.ceiling)
        return limited_CN

    def _gain(self, envelope_N: NDArray[np.float64]) -> NDArray[np.float32]:
        reach = self.reach
        least_N = np.empty_like(envelope_N)
        for begin, end in spans_of(len(envelope_N)):
            first = max(0, begin - reach)
            near_N = np.maximum(envelope_N[first : end + reach], self.ceiling)
            needed_N = np.minimum(1.0, self.ceiling / near_N)
            least_N[begin:end] = _least(needed_N, 2 * reach + 1)[begin - first : end - first]
        return _means(least_N, 2 * reach + 1)


def _least(values_N: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Smallest of `width` (odd) values around each; ends are held. By doubling."""
    least = np.pad(values_N, width // 2, mode="edge")
    covered = 1
    while covered < width:
        step = min(covered, width - covered)
        least = np.minimum(least[:-step], least[step:])
        covered += step
    return least


def _means(values_N: NDArray[np.float64], width: int) -> NDArray[np.float32]:
    """Mean of `width` (odd) values around each one; ends are held.

    Sums run along, in the order of `scipy.ndimage.uniform_filter1d`, for equal bits without it.
    """
    padded = np.pad(values_N, width // 2, mode="edge")
    mean_N = np.empty(len(values_N), dtype=np.float32)
    last = np.add.accumulate(padded[:width])[-1:]
    mean_N[:1] = last / width
    for begin, end in spans_of(len(values_N) - 1):
        steps = padded[width + begin : width + end] - padded[begin:end]
        sums = np.add.accumulate(np.concatenate([last, steps]))
        mean_N[begin + 1 : end + 1] = sums[1:] / width
        last = sums[-1:]
    return mean_N


def scaled(block_CN: Block, gain: float) -> Block:
    """Return samples with a gain."""
    if gain == 1:
        return block_CN
    scaled_CN: Block = (block_CN * np.float32(gain)).astype(np.float32)
    return scaled_CN


def with_envelope(sound: Sound, *, between_samples: bool) -> Iterator[WithEnvelope]:
    """Yield the blocks of a sound, each with its largest |value| of all channels at each sample.

    Args:
        sound: The sound.
        between_samples: Also of the continuous wave half way to its neighbours.
    """
    if not between_samples:
        for block_CN in sound.read():
            yield block_CN, _largest(block_CN)
        return
    fine = _FineEnvelope(sound.num_channels)
    waiting: list[Block] = []  # blocks, and their pieces whose envelope is not complete
    held: list[Block] = []
    found: list[NDArray[np.float64]] = []  # envelope of the first block up to its first held piece
    for new_CN in chain(_pieces(sound.read(), waiting), [None]):
        fine.add(new_CN)
        if new_CN is not None:
            held.append(new_CN)
        while held and (new_CN is None or fine.num_ready >= held[0].shape[1]):
            found.append(fine.take(_largest(held.pop(0))))
            if sum(map(len, found)) == waiting[0].shape[1]:
                yield waiting.pop(0), found[0] if len(found) == 1 else np.concatenate(found)
                found = []


def _pieces(blocks: Iterator[Block], waiting: list[Block]) -> Iterator[Block]:
    """Yield blocks piece by piece, so that work on one can be ended; note each block before."""
    for block_CN in blocks:
        if block_CN.shape[1]:
            waiting.append(block_CN)
            yield from pieces_of(block_CN)


class _FineEnvelope:
    """Largest |value| of the continuous wave between each sample and the next one."""

    def __init__(self, num_channels: int) -> None:
        self.resamplers = [
            soxr.ResampleStream(1.0, float(_OVERSAMPLING), 1, dtype="float32", quality="HQ")
            for _ in range(num_channels)
        ]
        self.ready_M = np.zeros(0, dtype=np.float32)
        self.last = 0.0
        """Between the last sample that was taken and the next one."""

    @property
    def num_ready(self) -> int:
        """Samples whose values are complete."""
        return len(self.ready_M) // _OVERSAMPLING

    def add(self, block_CN: Block | None) -> None:
        """Take samples in; None: there are no more."""
        new_M = np.zeros(0, dtype=np.float32)
        for channel, resampler in enumerate(self.resamplers):
            samples_N = np.zeros(0, dtype=np.float32)
            if block_CN is not None:
                samples_N = np.ascontiguousarray(block_CN[channel])
            fine_M = resampler.resample_chunk(samples_N, last=block_CN is None)
            np.abs(fine_M, out=fine_M)
            new_M = np.maximum(new_M, fine_M, out=new_M) if channel else fine_M
        self.ready_M = np.concatenate([self.ready_M, new_M]) if len(self.ready_M) else new_M

    def take(self, largest_N: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the envelope of the next samples.

        Args:
            largest_N: Their own largest values.
        """
        num_samples = len(largest_N)
        length = num_samples * _OVERSAMPLING
        whole_M, self.ready_M = self.ready_M[:length], self.ready_M[length:]
        if len(whole_M) < length:  # a resampler may return fewer
            whole_M = np.pad(whole_M, (0, length - len(whole_M)))
        fine_NM = whole_M.reshape(num_samples, _OVERSAMPLING)
        fine_N = np.maximum.reduce([fine_NM[:, i] for i in range(_OVERSAMPLING)])
        # What lies between two samples belongs to both.
        envelope_N = np.maximum(largest_N, fine_N)
        np.maximum(envelope_N[1:], fine_N[:-1], out=envelope_N[1:])
        if num_samples:
            envelope_N[0] = max(float(envelope_N[0]), self.last)
            self.last = float(fine_N[-1])
        return envelope_N


def _largest(block_CN: Block) -> NDArray[np.float64]:
    largest_N: NDArray[np.float64]
    largest_N = largest(block_CN).astype(np.float64)
    return largest_N


def largest(block_CN: Block) -> NDArray[np.float32]:
    """Return the largest |value| of all channels at each sample (N,)."""
    values_CN = np.abs(block_CN)
    found_N: NDArray[np.float32] = values_CN[0]
    for values_N in values_CN[1:]:
        found_N = np.maximum(found_N, values_N)
    return found_N


def true_peak(sound: Sound) -> float:
    """Return the largest value of the continuous wave, read at four times the sample rate."""
    parts = with_envelope(sound, between_samples=True)
    return max((float(np.max(envelope_N, initial=0.0)) for _, envelope_N in parts), default=0.0)
