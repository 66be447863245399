"""The time of a file: one clock for pictures and sound, resolved once by `probe`.

In:   the packets of the tracks, in stored order.
Out:  `Timeline`: where second 0 is, how long the file lasts, what to add to each timestamp;
      `Hidden`: the pictures that are stored and not shown.

Readers take their packets from `Timeline.read_packets` and need no further rule. Three things
are settled here. A clock that starts again (parts of a transport stream joined byte by byte) goes
on where the part before ended, as in ffmpeg's own copy. A track's first block of sound that a
fragmented mp4 shows too early stands right before what follows it. And second 0 is the first
moment at which there is anything: the first picture, or sound that begins before it. Without
moving pictures, second 0 and the end are those of the first sound track.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeVar

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from omni2sound.media.files import read_packets

_StreamT = TypeVar("_StreamT", bound=Stream)

MAX_PADDING_S = Fraction(1, 10)
"""Most seconds of sound beyond the pictures that can be a codec's padding."""
ROUNDING_S = Fraction(1, 500)
"""Two timestamps of a container that rounds them to 1 ms."""
TURN = 1 << 33
"""Ticks after which the clocks of MPEG streams begin at 0 again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackClock:
    """What to add to the timestamps of one track, in ticks of its time base."""

    lead_packets: int = 0
    """Packets at the track's beginning that stand later than they say, ..."""
    lead_ticks: int = 0
    """... by so much."""
    jumps: tuple[tuple[int, int], ...] = ()
    """(packet, ticks): from that packet on, counted from 0, so much is added."""
    moved: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """By packet, what is added to its presentation and its decoding time, besides."""

    @property
    def counts_packets(self) -> bool:
        """Whether packets are to be counted from the first one on."""
        return bool(self.jumps or self.moved)


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """When a file begins, how long it lasts, and the clock of each track."""

    start_s: Fraction
    """The moment that is second 0, on the container's clock."""
    duration_s: Fraction
    """Seconds to the end of the track that ends last; without moving pictures, to that of the
    first sound track; 0 for a still picture alone."""
    clocks: Mapping[int, TrackClock] = field(default_factory=dict)
    """By stream index; a track without an entry needs no correction."""

    def can_seek(self, stream_index: int) -> bool:
        """Whether a timestamp alone says when a packet is seen or heard."""
        return not self.clocks.get(stream_index, TrackClock()).counts_packets

    def read_packets(
        self, container: InputContainer, stream: _StreamT, *, sought: bool = False
    ) -> Iterator[Packet[_StreamT]]:
        """Yield a track's packets in stored order, their timestamps on one clock.

        Args:
            container: At its beginning, or where a seek led.
            stream: The track.
            sought: It is not at its beginning; needs `can_seek`.
        """
        packets = read_packets(container, stream)
        clock = self.clocks.get(stream.index)
        return packets if clock is None or sought else _corrected(packets, clock)


def _corrected(
    packets: Iterator[Packet[_StreamT]], clock: TrackClock
) -> Iterator[Packet[_StreamT]]:
    jumps = dict(clock.jumps)
    added = 0
    for number, packet in enumerate(packets):
        added = jumps.get(number, added)
        ticks = added + (clock.lead_ticks if number < clock.lead_packets else 0)
        if jumps:
            turn_pts(packet)
        pts_ticks, dts_ticks = clock.moved.get(number, (0, 0))
        if packet.pts is not None:
            packet.pts += ticks + pts_ticks
        if packet.dts is not None:
            packet.dts += ticks + dts_ticks
        yield packet


def turn_pts(packet: Packet[Any]) -> None:
    """Bring both times of a packet to the same turn of an MPEG clock."""
    if packet.pts is not None and packet.dts is not None:
        packet.pts += round((packet.dts - packet.pts) / TURN) * TURN


@dataclass(frozen=True, kw_only=True, slots=True)
class SoundSpan:
    """What the timestamps of a sound track's packets cover, on the container's clock."""

    start_s: Fraction
    end_s: Fraction
    num_packets: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Hidden:
    """Pictures that an edit list keeps from the screen, and which others are built upon."""

    num_before: int = 0
    """With times before the first picture that is shown."""
    num_between: int = 0
    """Between two that are shown."""
    num_after: int = 0
    """With times after the last one; a container that can end a track early hides them."""
    left_out: frozenset[int] = frozenset()
    """Packets, counted from 0, that nothing shown is built upon."""


def join(
    video: tuple[Fraction, Fraction] | None,
    sounds: Sequence[tuple[Fraction, Fraction]],
    *,
    sound_frame_s: Fraction,
) -> tuple[Fraction, Fraction]:
    """Return start and end of a file, from those of its tracks.

    Without moving pictures, they are those of the first sound track, the one that is read.
    Less than one codec frame of sound beyond the pictures, on either side, is taken for the
    codec's padding, which many containers do not tell from sound.

    Args:
        video: Start and end of the moving picture; None without one.
        sounds: Start and end of each sound track.
        sound_frame_s: Seconds of one codec frame of the sound; 0 for a codec without padding.
    """
    if video is None:
        return sounds[0] if sounds else (Fraction(0), Fraction(0))
    padding_s = min(sound_frame_s, MAX_PADDING_S) + ROUNDING_S
    first_s = min((start for start, _ in sounds), default=video[0])
    last_s = max((end for _, end in sounds), default=video[1])
    return (
        first_s if first_s < video[0] - padding_s else video[0],
        last_s if last_s > video[1] + padding_s else video[1],
    )
