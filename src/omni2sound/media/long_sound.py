"""Sound in blocks: read as often as asked, never held as a whole.

In:   an `Audio`, or anything that gives blocks of samples in order (`media.copy.track_sound`).
Out:  a `LongSound` at another rate, in another layout, of another length, or mixed with others.

An `Audio` is a sound of one block. Resampling gives the same samples whatever the blocks.
Shape suffixes: C channels, N samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import soxr
from numpy.typing import NDArray

from omni2sound.errors import UserError
from omni2sound.media.layouts import ASSUMED, channel_names, mixed_layout, place
from omni2sound.media.samples import Audio, Sound, round_half_up
from omni2sound.stages import going_on

BLOCK_SAMPLES = 2**18
"""Samples of a block of a mix: 5.5 s at 48 kHz."""
_REMEMBERED_VALUES = 2**24
"""Samples times channels that are kept from the first reading on: 64 MiB."""

Block = NDArray[np.float32]
"""Samples (C, N)."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LongSound:
    """A sound that is read in blocks."""

    read: Callable[[], Iterator[Block]]
    """Yields its blocks (C, N) from the beginning, each time anew; as many samples as it has."""
    num_samples: int
    num_channels: int
    sample_rate_hz: int
    layout: str | None = None
    """What the channels are; None: not stated."""

    @property
    def assumed_layout(self) -> str | None:
        """The layout, or where none is stated the usual one of as many channels (up to 8)."""
        return self.layout or ASSUMED.get(self.num_channels)

    @property
    def duration_s(self) -> Fraction:
        """Length, exact."""
        return Fraction(self.num_samples, self.sample_rate_hz)


def to_audio(sound: Sound) -> Audio:
    """Hold a sound as a whole."""
    if isinstance(sound, Audio):
        return sound
    blocks = list(sound.read())
    empty_CN = np.zeros((sound.num_channels, 0), dtype=np.float32)
    samples_CN = blocks[0] if len(blocks) == 1 else np.concatenate([empty_CN, *blocks], axis=1)
    return Audio(samples_CN=samples_CN, sample_rate_hz=sound.sample_rate_hz, layout=sound.layout)


def in_blocks(blocks: Iterator[Block], num_samples: int) -> Iterator[Block]:
    """Yield the same samples in blocks of one length; the last one may be shorter."""
    held: list[Block] = []
    length = 0
    for block_CN in blocks:
        held.append(block_CN)
        length += block_CN.shape[1]
        if length < num_samples:
            continue
        whole_CN = held[0] if len(held) == 1 else np.concatenate(held, axis=1)
        end = length - length % num_samples
        for start in range(0, end, num_samples):
            going_on()
            yield whole_CN[:, start : start + num_samples]
        held, length = [whole_CN[:, end:]], length - end
    if length:
        yield np.concatenate(held, axis=1)


