"""One sound track of a file as a `LongSound`: decoded again each time it is read.

In:   a file, the stream index of its track.
Out:  the samples that `read_audio` gives, in blocks.

A first pass finds where each block stands (`timing.sound_clock`). Where the timestamps of a damaged
file lead back beyond what was heard before, blocks can't be read in order of time; such a track is
read as a whole, and has to fit in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from omni2sound.errors import MediaError
from omni2sound.media.audio import Plan, TrackReader, read_audio
from omni2sound.media.files import open_input, shown_name
from omni2sound.media.info import AudioStreamInfo, MediaInfo, probe
from omni2sound.media.long_sound import BLOCK_SAMPLES, Block, LongSound, remembered
from omni2sound.media.samples import Sound
from omni2sound.media.timing.sound_clock import Piece


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrackSound:
    """A track's sound, and how loud it gets."""

    sound: Sound
    peak: float
    """Largest sample; full scale is 1."""


def read_track(
    path: Path, index: int | None = None, duration_s: float | Fraction | None = None
) -> TrackSound:
    """Find out where a track's blocks stand, for later reading.

    Args:
        path: The file.
        index: Stream index of the track. Default: the first sound track.
        duration_s: The most to read. Default: to the end.

    Raises:
        MediaError: The track can't be decoded.
        UserError: It has to be read as a whole, and is too large.
    """
    info = probe(path)
    if info.audio is None:
        raise MediaError(f"{shown_name(path)}: has no sound; give a file with a sound track")
    stream = info.audio if index is None else replace(info.audio, index=index)
    if duration_s is not None:
        duration_s = Fraction(duration_s)
    with open_input(path) as container:
        plan = TrackReader(container, info, stream, mono=False).plan(duration_s)
    spans = _heard(plan.pieces, plan.lengths)
    if spans is None:
        sound: Sound = read_audio(path, duration_s=duration_s, track=stream.index)
    else:
        sound = remembered(
            LongSound(
                read=lambda: _blocks(info, stream, plan, spans),
                num_samples=plan.num_samples,
                num_channels=plan.num_channels,
                sample_rate_hz=plan.sample_rate_hz,
                layout=plan.layout,
            )
        )
    return TrackSound(sound=sound, peak=plan.peak)


def _heard(pieces: Sequence[Piece], lengths: Sequence[int]) -> list[tuple[int, int]] | None:
    """What is heard of each piece (first, end), if the next one ends it; None if not."""
    heard: list[tuple[int, int]] = []
    for piece in pieces:
        begin, end = piece.span(lengths)
        for number in range(len(heard) - 1, -1, -1):
            first, stop = heard[number]
            if stop <= begin:
                break
            if stop > end:
                return None  # goes on behind this piece
            heard[number] = first, max(first, begin)
        heard.append((begin, end))
    return heard


def _blocks(
    info: MediaInfo, stream: AudioStreamInfo, plan: Plan, spans: Sequence[tuple[int, int]]
) -> Iterator[Block]:
    due = 0
    with open_input(info.path) as container:
        reader = TrackReader(container, info, stream, mono=False)
        blocks = (block_CN for _, block_CN in reader.blocks())
        for piece, (first, stop) in zip(plan.pieces, spans, strict=True):
            samples = islice(blocks, piece.stop - piece.first)
            at, _ = piece.span(plan.lengths)
            for block_CN in samples if piece.warp is None else piece.warp.apply_to(samples):
                begin = max(at, first, due)
                end = min(at + block_CN.shape[1], stop, plan.num_samples)
                if begin < end:
                    yield from _silence(plan.num_channels, begin - due)
                    yield block_CN[:, begin - at : end - at]
                    due = end
                at += block_CN.shape[1]
    yield from _silence(plan.num_channels, plan.num_samples - due)


def _silence(num_channels: int, num_samples: int) -> Iterator[Block]:
    while num_samples > 0:
        length = min(num_samples, BLOCK_SAMPLES)
        yield np.zeros((num_channels, length), dtype=np.float32)
        num_samples -= length
