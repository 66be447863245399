"""The time of a file: one clock for pictures and sound, resolved once by `probe`.

In:   the packets of the tracks, in stored order.
Out:  `Timeline`: where second 0 is, how long the file lasts, what to add to each timestamp;
      `Hidden`: the pictures that are stored and not shown.

Readers take their packets from `Timeline.read_packets` and need no further rule. Three things
are settled here. A clock that starts again (parts of a transport stream joined byte by byte) goes
on where the part before ended, as in ffmpeg's own copy. A track's first block of sound that a
fragmented mp4 shows too early stands right before what follows it. And second 0 is the first
moment at which there is anything: the first picture, or sound that begins before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeVar, cast

from av.container import InputContainer
from av.format import Flags
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame

from omni2sound.media.files import read_packets

_StreamT = TypeVar("_StreamT", bound=Stream)

MAX_PADDING_S = Fraction(1, 10)
"""Most seconds of sound beyond the pictures that can be a codec's padding."""
MAX_UNTOLD_S = 120
"""The longest that a picture may stand without a header that says so. A longer time is a slide
if the header's duration has room for it, else a damaged timestamp, which would ask for hours of
sound."""
MAX_REORDER = 16
"""Pictures stored before one that is shown earlier."""
_ROUNDING_S = Fraction(1, 500)
"""Two timestamps of a container that rounds them to 1 ms."""
_TURN = 1 << 33
"""Ticks after which the clocks of MPEG streams begin at 0 again."""
_BACK_S, _FORWARD_S = 0.1, 10.0
"""Steps of decoding time that mean a new clock; FFmpeg's copy uses the same two numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackClock:
    """What to add to the timestamps of one track, in ticks of its time base."""

    lead_packets: int = 0
    """Packets at the track's beginning that stand later than they say, ..."""
    lead_ticks: int = 0
    """... by so much."""
    jumps: tuple[tuple[int, int], ...] = ()
    """(packet, ticks): from that packet on, counted from 0, so much is added."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """When a file begins, how long it lasts, and the clock of each track."""

    start_s: Fraction
    """The moment that is second 0, on the container's clock."""
    duration_s: Fraction
    """Seconds to the end of the longest track; 0 for a still picture."""
    clocks: Mapping[int, TrackClock] = field(default_factory=dict)
    """By stream index; a track without an entry needs no correction."""

    def can_seek(self, stream_index: int) -> bool:
        """Whether timestamps in the file rise with time."""
        return not self.clocks.get(stream_index, TrackClock()).jumps

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
            _turn_pts(packet)
        if packet.pts is not None:
            packet.pts += ticks
        if packet.dts is not None:
            packet.dts += ticks
        yield packet


def _turn_pts(packet: Packet[Any]) -> None:
    """Bring both times of a packet to the same turn of an MPEG clock."""
    if packet.pts is not None and packet.dts is not None:
        packet.pts += round((packet.dts - packet.pts) / _TURN) * _TURN


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


class Span:
    """Earliest start and latest end among the timestamps of one track on one clock."""

    def __init__(self, time_base: Fraction) -> None:
        self.time_base = time_base
        self.num_packets = 0
        self.has_pts = True
        self.first: int | None = None
        self.last: int | None = None
        self.last_duration = 0
        self.stored_end: int | None = None
        """End of the last one in stored order: in mp4 that one carries the track's length."""
        self.longest_gap = 0
        self.num_untimed = 0
        """Packets before the first one with a time; FFmpeg's Matroska gives no negative times."""
        self._first_timed: int | None = None
        """Number of that one."""
        self._order: int | None = None

    def add(self, packet: Packet[Any]) -> None:
        """Take a packet in."""
        if packet.is_discard:  # hidden by an edit list, needed to decode what follows
            return
        order = packet.dts if packet.dts is not None else packet.pts
        if order is not None:
            if self._order is not None:
                self.longest_gap = max(self.longest_gap, abs(order - self._order))
            self._order = order
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None:
            if self._first_timed is None or self.num_packets <= self._first_timed + MAX_REORDER:
                self.num_untimed += 1
            if self._first_timed is None or self.stored_end is None:
                time = self.num_packets * (packet.duration or 0)  # a bare stream
            else:
                time = self.stored_end
        elif self._first_timed is None:
            self._first_timed = self.num_packets
            self.first = self.last = None
        self.has_pts = self.has_pts and packet.pts is not None
        self.num_packets += 1
        if self.first is None or time < self.first:
            self.first = time
        if self.last is None or time >= self.last:
            self.last, self.last_duration = time, packet.duration or 0
        self.stored_end = time + (packet.duration or 0)

    @property
    def end(self) -> int | None:
        """End of the last packet in presentation order."""
        return None if self.last is None else self.last + self.last_duration

    def seconds(self, frame_s: Fraction, longest_s: Fraction) -> tuple[Fraction, Fraction]:
        """Return start and end.

        Args:
            frame_s: Stands in for a last packet without a duration, or with a longer one than ...
            longest_s: ... this.
        """
        assert self.first is not None
        assert self.last is not None
        assert self.stored_end is not None
        last_s = max(self.last_duration, self.stored_end - self.last) * self.time_base
        if not 0 < last_s <= longest_s:
            last_s = frame_s
        first_s = self.first * self.time_base
        if self._first_timed is not None:
            first_s -= self.num_untimed * frame_s
        return first_s, self.last * self.time_base + last_s


