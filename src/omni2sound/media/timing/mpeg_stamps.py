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

MAX_EARLY_S = 0.2
"""Most by which a reference picture is decoded too early that has the stamp of a B-frame."""
_MAX_REORDER = 16
"""Packets from a reference picture to the next one."""
_MAX_SOUGHT = 20_000
"""Packets of the next part among which FFmpeg finds the one that it takes a time from."""
_MAX_UNSTAMPED = 20
"""Pictures without a stamp of their own: stamps are at most 0.7 s apart (ISO 13818-1, 2.7.4)."""
_LAWFUL = 0.5
"""Share of reference pictures that are shown when the next one is decoded, in a track that has
them at all."""
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

    def go_over(self, before: int, clock: int) -> None:
        """Let the packets of one clock belong to another."""
        self._clocks = array("q", (clock if at == before else at for at in self._clocks))

    def moved(self) -> dict[int, tuple[int, int]]:
        """Return what to add to presentation and decoding time, by number of the packet."""
        if not self._is_complete or len(self._dts) < 2:
            return {}
        pts, dts, durations, clocks = (
            np.frombuffer(values, np.int64)
            for values in (self._pts, self._dts, self._durations, self._clocks)
        )
        late = _late(dts, durations, clocks)
        right_dts = dts - late
        right_pts = pts - late
        # A picture that is shown when it is decoded is no reference (a B-frame).
        for part in np.split(np.arange(len(dts)), np.flatnonzero(np.diff(clocks)) + 1):
            references = part[pts[part] != dts[part]]
            here, following = references[:-1], references[1:]
            is_due = right_pts[here] == right_dts[following]
            if len(here) and is_due.mean() > _LAWFUL:
                counted = np.cumsum(durations)  # from one to the next, all pictures are there
                is_whole = (
                    right_dts[following] - right_dts[here]
                    == counted[following - 1] - counted[here] + durations[here]
                )
                right_pts[here[is_whole]] = right_dts[following[is_whole]]
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
    dts: NDArray[np.int64], durations: NDArray[np.int64], clocks: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Ticks by which each decoding time is late; below 0, early.

    One picture late, or some early, until a stamp takes it back or no stamp can follow.
    """
    late = np.zeros_like(dts)
    steps = np.diff(dts) - durations[:-1]
    begin = by = 0
    for before in np.flatnonzero((steps != 0) | (np.diff(clocks) != 0)).tolist():
        number, step = before + 1, int(steps[before])
        is_joint = clocks[number] != clocks[before]
        if is_joint or (by and abs(step + by) <= _ROUNDING):
            if not is_joint or _is_wrong(by, number - begin):
                late[begin:number] = by
            by = 0
        else:
            pictures = int(durations[before]), int(durations[number])
            is_late = min(abs(step - ticks) for ticks in pictures) <= _ROUNDING
            begin, by = number, step if step < 0 or is_late else 0
    if _is_wrong(by, len(dts) - begin):
        late[begin:] = by
    return late


def _is_wrong(by: int, num_pictures: int) -> bool:
    """Whether a step that no stamp takes back is wrong: pictures may be missing, never overlap."""
    return by < 0 or (by > 0 and num_pictures <= _MAX_UNSTAMPED)
