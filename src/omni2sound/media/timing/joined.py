"""Files that were joined byte by byte (`cat A B`), in formats that do not allow for it.

In:   a path, the name of its format, what its packets tell.
Out:  an error or a warning that names the byte at which the second file begins.

Transport streams and DVD files may be joined so; their clocks are closed (`clock_scan`). Matroska,
mp4, FLV, ASF, NUT and most formats of sound begin with a header that counts for all that follows.
FFmpeg passes over the second header: of Matroska, NUT, FLAC and fragmented mp4 it mixes the packets
of both files, each with times from 0 on; of others it reads the first file only.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from omni2sound.errors import MediaError
from omni2sound.media.files import shown_name
from omni2sound.media.headers import ebml
from omni2sound.media.headers.mp4 import top_boxes
from omni2sound.readers import open_regular

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20
_MAX_HEADER = 128
"""Bytes within which a header is known."""
_MATROSKA = re.compile(ebml.EBML + rb".{1,64}?(?:matroska|webm).{0,32}?" + ebml.SEGMENT, re.DOTALL)
_MAGIC = {
    # With the size of no tag before the first one.
    "flv": (b"FLV\x01", re.compile(rb"FLV\x01[\x01\x04\x05]\x00\x00\x00\x09\x00{4}")),
    "nut": (b"nut/multimedia", re.compile(rb"nut/multimedia container\x00NM")),
    # Header object, its size and number of objects, and two reserved bytes.
    "asf": (
        b"0&\xb2u\x8ef\xcf\x11",
        re.compile(rb"0&\xb2u\x8ef\xcf\x11\xa6\xd9\x00\xaa\x00b\xcel.{12}\x01\x02", re.DOTALL),
    ),
    "wav": (b"RIFF", re.compile(rb"RIFF.{4}WAVE", re.DOTALL)),
    "aiff": (b"FORM", re.compile(rb"FORM.{4}AIF[FC]", re.DOTALL)),
    "w64": (b"riff.\x91", re.compile(rb"riff.\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0", re.DOTALL)),
    "caf": (b"caff\0\1", re.compile(rb"caff\x00\x01\x00\x00desc")),
    "tta": (b"TTA1", re.compile(rb"TTA1[\x01\x02]\x00[\x01-\x08]\x00")),
    # The block of stream information, of 34 bytes.
    "flac": (b"fLaC", re.compile(rb"fLaC[\0\x80]\0\0\x22")),
}
"""By FFmpeg's name of a format: how a file begins, and what follows that."""
_FRAGMENT = re.compile(rb"tfhd.{4}(.{4}).{0,40}?tfdt(.).{3}(.{8})", re.DOTALL)
"""Boxes with a track's number, and its first decoding time in 4 or 8 bytes (ISO 14496-12)."""
_MAX_BOXES, _MAX_ELEMENTS, _MAX_TRIES = 500_000, 64, 10_000
"""Boxes of an mp4, elements before a Segment and supposed headers that are looked at: files may be
made to keep a reader busy. Six hours in fragments of 0.2 s are 216,000 boxes."""
_MAX_FRAGMENTS = 64
"""Fragments that are read on either side: each may hold one track only."""


def refuse_joined(path: Path, format_name: str, *, steps_back: bool, read_to: int) -> None:
    """Refuse a file of which FFmpeg would mix two; say it where it reads the first one only.

    Args:
        path: A file whose packets have been read.
        format_name: FFmpeg's.
        steps_back: Whether decoding times step back.
        read_to: Byte at which the last packet was found.

    Raises:
        MediaError: It holds several files one behind the other, and their packets are mixed.
    """
    begin: int | None = None
    mixed, tool = True, "ffmpeg -f concat"
    if format_name.startswith("matroska"):
        begin, tool = _second_matroska(path, steps_back=steps_back), "mkvmerge -o OUT.mkv A + B"
    elif format_name in _MAGIC:
        mixed = steps_back
        with open_regular(path) as file:
            begin = _find(file, *_MAGIC[format_name], 1 if steps_back else max(1, read_to))
    elif format_name.startswith("mov") and (found := _second_mp4(path)):
        begin, mixed = found
    if begin is None:
        return
    what = f"{shown_name(path)}: expected one file, got several, one behind the other"
    advice = f"cut it at byte {begin} (head -c, tail -c), and join the parts with {tool}"
    if mixed:
        raise MediaError(
            f"{what}, as `cat` joins them, whose times contradict each other; {advice}"
        )
    logger.warning("%s; the first one is used, as players do; for all, %s", what, advice)