class TrackScan:
    """What one pass over a track's packets finds."""

    def __init__(self, time_base: Fraction, told_s: Fraction) -> None:
        self.time_base = time_base
        self.longest_s = max(told_s, Fraction(MAX_UNTOLD_S))
        """The longest that its last packet may last."""
        self.num_packets = 0
        self.spans: dict[int, Span] = {0: Span(time_base)}
        """By number of the clock, of which there is one in nearly every file."""
        self.clock = 0
        self.clock_begins: list[tuple[int, int, int]] = []
        """(packet, clock, ticks of whole turns that are added) of each change."""
        self.next = 0
        self.next_s: float | None = None
        """Decoding time at which the next packet is due, on the present clock; in ticks before."""
        self.hidden: list[tuple[int, int]] = []
        """(packet, presentation time) of those that an edit list hides."""
        self.keys_shown: list[tuple[int, int]] = []
        """(packet, presentation time) of shown key frames, where any are hidden."""
        self.unseen: set[int] = set()
        """Packets that are never shown, since what they are built upon is not in the file."""
        self.unseen_ticks = 0
        """From the first of them to the first picture that is shown."""
        self._held: list[tuple[Packet[Any], int, int]] | None = None
        self.last_shown = -1
        self.first_shown: tuple[int | None, int] | None = None
        """Place in the file and presentation time of the first packet shown after hidden ones."""
        self.lead_packets = 0
        self.lead_ticks = 0
        self.shift_ticks = 0
        """Added to all timestamps."""

    def hold(self) -> None:
        """Keep packets back until the first picture is known (`settle`)."""
        self._held = []

    def settle(self, picture: VideoFrame | None) -> None:
        """Take in what was kept back.

        A recording begins anywhere: what comes before its first key frame can't be decoded, nor
        can pictures of the time before that frame that are stored behind it.

        Args:
            picture: The first one that a decoder gives; None: take in all.
        """
        first = None if picture is None else picture.pts
        held, self._held = self._held or [], None
        earlier = first  # pictures before this time can't be decoded
        has_key = False
        for packet, clock, turned in held:
            if packet.is_keyframe and not has_key:
                has_key = True
                earlier = None if first is None or packet.pts is None else min(first, packet.pts)
            elif (
                first is not None
                and earlier is not None
                and packet.pts is not None
                and packet.pts < earlier
                and not packet.is_discard
            ):
                self.unseen.add(self.num_packets)
                self.unseen_ticks = max(self.unseen_ticks, first - packet.pts)
            self._take(packet, clock, turned)

    def add(self, packet: Packet[Any], clock: int, turned: int = 0) -> None:
        """Take a packet in, which belongs to a clock; `turned` ticks were added to its times."""
        self.clock = clock
        if self._held is None:
            self._take(packet, clock, turned)
        else:
            self._held.append((packet, clock, turned))

    def _take(self, packet: Packet[Any], clock: int, turned: int) -> None:
        if (clock, turned) != (self.clock_begins[-1][1:] if self.clock_begins else (0, 0)):
            self.spans.setdefault(clock, Span(self.time_base))
            self.clock_begins.append((self.num_packets, clock, turned))
        if self.num_packets in self.unseen:
            self.num_packets += 1
            return
        self.spans[clock].add(packet)
        if packet.is_discard:
            self.hidden.append((self.num_packets, packet.pts or 0))
        else:
            if self.hidden and self.last_shown < 0:
                self.first_shown = packet.pos, packet.pts or 0
            self.last_shown = self.num_packets
            if self.hidden and packet.is_keyframe:
                self.keys_shown.append((self.num_packets, packet.pts or 0))
        self.num_packets += 1

    @property
    def num_shown(self) -> int:
        """Packets that no edit list hides."""
        return sum(span.num_packets for span in self.spans.values())

    @property
    def has_pts(self) -> bool:
        """Whether each packet has a presentation time."""
        return all(span.has_pts for span in self.spans.values())

    @property
    def begins_untimed(self) -> bool:
        """Whether packets without a time precede those with one."""
        return not self.has_pts and any(
            0 < span.num_untimed < span.num_packets for span in self.spans.values()
        )

    @property
    def last_duration_s(self) -> Fraction:
        """What the last packet says of its own length; 0 if nothing."""
        return self.spans[max(self.spans)].last_duration * self.time_base

    @property
    def longest_gap_s(self) -> Fraction:
        """Longest step between decoding times of neighbours on one clock."""
        return max(span.longest_gap for span in self.spans.values()) * self.time_base

    def seconds(self, offsets_s: list[Fraction], frame_s: Fraction) -> tuple[Fraction, Fraction]:
        """Return start and end on the joined clock."""
        parts = [
            tuple(time + offsets_s[clock] for time in span.seconds(frame_s, self.longest_s))
            for clock, span in self.spans.items()
            if span.first is not None
        ]
        shift_s = self.shift_ticks * self.time_base
        start_s = min(start for start, _ in parts) + self.lead_ticks * self.time_base
        return start_s + shift_s, max(end for _, end in parts) + shift_s

    def last_s(self, offsets_s: list[Fraction]) -> Fraction:
        """Return the time of the last packet that is shown, on the joined clock."""
        return self.shift_ticks * self.time_base + max(
            span.last * self.time_base + offsets_s[clock]
            for clock, span in self.spans.items()
            if span.last is not None
        )

    def track_clock(self, offsets_s: list[Fraction]) -> TrackClock | None:
        """Return the corrections that readers apply; None without any."""
        changes = [(packet, offsets_s[clock], ticks) for packet, clock, ticks in self.clock_begins]
        if self.shift_ticks and not any(packet == 0 for packet, _, _ in changes):
            changes.insert(0, (0, Fraction(0), 0))
        jumps = tuple(
            (packet, round(offset_s / self.time_base) + ticks + self.shift_ticks)
            for packet, offset_s, ticks in changes
        )
        if not jumps and not self.lead_ticks:
            return None
        return TrackClock(lead_packets=self.lead_packets, lead_ticks=self.lead_ticks, jumps=jumps)

    def hidden_pictures(self) -> Hidden:
        """Sort the hidden packets by what a copy has to do with them."""
        span = self.spans[0]
        if not self.hidden or span.first is None or span.last is None:
            return Hidden(left_out=frozenset(self.unseen))
        # Behind the last shown packet nothing is needed any more. Before a shown key frame
        # nothing is either, unless pictures of the time before it are still to come (open
        # groups); key frames of a closed group have the earliest time of all that follow. A
        # picture that the edit list cuts is hidden by FFmpeg, but other players show its rest.
        left_out = {number for number, _ in self.hidden if number > self.last_shown}
        first_key = self.keys_shown[0] if self.keys_shown else None
        is_cut = self.shift_ticks * self.time_base > _ROUNDING_S
        if first_key is not None and first_key[1] == span.first and not is_cut:
            left_out |= {number for number, _ in self.hidden if number < first_key[0]}
        kept = [time for number, time in self.hidden if number not in left_out]
        return Hidden(
            num_before=sum(time < span.first for time in kept),
            num_between=sum(span.first <= time <= span.last for time in kept),
            num_after=sum(time > span.last for time in kept),
            left_out=frozenset(left_out | self.unseen),
        )


