"""The end of a picture track in a finished mp4 or mov.

In:   a file that FFmpeg wrote.
Out:  the same file, whose picture ends where it is told to.

FFmpeg's muxer lets a track last to the end of its last picture in time. Where such pictures are
only stored because others are built upon them, the edit list has to end before; a timecode
lasts as long as the picture. Only the three
numbers that say so are changed; nothing in the file moves. (ISO/IEC 14496-12, 8.6.6.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from omni2sound.errors import MediaError
from omni2sound.media.copy.boxes import children
from omni2sound.media.files import shown_name
from omni2sound.media.samples import round_half_up


def end_picture(path: Path, end_s: Fraction) -> None:
    """Let the picture track of a file end at a time, and the film with its longest track.

    Raises:
        MediaError: The file is not one of FFmpeg's.
    """
    with path.open("r+b") as file:
        at, size = _find_moov(file.seek(0, 2), path)
        file.seek(at)
        moov = bytearray(file.read(size))
        try:
            _end_picture(moov, end_s)
        except (KeyError, ValueError, struct.error) as error:
            raise MediaError(f"{shown_name(path)}: has no edit list that can be changed") from error
        file.seek(at)
        file.write(moov)


def _end_picture(moov: bytearray, end_s: Fraction) -> None:
    movie = dict(_boxes(moov, 8, len(moov)))
    scale = _number(moov, movie[b"mvhd"] + 20)
    longest = 0
    for kind, track in _boxes(moov, 8, len(moov)):
        if kind != b"trak":
            continue
        parts = dict(_inner(moov, track))
        media = dict(_inner(moov, parts[b"mdia"]))
        kind_at = media[b"hdlr"] + 16
        if bytes(moov[kind_at : kind_at + 4]) in (b"vide", b"tmcd"):
            edits = dict(_inner(moov, parts[b"edts"]))[b"elst"]
            entries = range(edits + 16, edits + 16 + 12 * _number(moov, edits + 12), 12)
            before = sum(_number(moov, entry) for entry in entries[:-1])
            shown = round_half_up(end_s * scale) - before
            struct.pack_into(">I", moov, entries[-1], shown)
            struct.pack_into(">I", moov, parts[b"tkhd"] + 28, before + shown)
        longest = max(longest, _number(moov, parts[b"tkhd"] + 28))
    struct.pack_into(">I", moov, movie[b"mvhd"] + 24, longest)


def _find_moov(num_bytes: int, path: Path) -> tuple[int, int]:
    with path.open("rb") as file:
        at = 0
        while at + 8 <= num_bytes:
            file.seek(at)
            size, kind = struct.unpack(">I4s", file.read(8))
            if size == 1:
                size = struct.unpack(">Q", file.read(8))[0]
            if kind == b"moov":
                return at, size
            at += max(8, size)
    raise MediaError(f"{shown_name(path)}: has no header that can be changed")


def _inner(data: bytearray, box: int) -> Iterator[tuple[bytes, int]]:
    return _boxes(data, box + 8, box + _number(data, box))


def _boxes(data: bytearray, begin: int, end: int) -> Iterator[tuple[bytes, int]]:
    """(kind, place) of boxes that follow each other; versions other than 0 are refused."""
    for kind, place, _ in children(data, begin, end):
        if kind in (b"mvhd", b"tkhd", b"elst") and data[place + 8] != 0:
            raise ValueError
        yield kind, place


def _number(data: bytearray, at: int) -> int:
    return int(struct.unpack_from(">I", data, at)[0])
