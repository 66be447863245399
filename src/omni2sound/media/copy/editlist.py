"""Where a picture track begins and ends in a finished mp4 or mov.

In:   a file that FFmpeg wrote.
Out:  the same file, whose picture begins and ends where it is told to.

FFmpeg's muxer shows everything from the first picture at or after 0 to the end of the last one.
Where pictures are only stored because others are built upon them, the edit list has to begin
after them, or to end before; a timecode ends with the picture. `moov` lies last in the file, so
that nothing else moves. (ISO/IEC 14496-12, 8.6.6.)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

from omni2sound.errors import MediaError
from omni2sound.media.copy.boxes import change_moov, children, replace_range
from omni2sound.media.files import shown_name
from omni2sound.media.samples import round_half_up


def begin_picture(path: Path, begin_s: Fraction, *, first_dts_s: Fraction) -> None:
    """Let the picture track of a file begin at a time; before it stands nothing.

    Args:
        path: The file.
        begin_s: On the clock of the packets that were written.
        first_dts_s: Decoding time of the first one, with which the track's own clock starts.

    Raises:
        MediaError: The file is not one of FFmpeg's.
    """
    _change(path, partial(_begin_picture, begin_s=begin_s, first_dts_s=first_dts_s))


def end_picture(path: Path, end_s: Fraction) -> None:
    """Let the picture track of a file end at a time, and the film with its longest track.

    Raises:
        MediaError: The file is not one of FFmpeg's.
    """
    _change(path, partial(_end_picture, end_s=end_s))


def _change(path: Path, edit: Callable[[bytearray], None]) -> None:
    try:
        change_moov(path, edit)
    except (KeyError, ValueError, struct.error) as error:
        raise MediaError(f"{shown_name(path)}: has no edit list that can be changed") from error


def _begin_picture(moov: bytearray, begin_s: Fraction, first_dts_s: Fraction) -> None:
    movie = dict(_boxes(moov, 8, len(moov)))
    scale = _number(moov, movie[b"mvhd"] + 20)
    for kind, track in _boxes(moov, 8, len(moov)):
        if kind != b"trak":
            continue
        parts = dict(_inner(moov, track))
        media = dict(_inner(moov, parts[b"mdia"]))
        if bytes(moov[media[b"hdlr"] + 16 : media[b"hdlr"] + 20]) != b"vide":
            continue
        edits = dict(_inner(moov, parts[b"edts"]))[b"elst"]
        size = _number(moov, edits)
        entries = range(edits + 16, edits + size, 12)
        end = sum(_number(moov, entry) for entry in entries)
        media_time = round_half_up((begin_s - first_dts_s) * _number(moov, media[b"mdhd"] + 20))
        begin = round_half_up(begin_s * scale)
        rows = [(begin, -1), (end - begin, media_time)] if begin else [(end, media_time)]
        new = struct.pack(">II", 0, len(rows)) + b"".join(
            struct.pack(">IiI", *row, 1 << 16) for row in rows
        )
        replace_range(moov, [0, track, parts[b"edts"], edits], edits + 8, edits + size, new)
        return  # a cover is a later track


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


def _inner(data: bytearray, box: int) -> Iterator[tuple[bytes, int]]:
    return _boxes(data, box + 8, box + _number(data, box))


def _boxes(data: bytearray, begin: int, end: int) -> Iterator[tuple[bytes, int]]:
    """(kind, place) of boxes that follow each other; versions other than 0 are refused."""
    for kind, place, _ in children(data, begin, end):
        if kind in (b"mvhd", b"tkhd", b"mdhd", b"elst") and data[place + 8] != 0:
            raise ValueError
        yield kind, place


def _number(data: bytearray, at: int) -> int:
    return int(struct.unpack_from(">I", data, at)[0])