def warn_new(path: Path) -> None:
    """Say that streams appeared on the way, as in joined transport streams with other PIDs."""
    logger.warning(
        "%s: streams appeared on the way, which are not read; expected the same ones from the "
        "beginning to the end; for all, convert each part by itself and join them with "
        "ffmpeg -f concat",
        shown_name(path),
    )


def warn_others(path: Path, num_tracks: int) -> None:
    """Say that a transport stream has several pictures: programs, or parts with other PIDs."""
    logger.warning(
        "%s: has %d video tracks, as joined parts with other PIDs do; the first one is used; for "
        "all, convert each part by itself and join them with ffmpeg -f concat",
        shown_name(path),
        num_tracks,
    )


def _second_matroska(path: Path, *, steps_back: bool) -> int | None:
    """Where a second Matroska file begins; None: nowhere.

    Unless times step back, nothing is sought before the end of the first one, which recordings of
    a browser don't tell.
    """
    with open_regular(path) as file:
        begin = 1 if steps_back else _end_of_segment(file)
        return None if begin is None else _find(file, ebml.EBML, _MATROSKA, begin)


def _second_mp4(path: Path) -> tuple[int, bool] | None:
    """Where a second mp4 begins, and whether FFmpeg mixes both; None: nowhere.

    A header that is repeated between fragments whose times go on begins nothing.
    """
    with open_regular(path) as file:
        boxes = list(islice(top_boxes(file), _MAX_BOXES))
        kinds = [kind for kind, _, _ in boxes]
        if b"moov" not in kinds or b"ftyp" not in kinds[kinds.index(b"moov") :]:
            return None
        second = kinds.index(b"ftyp", kinds.index(b"moov"))
        if b"moov" not in kinds[second:]:
            return None
        begin = boxes[second][1]
        before = [box for box in boxes[:second] if box[0] == b"moof"][-_MAX_FRAGMENTS:]
        after = [box for box in boxes[second:] if box[0] == b"moof"][:_MAX_FRAGMENTS]
        if not after:
            return begin, False
        first_due = 0 if b"mdat" in kinds[:second] else -1
        last = dict(_fragment_times(file, before))
        times = dict(reversed(list(_fragment_times(file, after))))
        restarts = any(time <= last.get(track, first_due) for track, time in times.items())
        return (begin, True) if restarts else None


def _end_of_segment(file: BinaryIO) -> int | None:
    """Where the first Segment ends; None: it does not say."""
    at = 0
    for _ in range(_MAX_ELEMENTS):
        if at >= _size_of(file):
            return None
        file.seek(at)
        header = ebml.read_header(file.read(ebml.MAX_HEADER_BYTES), 0)
        if header is None:
            return None
        kind, start, size = header
        if size is None:
            return None
        at += start + size
        if kind == ebml.SEGMENT:
            return at
    return None


def _size_of(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _find(file: BinaryIO, magic: bytes, header: re.Pattern[bytes], begin: int) -> int | None:
    if begin >= _size_of(file):
        return None
    file.seek(begin)
    before, at, num_tries = b"", begin, 0
    while chunk := file.read(_CHUNK):
        data = before + chunk
        found = data.find(magic)
        while found >= 0 and num_tries < _MAX_TRIES:
            num_tries += 1
            if header.match(data, found):
                return at - len(before) + found
            found = data.find(magic, found + 1)
        at += len(chunk)
        before = data[-_MAX_HEADER:]
    return None


def _fragment_times(
    file: BinaryIO, fragments: Sequence[tuple[bytes, int, int]]
) -> Iterator[tuple[int, int]]:
    """Yield (track, first decoding time in ticks) of each part of each fragment."""
    for _, start, size in fragments:
        file.seek(start)
        for track, version, time in _FRAGMENT.findall(file.read(min(size, _CHUNK))):
            ticks = time if version != b"\0" else time[:4]
            yield int.from_bytes(track, "big"), int.from_bytes(ticks, "big")
