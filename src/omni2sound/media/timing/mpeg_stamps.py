"""Timestamps of MPEG-1 and MPEG-2 pictures that FFmpeg takes from the wrong place.

In:   the times of a track's packets, as they are read.
Out:  what to add to single ones.

A program stream (.mpg, .vob) is cut in packs of 2 KB that begin anywhere within a picture, and
only some pictures have a stamp. The rest is filled in, and goes wrong in two places. Where a
picture's first bytes end a pack, it gets the stamp of the next one; what is counted from there is
late or early by some pictures, until a stamp takes it back. And a reference picture without a stamp
is shown when the next one is decoded; for the last one of a joined part, FFmpeg finds that in the
next part, on another clock.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np
from av.packet import Packet
from numpy.typing import NDArray

CODECS = ("mpeg1video", "mpeg2video")

_MAX_REORDER = 16
"""Packets from a reference picture to the next one."""
_MAX_SOUGHT = 20_000
"""Packets of the next part among which FFmpeg finds the one that it takes a time from."""
_ROUNDING = 1
"""Ticks."""


class StampLog:
    """Times of all packets of one track, in ticks."""

    def __init__(self) -> None:
        self._pts = array("q")
        self._dts = array("q")
        self._durations = array("q")
        self._clocks = array("q")
        self._is_complete = True

    def __len__(self) -> int:
        return len(self._dts)

    def add(self, packet: Packet[Any], clock: int) -> None:
        """Take a packet in, which belongs to a clock."""
        if packet.pts is None or packet.dts is None:
            self._is_complete = False
        self._pts.append(packet.pts or 0)
        self._dts.append(packet.dts or 0)
        self._durations.append(packet.duration or 0)
        self._clocks.append(clock)

    def moved(self) -> dict[int, tuple[int, int]]:
        """Return what to add to presentation and decoding time, by number of the packet."""
        if not self._is_complete or len(self._dts) < 2:
            return {}
        pts, dts, durations, clocks = (
            np.frombuffer(values, np.int64)
            for values in (self._pts, self._dts, self._durations, self._clocks)
        )
        late = _late(pts, dts, durations, clocks)
        right_dts = dts - late
        right_pts = pts - late
        # A picture that is shown when it is decoded is no reference (a B-frame).
        for part in np.split(np.arange(len(dts)), np.flatnonzero(np.diff(clocks)) + 1):
            references = part[pts[part] != dts[part]]
            here, following = references[:-1], references[1:]
            is_filled = (pts[here] == dts[following]) & ((late[here] != 0) | (late[following] != 0))
            right_pts[here[is_filled]] = right_dts[following[is_filled]]
            last = references[-1] if len(references) else -1
            if last >= part[-1] - _MAX_REORDER and last >= 0:
                due = right_dts[part[-1]] + durations[part[-1]]
                missing, off = divmod(right_pts[last] - due, max(1, durations[part[-1]]))
                ahead = slice(part[-1] + 1, part[-1] + 1 + _MAX_SOUGHT)
                found = (pts[ahead] != dts[ahead]) & (dts[ahead] > dts[last])
                is_foreign = found.any() and dts[ahead][found.argmax()] == pts[last]
                # Otherwise the part was cut before the B-frames that are shown first.
                if is_foreign or off or not 0 <= missing <= _MAX_REORDER:
                    right_pts[last] = due
        changed = np.flatnonzero((right_pts != pts) | (right_dts != dts))
        return {
            int(number): (int(right_pts[number] - pts[number]), int(-late[number]))
            for number in changed
        }

    def shown_times(
        self, clock: int, moved: Mapping[int, tuple[int, int]], unseen: set[int]
    ) -> list[tuple[int, int]]:
        """Return (presentation time, duration) of the packets of a clock, corrected."""
        return [
            (pts + moved.get(number, (0, 0))[0], duration)
            for number, (pts, duration, on) in enumerate(
                zip(self._pts, self._durations, self._clocks, strict=True)
            )
            if on == clock and number not in unseen
        ]


def _late(
    pts: NDArray[np.int64],
    dts: NDArray[np.int64],
    durations: NDArray[np.int64],
    clocks: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Ticks by which each decoding time is late; below 0, early.

    One picture late until a stamp takes it back; or early, from the reference picture on that
    follows one which was given the stamp of the B-frame behind it.
    """
    late = np.zeros_like(dts)
    steps = np.diff(dts) - durations[:-1]
    doubled = np.flatnonzero((pts[:-1] == pts[1:]) & (pts[:-1] != dts[:-1]) & (pts[1:] == dts[1:]))
    begin = by = 0
    for before in np.flatnonzero((steps != 0) | (np.diff(clocks) != 0)).tolist():
        number, step = before + 1, int(steps[before])
        is_joint = clocks[number] != clocks[before]
        if by < 0 or (by > 0 and not is_joint and abs(step + by) <= _ROUNDING):
            late[begin:number] = by
        if is_joint or abs(step + by) <= _ROUNDING:
            by = 0
        elif step > 0:
            off = min(abs(step - int(durations[n])) for n in (before, number))
            begin, by = number, step if off <= _ROUNDING else 0
        else:
            nearest = doubled[np.searchsorted(doubled, number) - 1] if len(doubled) else -1
            is_early = number - _MAX_REORDER <= nearest < number
            begin, by = number, step if is_early else 0
    if by < 0:
        late[begin:] = by
    return late