class ClockScan:
    """Finds where the clock of a file jumps, over all tracks that are read."""

    def __init__(self, container: InputContainer, tracks: dict[int, TrackScan]) -> None:
        self.tracks = tracks
        """By stream index."""
        self.num_clocks = 1
        self._joins: list[tuple[int, Fraction, Fraction]] = []
        """(clock before, where it is due to go on, where the new one begins) of each new clock."""
        self._may_jump = bool(container.format.flags & cast("int", Flags.ts_discont.value))

    def add(self, packet: Packet[Any]) -> None:
        """Take a packet in, in stored order over all tracks."""
        track = self.tracks[packet.stream.index]
        if self._may_jump:
            turned = self._turn(track, packet)
            track.add(packet, self._clock_of(track, packet), turned)
        else:
            track.add(packet, 0)

    def _turn(self, track: TrackScan, packet: Packet[Any]) -> int:
        """Add whole turns to a packet's times, such that it follows on best; return the ticks."""
        turned = 0
        if packet.dts is not None and track.next_s is not None:
            due = track.next_s / float(track.time_base)
            turned = round((due - packet.dts) / _TURN) * _TURN
            packet.dts += turned
            if packet.pts is not None:
                packet.pts += turned
            if track.clock or turned:
                _turn_pts(packet)
        return turned

    def _clock_of(self, track: TrackScan, packet: Packet[Any]) -> int:
        time, due = packet.dts, track.next
        if time is None:
            return track.clock
        if packet.pts is not None and abs(packet.pts - time) * track.time_base > _FORWARD_S:
            time = packet.pts  # FFmpeg guessed the other one from the part before
            span = track.spans.get(track.clock)
            due = time if span is None or span.end is None else span.end
        time_s = float(time * track.time_base)
        clock = track.clock
        if track.next_s is None:
            clock = self.num_clocks - 1
        elif not -_BACK_S <= time_s - track.next_s <= _FORWARD_S:
            clock = self._other_clock(track, time_s)
            if clock == self.num_clocks:
                self._join(track, due, time)
        track.next = time + (packet.duration or 0)
        track.next_s = float(track.next * track.time_base)
        return clock

    def _join(self, track: TrackScan, due: int, begin: int) -> None:
        """Let a new clock begin where one track is due to go on, as FFmpeg's copy does.

        The others go along: sound may overlap itself by the codec's padding.
        """
        self._joins.append((track.clock, due * track.time_base, begin * track.time_base))
        self.num_clocks += 1

    def _other_clock(self, track: TrackScan, time_s: float) -> int:
        """Find the clock of a packet that does not follow on the one before; may be a new one."""
        assert track.next_s is not None
        others = [o for o in self.tracks.values() if o is not track and o.next_s is not None]
        for other in others:  # another track went over to a new clock before this one
            if other.clock > track.clock and abs(time_s - (other.next_s or 0)) <= _FORWARD_S:
                return other.clock
        if time_s > track.next_s and any(
            other.clock == track.clock and time_s - (other.next_s or 0) <= _FORWARD_S
            for other in others
        ):
            return track.clock  # a picture stood while the sound went on, or the other way round
        return self.num_clocks

    def offsets_s(self) -> list[Fraction]:
        """Return for each clock the seconds that join it to the one before it."""
        offsets = [Fraction(0)]
        for before, due_s, begin_s in self._joins:
            offsets.append(offsets[before] + due_s - begin_s)
        return offsets


def join(
    video: tuple[Fraction, Fraction] | None,
    sounds: Sequence[tuple[Fraction, Fraction]],
    *,
    sound_frame_s: Fraction,
) -> tuple[Fraction, Fraction]:
    """Return start and end of a file, from those of its tracks.

    Less than one codec frame of sound beyond the pictures, on either side, is taken for the
    codec's padding, which many containers do not tell from sound.

    Args:
        video: Start and end of the moving picture; None without one.
        sounds: Start and end of each sound track.
        sound_frame_s: Seconds of one codec frame of the sound; 0 for a codec without padding.
    """
    if video is None:  # what is read is the first track
        return sounds[0] if sounds else (Fraction(0), Fraction(0))
    padding_s = min(sound_frame_s, MAX_PADDING_S) + _ROUNDING_S
    first_s = min((start for start, _ in sounds), default=video[0])
    last_s = max((end for _, end in sounds), default=video[1])
    return (
        first_s if first_s < video[0] - padding_s else video[0],
        last_s if last_s > video[1] + padding_s else video[1],
    )
