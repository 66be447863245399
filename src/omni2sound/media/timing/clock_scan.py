"""Where the clock of a file jumps.

In:   the packets of all tracks that are read, in stored order.
Out:  the number of each packet's clock, and what joins a clock to the one before it.
"""

from __future__ import annotations

from fractions import Fraction
from math import inf
from typing import Any, NamedTuple, cast

from av.container import InputContainer
from av.format import Flags
from av.packet import Packet

from omni2sound.media.timing import mpeg_stamps
from omni2sound.media.timing.mpeg_stamps import StampLog
from omni2sound.media.timing.timeline import TURN, turn_pts
from omni2sound.media.timing.track_scan import TrackScan

_BACK_S, _FORWARD_S = 0.1, 10.0
"""Steps of decoding time that mean a new clock; FFmpeg's copy uses the same two numbers."""


class _Join(NamedTuple):
    """Where one track goes over to a new clock."""

    before: int
    """Number of the clock before."""
    track: TrackScan
    due: int
    """Ticks at which the track is due to go on, on that clock, ..."""
    begin: int
    """... and at which it begins on the new one."""
    number: int
    """The packet that does, for a track with single timestamps to correct."""

    @property
    def offset_s(self) -> Fraction:
        """Seconds from the new clock to the one before."""
        (_, late), (_, late_begin) = (
            self.track.moved.get(number, (0, 0)) for number in (self.number - 1, self.number)
        )
        return (self.due + late - self.begin - late_begin) * self.track.time_base


class ClockScan:
    """Finds where the clock of a file jumps, over all tracks that are read."""

    def __init__(self, container: InputContainer, tracks: dict[int, TrackScan]) -> None:
        self.tracks = tracks
        """By stream index."""
        self.num_clocks = 1
        self._num_packets = 0
        self._joins: list[_Join] = []
        """What joins each clock but the first to an earlier one."""
        # Such formats have no header that tells a length either.
        self.may_jump = bool(container.format.flags & cast("int", Flags.ts_discont.value))
        # Recorders of live streams go on in one FLV file when the stream begins again, at 0. There
        # is one header, so steps ahead are slides.
        self._has_clocks = self.may_jump or container.format.name == "flv"
        self._forward_s = _FORWARD_S if self.may_jump else inf
        if self.may_jump:
            for index, track in tracks.items():
                if container.streams[index].codec_context.name in mpeg_stamps.CODECS:
                    track.stamps = StampLog()

    def add(self, packet: Packet[Any]) -> None:
        """Take a packet in, in stored order over all tracks."""
        track = self.tracks[packet.stream.index]
        self._num_packets += 1
        if self._has_clocks:
            turned = self._turn(track, packet)
            clock = self._clock_of(track, packet)
            if not track.latest or clock != track.clock:
                track.run_number = self._num_packets
            if track.stamps is not None:
                track.stamps.add(packet, clock)
            track.add(packet, clock, turned)
        else:
            track.add(packet, 0)
        track.latest.append(self._num_packets)

    def _turn(self, track: TrackScan, packet: Packet[Any]) -> int:
        """Add whole turns to a packet's times, such that it follows on best; return the ticks."""
        turned = 0
        next_s = track.next_s
        if next_s is None:  # its first packet: as the others
            next_s = next((t.next_s for t in self.tracks.values() if t.next_s is not None), None)
        if packet.dts is not None and next_s is not None:
            due = next_s / float(track.time_base)
            turned = round((due - packet.dts) / TURN) * TURN
            packet.dts += turned
            if packet.pts is not None:
                packet.pts += turned
            if track.clock or turned:
                turn_pts(packet)
        return turned

    def _clock_of(self, track: TrackScan, packet: Packet[Any]) -> int:
        time, due = packet.dts, track.next
        if time is None:
            return track.clock
        if (
            track.stamps is None
            and packet.pts is not None
            and abs(packet.pts - time) * track.time_base > _FORWARD_S
        ):
            time = packet.pts  # FFmpeg guessed the other one from the part before
            span = track.spans.get(track.clock)
            due = time if span is None or span.end is None else span.end
        time_s = float(time * track.time_base)
        clock = track.clock
        back_s = _BACK_S if track.stamps is None else mpeg_stamps.MAX_EARLY_S
        if track.next_s is None:
            clock = self.num_clocks - 1
        elif not -back_s <= time_s - track.next_s <= self._forward_s:
            clock = self._other_clock(track, time_s)
            if clock == self.num_clocks:
                self._join(track, due, time)
            elif clock != track.clock:
                self._keep_apart(track, clock, time)
        track.next = time + (packet.duration or 0)
        track.next_s = float(track.next * track.time_base)
        return clock

    def _join(self, track: TrackScan, due: int, begin: int) -> None:
        """Let a new clock begin where one track is due to go on, as FFmpeg's copy does.

        The others go along, and may overlap themselves by the codec's padding (`_keep_apart`).
        """
        number = 0 if track.stamps is None else len(track.stamps)
        self._joins.append(_Join(track.clock, track, due, begin, number))
        clock, self.num_clocks = self.num_clocks, self.num_clocks + 1
        begin_s, due_s = begin * track.time_base, due * track.time_base
        # Those that the part before does not have may have begun already, a little ahead.
        ahead = track.latest[0] if track.latest else 0
        for other in self.tracks.values():
            if other is track or other.next_s is None or other.run_number <= ahead:
                continue
            if abs(other.next_s - float(begin_s)) < abs(other.next_s - float(due_s)):
                other.go_over(clock)

    def _keep_apart(self, track: TrackScan, clock: int, begin: int) -> None:
        """Let a clock begin later where a track, which goes over to it, had gone on for longer."""
        offsets_s = self.offsets_s()
        due_s = track.next * track.time_base + offsets_s[track.clock]
        overlap_s = due_s - (begin * track.time_base + offsets_s[clock])
        if overlap_s > _BACK_S:
            joint = self._joins[clock - 1]
            later = round(overlap_s / joint.track.time_base)
            self._joins[clock - 1] = joint._replace(due=joint.due + later)

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
        for joint in self._joins:
            offsets.append(offsets[joint.before] + joint.offset_s)
        return offsets
