"""The clock of the picture, for tracks that are copied and not scanned (subtitles).

In:   packets of the picture and of side tracks, in stored order; the jumps of the picture's clock.
Out:  packets of the side tracks on that clock.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from av.packet import Packet

from omni2sound.media.timing.timeline import TURN

_MAX_APART = 4
"""Pictures by which a track may go over to a new clock earlier or later in the file."""


class PictureClock:
    """What is added to the times of packets that lie beside a picture."""

    def __init__(self, jumps: Sequence[tuple[int, int]]) -> None:
        """Take the jumps of the picture's `TrackClock`."""
        self._begins = [packet for packet, _ in jumps]
        self._added = [ticks for _, ticks in jumps]
        self._num_read = 0
        self._base = Fraction(1, 90_000)
        """Seconds of a tick of the picture's clock."""
        self._last_s = Fraction(0)
        """Corrected decoding time of the last picture."""

    def add(self, packet: Packet[Any]) -> None:
        """Take the next packet of the picture in."""
        self._num_read += 1
        if packet.dts is not None:
            self._base = Fraction(packet.time_base or self._base)
            self._last_s = (packet.dts + self._ticks(self._num_read - 1)) * self._base

    def set_time(self, packet: Packet[Any]) -> None:
        """Correct the times of a side track's packet.

        Near a joint, demuxers give the tracks' packets in no fixed order: the clock counts on
        which the packet is nearest to the picture.
        """
        base = Fraction(packet.time_base or 1)
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None:
            return
        numbers = (self._num_read + apart for apart in (-1, -_MAX_APART, _MAX_APART))
        due = self._last_s / base
        choices = []
        for ticks in dict.fromkeys(self._ticks(number) for number in numbers):
            added = round(ticks * self._base / base)
            added += round((due - time - added) / TURN) * TURN
            choices.append(added)
        added = min(choices, key=lambda added: abs(time + added - due))
        if packet.pts is not None:
            packet.pts += added
        if packet.dts is not None:
            packet.dts += added

    def is_before(self, packet: Packet[Any], seconds: float) -> bool:
        """Whether a corrected packet begins so long before the last picture."""
        return (packet.pts or 0) * Fraction(packet.time_base or 1) < self._last_s - seconds

    def _ticks(self, number: int) -> int:
        place = bisect_right(self._begins, number)
        return self._added[place - 1] if place else 0
