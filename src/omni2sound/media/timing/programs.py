"""What a transport stream says of its tracks, from beginning to end.

In:   a transport stream, the PIDs of the tracks that are read.
Out:  an error where the codec of one changes on the way.

Parts of different codecs that are joined byte by byte mostly have the same PIDs, and FFmpeg takes
the second part's packets for those of the first one's codec. Each part tells its codecs in program
map tables (ISO/IEC 13818-1, 2.4.4).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omni2sound.errors import MediaError
from omni2sound.media.files import shown_name
from omni2sound.media.limits.file_bytes import FileBytes
from omni2sound.readers import open_regular

_PACKET_SIZES = (188, 192, 204)
"""Bytes of a packet: plain, with a timestamp before it (Blu-ray), with parity behind it."""
_PACKET, _SYNC = 188, 0x47
_CHUNK = 1 << 24
_MAX_TABLES = 1000
"""Different tables that are looked at: files may be made to keep a reader busy."""
_PAT_PID, _PAT_TABLE, _PMT_TABLE = 0, 0, 2
_REGISTRATION = 5
_NAMES = {
    0x01: "MPEG-1", 0x02: "MPEG-2", 0x03: "MPEG audio", 0x04: "MPEG audio", 0x0F: "AAC",
    0x10: "MPEG-4", 0x11: "AAC (LATM)", 0x1B: "H.264", 0x24: "HEVC", 0x33: "VVC", 0x81: "AC-3",
    0x87: "E-AC-3", 0xEA: "VC-1",
}  # fmt: skip
_PRIVATE = 0x06
_OF_DESCRIPTORS = {0x6A: "AC-3", 0x7A: "E-AC-3", 0x7B: "DTS", 0x7C: "AAC"}
"""Of private data (ETSI EN 300 468)."""


def refuse_new_codec(path: Path, pids: Collection[int]) -> None:
    """Refuse a transport stream in which a track goes over to another codec.

    Args:
        path: A transport stream.
        pids: Those of the tracks that are read.

    Raises:
        MediaError: The codec of one of them changes.
    """
    codecs: dict[int, str] = {}
    for pid, codec in _codecs(path):
        if pid in pids and codecs.setdefault(pid, codec) != codec:
            raise MediaError(
                f"{shown_name(path)}: expected one codec from the beginning to the end, got "
                f"{codecs[pid]} and then {codec}, as `cat` joins files; convert each part by "
                "itself, and join them with ffmpeg -f concat"
            )


def _codecs(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (PID, codec) of each track of each new program map table, in stored order."""
    known: set[bytes] = set()
    map_pids: set[int] = set()
    for pid, section in _sections(path, map_pids):
        if section in known:
            continue
        known.add(section)
        if len(known) > _MAX_TABLES:
            return
        if not _is_whole(section):
            continue
        if pid == _PAT_PID and section[0] == _PAT_TABLE:
            entries = section[8 : _end(section)]
            for at in range(0, len(entries) - 3, 4):
                if entries[at : at + 2] != b"\0\0":  # of the network
                    map_pids.add(int.from_bytes(entries[at + 2 : at + 4], "big") & 0x1FFF)
        elif pid in map_pids and section[0] == _PMT_TABLE:
            yield from _tracks(section)


def _tracks(section: bytes) -> Iterator[tuple[int, str]]:
    at = 12 + (int.from_bytes(section[10:12], "big") & 0xFFF)
    end = _end(section)
    while at + 5 <= end:
        kind, pid, length = section[at], section[at + 1 : at + 3], section[at + 3 : at + 5]
        size = int.from_bytes(length, "big") & 0xFFF
        descriptors = section[at + 5 : min(end, at + 5 + size)]
        yield int.from_bytes(pid, "big") & 0x1FFF, _codec(kind, descriptors)
        at += 5 + size


def _codec(kind: int, descriptors: bytes) -> str:
    if kind != _PRIVATE:
        return _NAMES.get(kind, f"stream type {kind:#04x}")
    at = 0
    while at + 2 <= len(descriptors):
        tag, size = descriptors[at], descriptors[at + 1]
        if tag in _OF_DESCRIPTORS:
            return _OF_DESCRIPTORS[tag]
        if tag == _REGISTRATION:
            return descriptors[at + 2 : at + 6].decode("ascii", "replace").strip()
        at += 2 + size
    return "private data"


def _sections(path: Path, map_pids: set[int]) -> Iterator[tuple[int, bytes]]:
    """Yield (PID, section) of tables that fit in one packet; `map_pids` grows meanwhile."""
    with open_regular(path) as file:
        data = FileBytes(file)
        size = _packet_size(data)
        for begin in range(0, len(data), _CHUNK):
            bytes_N = np.frombuffer(data[begin : begin + _CHUNK + size + 4], np.uint8)
            for at in _packets(bytes_N, size):
                if at < _CHUNK:
                    pid = (int(bytes_N[at + 1]) & 0x1F) << 8 | int(bytes_N[at + 2])
                    if pid == _PAT_PID or pid in map_pids:
                        packet = bytes(bytes_N[at : at + _PACKET])
                        yield pid, _section(packet)


def _packets(bytes_N: NDArray[np.uint8], size: int) -> list[int]:
    """Places of packets in which a section may begin: with a payload that begins a unit.

    Those of pictures and sound begin with other bytes.
    """
    if len(bytes_N) <= size + 4:
        return []
    last = len(bytes_N) - size
    is_packet = (bytes_N[:last] == _SYNC) & (bytes_N[size:] == _SYNC)
    places = np.flatnonzero(is_packet)
    starts = (bytes_N[places + 1] & 0x40 != 0) & (bytes_N[places + 3] & 0x30 == 0x10)
    places = places[starts]
    # A pointer of 0, and one of the two tables.
    tables = (bytes_N[places + 4] == 0) & np.isin(bytes_N[places + 5], (_PAT_TABLE, _PMT_TABLE))
    found: list[int] = places[tables].tolist()
    return found


def _packet_size(data: FileBytes) -> int:
    head = np.frombuffer(data[: 1 << 16], np.uint8)
    counts = [int(((head[:-n] == _SYNC) & (head[n:] == _SYNC)).sum()) for n in _PACKET_SIZES]
    return _PACKET_SIZES[int(np.argmax(counts))]


def _section(packet: bytes) -> bytes:
    section = packet[5:]
    return section[: 3 + (int.from_bytes(section[1:3], "big") & 0xFFF)]


def _end(section: bytes) -> int:
    """Where the checksum of a section begins."""
    return len(section) - 4


def _is_whole(section: bytes) -> bool:
    """Whether a section has its length and its checksum (CRC-32/MPEG-2)."""
    length = 3 + (int.from_bytes(section[1:3], "big") & 0xFFF)
    if len(section) != length or length < 12:
        return False
    value = 0xFFFFFFFF
    for byte in section:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
            value &= 0xFFFFFFFF
    return value == 0
