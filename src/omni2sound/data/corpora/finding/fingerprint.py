"""Audio fingerprints of 32 bits every 12 ms, and pairs of recordings that share a section.

In:   waveforms (N,) at 8 kHz.
Out:  `Fingerprint`s; pairs of recordings that share a section, with bit error rate and shift.

Bit m of frame n is the sign of the change since frame n - 1 of the energy difference between bands
m and m + 1. Such signs survive other codecs, levels, cuts and resampling; two different recordings
agree in half of them. Frames are looked up by equal words, their least certain bits either way,
which aligns two recordings; then all bits of the overlap are compared.

What not to get wrong: the fewer bits are compared, the fewer errors may be accepted, or chance
makes copies. And this finds copies of a *recording*: the same event recorded twice, or played at
another speed, is another recording.

Source: Haitsma & Kalker 2002, "A Highly Robust Audio Fingerprinting System" (ISMIR): frames
of 0.37 s, hop 11.6 ms, 33 bands, at most 35 % of 8192 bits wrong. Bands reach from 200 to
3400 Hz here (there: 300 to 2000 Hz), for sounds that are not music.

Shape suffixes: N samples, F frames, B bands or bits, W weak bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 8000
HOP_SAMPLES = 96
_WINDOW_SAMPLES = 3072
_NUM_BITS = 32
_LOWEST_HZ, _HIGHEST_HZ = 200.0, 3400.0
_QUIET_DB = 30.0
"""Frames this far below the loudest one are noise and not compared."""
_SILENT_POWER = 1e-7
"""Frames below this mean square (-70 dBFS) are not compared either."""

MAX_BIT_ERRORS = 0.35
MIN_FRAMES = 40
"""Least overlap that is compared: half a second beyond the window."""
_SIGMAS = 11.0
"""Required distance of the error rate below chance. Large, since tones of one pitch agree in more
bits than chance: with 7, a second of two guitars passed for copies."""
_CORRELATION = 3.0
"""Standard deviation of the error rate relative to independent bits: neighbouring frames share most
of their window (Haitsma & Kalker, analysis of false positives)."""
_NUM_WEAK = 3
"""Number of least certain bits that are looked up in every combination."""
_MIN_HITS = 2
_MAX_CANDIDATES = 8
_COMMON = 64
"""Words more frequent than this in the index are ignored."""
_CHUNK_FRAMES = 256


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fingerprint:
    """Fingerprint of a recording.

    Attributes:
        words_F: One word a frame.
        loud_F: Whether the frame is loud enough to count.
        weak_FW: The least certain bits of each word, as powers of two.
    """

    words_F: NDArray[np.uint32]
    loud_F: NDArray[np.bool_]
    weak_FW: NDArray[np.uint32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """Two recordings that share a section.

    Attributes:
        first: Number of the recording in the index.
        second: Number of the recording that was looked up.
        bit_errors: Fraction of bits that differ in the overlap.
        overlap_s: Compared length.
        shift_s: Start of the second in the first's time.
    """

    first: int
    second: int
    bit_errors: float
    overlap_s: float
    shift_s: float


def fingerprint(waveform_N: NDArray[np.float32]) -> Fingerprint:
    """Compute the fingerprint of a waveform at `SAMPLE_RATE_HZ`; empty if shorter than a window."""
    num_frames = (len(waveform_N) - _WINDOW_SAMPLES) // HOP_SAMPLES + 1
    if num_frames < 2:
        nothing = np.zeros((0, _NUM_WEAK), np.uint32)
        return Fingerprint(words_F=nothing[:, 0], loud_F=np.zeros(0, bool), weak_FW=nothing)
    energy_FB = np.concatenate([*_band_energies(waveform_N, num_frames)])
    rise_FB = np.diff(energy_FB, axis=1)
    change_FB = np.diff(rise_FB, axis=0)
    powers_B = np.left_shift(np.uint32(1), np.arange(_NUM_BITS, dtype=np.uint32))
    words_F = ((change_FB < 0) * powers_B).sum(axis=1, dtype=np.uint32)
    # A difference that is small beside its bands' energy is the first to change sign.
    certainty_FB = np.abs(change_FB) / (energy_FB[1:, 1:] + energy_FB[1:, :-1] + 1e-20)
    weakest = np.argpartition(certainty_FB, _NUM_WEAK, axis=1)[:, :_NUM_WEAK]
    power_F = energy_FB.sum(axis=1)[1:]
    floor = max(_SILENT_POWER, float(power_F.max()) * 10 ** (-_QUIET_DB / 10))
    return Fingerprint(words_F=words_F, loud_F=power_F > floor, weak_FW=powers_B[weakest])


def _band_energies(
    waveform_N: NDArray[np.float32], num_frames: int
) -> Iterator[NDArray[np.floating]]:
    window = np.hanning(_WINDOW_SAMPLES).astype(np.float32)
    edges_hz = np.geomspace(_LOWEST_HZ, _HIGHEST_HZ, _NUM_BITS + 2)
    edges = np.round(edges_hz * _WINDOW_SAMPLES / SAMPLE_RATE_HZ).astype(int)
    frames = np.lib.stride_tricks.sliding_window_view(waveform_N, _WINDOW_SAMPLES)[::HOP_SAMPLES]
    scale = 2 / float(np.square(window).sum()) / _WINDOW_SAMPLES
    for first in range(0, num_frames, _CHUNK_FRAMES):
        chunk = frames[first : first + _CHUNK_FRAMES] * window
        power = np.square(np.abs(np.fft.rfft(chunk, axis=1))) * scale
        yield np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1)


class FingerprintIndex:
    """Index of recordings: 12 bytes a frame, 1 kB a second of sound."""

    def __init__(self, prints: Sequence[Fingerprint]) -> None:
        self._prints = list(prints)
        lengths = [len(p.words_F) for p in self._prints]
        words = np.concatenate([np.zeros(0, np.uint32), *(p.words_F for p in self._prints)])
        loud = np.concatenate([np.zeros(0, bool), *(p.loud_F for p in self._prints)])
        owner = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        frame = np.concatenate([np.zeros(0, np.int32), *(np.arange(n) for n in lengths)])
        useful = loud & (words != 0) & (words != np.uint32(2**32 - 1))
        order = np.argsort(words[useful], kind="stable")
        self._words = words[useful][order]
        self._owner = owner[useful][order]
        self._frame = frame[useful][order].astype(np.int32)

    def matches(self, numbered: Iterable[tuple[int, Fingerprint]]) -> Iterator[Match]:
        """Find pairs of recordings that share a section, each pair once.

        Args:
            numbered: Recordings to look up, with their numbers; only pairs with smaller numbers
                of the index are returned.
        """
        for number, print_ in numbered:
            best: dict[int, Match] = {}
            for owner, shift in self._candidates(print_, number):
                match = self._compare(owner, number, print_, shift)
                if match and (owner not in best or match.bit_errors < best[owner].bit_errors):
                    best[owner] = match
            yield from best.values()

    def _candidates(self, print_: Fingerprint, number: int) -> Iterator[tuple[int, int]]:
        loud = np.flatnonzero(print_.loud_F)
        variants = [print_.words_F[loud]]
        for bit in print_.weak_FW[loud].T:
            variants += [words ^ bit for words in variants]
        words, frames = np.concatenate(variants), np.tile(loud, len(variants))
        low = np.searchsorted(self._words, words, "left")
        count = np.searchsorted(self._words, words, "right") - low
        count[count > _COMMON] = 0
        place = np.repeat(low - np.cumsum(count) + count, count) + np.arange(count.sum())
        owner = self._owner[place]
        shift = self._frame[place] - np.repeat(frames, count)
        others = owner < number
        keys = np.stack([owner[others], shift[others]], axis=1)
        pairs, hits = np.unique(keys, axis=0, return_counts=True)
        best = np.argsort(-hits, kind="stable")
        tried: dict[int, int] = {}
        for index in best:
            if hits[index] < _MIN_HITS:
                return
            found = int(pairs[index, 0])
            tried[found] = tried.get(found, 0) + 1
            if tried[found] <= _MAX_CANDIDATES:
                yield found, int(pairs[index, 1])

    def _compare(self, owner: int, number: int, print_: Fingerprint, shift: int) -> Match | None:
        there = self._prints[owner]
        first = max(0, shift)
        last = min(len(there.words_F), shift + len(print_.words_F))
        mine = slice(first - shift, last - shift)
        both = there.loud_F[first:last] & print_.loud_F[mine]
        num_frames = int(both.sum())
        if num_frames < MIN_FRAMES:
            return None
        wrong = np.bitwise_count(there.words_F[first:last] ^ print_.words_F[mine])[both].sum()
        bit_errors = float(wrong) / (num_frames * _NUM_BITS)
        deviation = _CORRELATION * 0.5 / np.sqrt(num_frames * _NUM_BITS)
        if bit_errors > min(MAX_BIT_ERRORS, 0.5 - _SIGMAS * deviation):
            return None
        return Match(
            first=owner,
            second=number,
            bit_errors=bit_errors,
            overlap_s=num_frames * HOP_SAMPLES / SAMPLE_RATE_HZ,
            shift_s=shift * HOP_SAMPLES / SAMPLE_RATE_HZ,
        )
