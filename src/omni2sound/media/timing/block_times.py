"""Times before 0 in Matroska, which FFmpeg does not tell.

In:   packets in stored order, some without a presentation time.
Out:  the same packets with their times.

A block's time is that of its cluster, plus 16 bits with a sign (RFC 9559, 10.2). FFmpeg gives none
if the sum is below 0. It tells where the block is stored, and another block of the same track and
cluster says what the cluster's time is.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from av.packet import Packet
from av.stream import Stream

from omni2sound.media.headers.ebml import num_bytes
from omni2sound.readers import open_regular

_StreamT = TypeVar("_StreamT", bound=Stream)

_MAX_HELD, _MAX_HELD_BYTES = 1024, 2**26
"""Packets that wait for one with a time; 16 bits of milliseconds are 33 s."""
_MAX_REORDER = 16
"""Pictures stored before one that is shown earlier; what has no time behind them is damaged."""
_MAX_TRACK_BYTES = 8


def with_block_times(packets: Iterator[Packet[_StreamT]], path: Path) -> Iterator[Packet[_StreamT]]:
    """Give times to packets of a Matroska file that have none.

    Args:
        packets: As FFmpeg reads them.
        path: The file.

    Returns:
        The packets in the same order; one whose time can't be found has none.
    """
    timed: dict[int, Packet[_StreamT]] = {}
    num_timed: Counter[int] = Counter()
    held: list[Packet[_StreamT]] = []
    for packet in packets:
        index = packet.stream.index
        if packet.pts is not None:
            timed.setdefault(index, packet)
            num_timed[index] += 1
        elif index in timed and num_timed[index] <= _MAX_REORDER:
            _set_time(packet, timed[index], path)
        if held or (packet.pts is None and index not in timed):
            held.append(packet)
            waits = any(p.pts is None and p.stream.index not in timed for p in held)
            if waits and len(held) < _MAX_HELD and sum(p.size for p in held) < _MAX_HELD_BYTES:
                continue
            for late in held:
                if late.pts is None and late.stream.index in timed:
                    _set_time(late, timed[late.stream.index], path)
                yield late
            held.clear()
        else:
            yield packet
    yield from held


def _set_time(packet: Packet[Any], timed: Packet[Any], path: Path) -> None:
    place, known = _block_time(path, packet), _block_time(path, timed)
    if place is not None and known is not None and timed.pts is not None:
        pts = timed.pts - known + place
        if pts < 0:  # else they are of two clusters
            packet.pts = pts


def _block_time(path: Path, packet: Packet[Any]) -> int | None:
    """Time of a packet's block after that of its cluster, in ticks."""
    if packet.pos is None or packet.pos < 0:
        return None
    with open_regular(path) as file:
        file.seek(packet.pos)
        head = file.read(_MAX_TRACK_BYTES + 2)
    num_track_bytes = num_bytes(head)
    if len(head) < num_track_bytes + 2:
        return None
    return int(struct.unpack_from(">h", head, num_track_bytes)[0])
