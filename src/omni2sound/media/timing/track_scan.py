"""What one pass over the packets of a track finds: its beginning, its end, hidden pictures.

In:   the packets of one track, each with the number of its clock (`clock_scan`).
Out:  times on the joined clock, `TrackClock`, `Hidden`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from av.packet import Packet
from av.video.frame import VideoFrame

from omni2sound.media.timing.mpeg_stamps import StampLog
from omni2sound.media.timing.timeline import ROUNDING_S, Hidden, TrackClock

MAX_UNTOLD_S = 120
"""The longest that a picture may stand without a header that says so. A longer time is a slide
if the header's duration has room for it, else a damaged timestamp, which would ask for hours of
sound."""
MAX_REORDER = 16
"""Pictures stored before one that is shown earlier."""
_MAX_APART = 4
"""Packets by which the tracks of a joined part may begin earlier or later in the file."""
_MAX_STEP_BACK_S = Fraction(1, 10)
"""FFmpeg guesses decoding times that are not stored."""


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
        self.longest_step_back = 0
        self.num_untimed = 0
        """Packets before the first one with a time; FFmpeg's Matroska gives no negative times."""
        self._first_timed: int | None = None
        """Number of that one."""
        self._order: int | None = None
        self._is_decoding = False
        """Whether that is a decoding time; else the presentation time stands in."""

    def add(self, packet: Packet[Any]) -> None:
        """Take a packet in."""
        if packet.is_discard:  # hidden by an edit list, needed to decode what follows
            return
        pts, dts, duration = packet.pts, packet.dts, packet.duration or 0
        order = pts if dts is None else dts
        if order is not None:
            if self._order is not None:
                step = order - self._order
                if step > self.longest_gap:
                    self.longest_gap = step
                elif step < 0:
                    self._step_back(-step, is_decoding=dts is not None)
            self._order, self._is_decoding = order, dts is not None
        time = dts if pts is None else pts
        if time is None:
            if self._first_timed is None or self.num_packets <= self._first_timed + MAX_REORDER:
                self.num_untimed += 1
            if self._first_timed is None or self.stored_end is None:
                time = self.num_packets * duration  # a bare stream
            else:
                time = self.stored_end
        elif self._first_timed is None:
            self._first_timed = self.num_packets
            self.first = self.last = None
        self.has_pts = self.has_pts and pts is not None
        self.num_packets += 1
        if self.first is None or time < self.first:
            self.first = time
        if self.last is None or time >= self.last:
            self.last, self.last_duration = time, duration
        self.stored_end = time + duration

    def _step_back(self, step: int, *, is_decoding: bool) -> None:
        self.longest_gap = max(self.longest_gap, step)
        if is_decoding and self._is_decoding:
            self.longest_step_back = max(self.longest_step_back, step)

    def correct(self, times: Sequence[tuple[int, int]]) -> None:
        """Replace what was found by (presentation time, duration) of each packet."""
        self.first = min(time for time, _ in times)
        self.last, self.last_duration = max(times)
        self.stored_end = sum(times[-1])

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
        self.run_number = 0
        """The first packet on its clock, counted over all tracks."""
        self.latest: deque[int] = deque(maxlen=_MAX_APART)
        """Its last packets so far, counted over all tracks."""
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
        self.stamps: StampLog | None = None
        """Of a track whose timestamps have to be corrected one by one."""
        self.moved: dict[int, tuple[int, int]] = {}
        """By packet, what to add to its presentation and decoding time."""

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

    def go_over(self, clock: int) -> None:
        """Let the packets of the present clock, which had none before, belong to another one."""
        before, self.clock = self.clock, clock
        if self._held is not None:
            self._held = [
                (p, clock if at == before else at, turned) for p, at, turned in self._held
            ]
        if self.num_packets:
            self.spans[clock] = self.spans.pop(before)
            self.spans.setdefault(0, Span(self.time_base))
            begins = self.clock_begins or [(0, before, 0)]
            self.clock_begins = [
                (n, clock if at == before else at, ticks) for n, at, ticks in begins
            ]
        if self.stamps is not None:
            self.stamps.go_over(before, clock)

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

    def correct(self) -> None:
        """Correct single timestamps, once all packets are in."""
        self.moved = {} if self.stamps is None else self.stamps.moved()
        if self.stamps is None or not self.moved:
            return
        for clock, span in self.spans.items():
            if times := self.stamps.shown_times(clock, self.moved, self.unseen):
                span.correct(times)

    @property
    def first_clock(self) -> int:
        """Clock of the first packet."""
        begins = self.clock_begins
        return begins[0][1] if begins and begins[0][0] == 0 else 0

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

    @property
    def steps_back(self) -> bool:
        """Whether decoding times ever step back."""
        steps = (span.longest_step_back * self.time_base for span in self.spans.values())
        return max(steps) > _MAX_STEP_BACK_S

    def seconds(self, offsets_s: list[Fraction], frame_s: Fraction) -> tuple[Fraction, Fraction]:
        """Return start and end on the joined clock."""
        longest_s = max(self.longest_s, self.longest_gap_s)  # as long as one before it stood
        parts = [
            tuple(time + offsets_s[clock] for time in span.seconds(frame_s, longest_s))
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
        if not jumps and not self.lead_ticks and not self.moved:
            return None
        return TrackClock(
            lead_packets=self.lead_packets,
            lead_ticks=self.lead_ticks,
            jumps=jumps,
            moved=self.moved,
        )

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
        is_cut = self.shift_ticks * self.time_base > ROUNDING_S
        if first_key is not None and first_key[1] == span.first and not is_cut:
            left_out |= {number for number, _ in self.hidden if number < first_key[0]}
        kept = [time for number, time in self.hidden if number not in left_out]
        return Hidden(
            num_before=sum(time < span.first for time in kept),
            num_between=sum(span.first <= time <= span.last for time in kept),
            num_after=sum(time > span.last for time in kept),
            left_out=frozenset(left_out | self.unseen),
        )