def spans_of(num_samples: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of pieces, between which the work may be ended."""
    for begin in range(0, num_samples, BLOCK_SAMPLES):
        going_on()
        yield begin, min(begin + BLOCK_SAMPLES, num_samples)


def pieces_of(block_CN: Block) -> Iterator[Block]:
    """Yield a block in pieces, as `spans_of`; an `Audio` is one block."""
    return (block_CN[:, begin:end] for begin, end in spans_of(block_CN.shape[1]))


def change(
    sound: Sound,
    read: Callable[[], Iterator[Block]],
    *,
    num_samples: int | None = None,
    num_channels: int | None = None,
    sample_rate_hz: int | None = None,
    layout: str | None = "",
) -> LongSound:
    """Return a sound with other blocks, and what is given here changed."""
    return LongSound(
        read=read,
        num_samples=sound.num_samples if num_samples is None else num_samples,
        num_channels=num_channels or sound.num_channels,
        sample_rate_hz=sample_rate_hz or sound.sample_rate_hz,
        layout=sound.layout if layout == "" else layout,
    )


def remembered(sound: LongSound) -> LongSound:
    """Keep the blocks of a short sound from the first reading on."""
    if sound.num_samples * sound.num_channels > _REMEMBERED_VALUES:
        return sound
    kept: list[Block] = []

    def read() -> Iterator[Block]:
        if not kept:
            kept.extend(sound.read())
        return iter(kept)

    return change(sound, read)


def resampled(sound: Sound, sample_rate_hz: int) -> Sound:
    """Convert to another rate with anti-aliasing, as `samples.resample` does."""
    if sample_rate_hz == sound.sample_rate_hz:
        return sound
    num_samples = round_half_up(sound.duration_s * sample_rate_hz)

    def read() -> Iterator[Block]:
        stream = soxr.ResampleStream(
            sound.sample_rate_hz, sample_rate_hz, sound.num_channels, dtype="float32", quality="HQ"
        )
        for block_CN in sound.read():
            parts = [
                stream.resample_chunk(np.ascontiguousarray(piece_CN.T)).T
                for piece_CN in pieces_of(block_CN)
            ]
            if parts:
                yield parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        empty_NC = np.zeros((0, sound.num_channels), dtype=np.float32)
        yield stream.resample_chunk(empty_NC, last=True).T

    changed = change(sound, read, num_samples=num_samples, sample_rate_hz=sample_rate_hz)
    return _cut(changed, num_samples)  # a resampler may return one sample more, or fewer


def fitted(sound: Sound, num_samples: int) -> Sound:
    """Cut, or pad with silence, at the end."""
    return sound if num_samples == sound.num_samples else _cut(sound, num_samples)


def _cut(sound: Sound, num_samples: int) -> LongSound:
    def read() -> Iterator[Block]:
        missing = num_samples
        for block_CN in sound.read():
            if missing and block_CN.shape[1]:
                yield block_CN[:, :missing]
                missing -= min(missing, block_CN.shape[1])
        while missing:
            length = min(missing, BLOCK_SAMPLES)
            yield np.zeros((sound.num_channels, length), dtype=np.float32)
            missing -= length

    return change(sound, read, num_samples=num_samples)


def stacked(*sounds: Sound, layout: str | None) -> LongSound:
    """Make channels of one sound out of sounds of one rate; the longest decides the length."""
    num_samples = max(sound.num_samples for sound in sounds)

    def read() -> Iterator[Block]:
        parts = (in_blocks(fitted(s, num_samples).read(), BLOCK_SAMPLES) for s in sounds)
        for blocks in zip(*parts, strict=True):
            yield np.concatenate(blocks)

    num_channels = sum(sound.num_channels for sound in sounds)
    return change(
        sounds[0], read, num_samples=num_samples, num_channels=num_channels, layout=layout
    )


def mix(*sounds: Sound) -> LongSound:
    """Add sounds, each at its own level, in a layout that has the channels of all.

    One channel is heard from left and right where another sound has more. The rate is the highest
    of all, the length the longest.

    Raises:
        UserError: No layout has the channels of all.
    """
    rate_hz = max(sound.sample_rate_hz for sound in sounds)
    layouts = [sound.assumed_layout for sound in sounds]
    layout = mixed_layout(*(known or "" for known in layouts)) if all(layouts) else None
    if layout is None:
        raise UserError(
            f"channels of {' and '.join(known or 'unknown layout' for known in layouts)} can't be "
            "mixed; mix one of them down to stereo first"
        )
    at_rate = [resampled(sound, rate_hz) for sound in sounds]
    num_samples = max(sound.num_samples for sound in at_rate)
    num_channels = len(channel_names(layout))
    # Left and right come first in every layout.
    places = [
        [0, 1][:num_channels] if sound.num_channels == 1 else list(place(known or "", layout))
        for sound, known in zip(sounds, layouts, strict=True)
    ]

    def read() -> Iterator[Block]:
        parts = [in_blocks(fitted(s, num_samples).read(), BLOCK_SAMPLES) for s in at_rate]
        for blocks in zip(*parts, strict=True):
            mixed_CN = np.zeros((num_channels, blocks[0].shape[1]), dtype=np.float32)
            for block_CN, channels in zip(blocks, places, strict=True):
                mixed_CN[channels] += block_CN
            yield mixed_CN

    return change(
        at_rate[0], read, num_samples=num_samples, num_channels=num_channels, layout=layout
    )


def to_layout(sound: Sound, layout: str) -> Sound:
    """Store a sound in a layout that has all of its channels; the others are silent.

    Args:
        sound: The sound.
        layout: From `layouts.layout_held`.
    """
    names = channel_names(layout)
    if len(names) <= sound.num_channels:
        return sound if sound.layout == layout else change(sound, sound.read, layout=layout)
    channels = list(place(sound.assumed_layout or "", layout))

    def read() -> Iterator[Block]:
        for block_CN in sound.read():
            held_CN = np.zeros((len(names), block_CN.shape[1]), dtype=np.float32)
            held_CN[channels] = block_CN
            yield held_CN

    return change(sound, read, num_channels=len(names), layout=layout)
