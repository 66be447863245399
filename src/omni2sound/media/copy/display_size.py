"""The shape of pixels in a finished Matroska file.

In:   a file that FFmpeg wrote.
Out:  the same file, whose header says how large the picture is on screen.

VP8 and VP9 do not say it themselves, and PyAV has no way to tell it to FFmpeg's muxer. The muxer
writes the lengths of tracks in eight bytes; one or two are enough, and what that saves holds the
two numbers. So nothing behind the header moves. (RFC 9559, 5.1.4; RFC 8794.)
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from omni2sound.media.headers import ebml
from omni2sound.media.samples import round_half_up

_TRACK_ENTRY, _VIDEO, _VOID, _CRC_32 = b"\xae", b"\xe0", b"\xec", b"\xbf"
_PIXEL_WIDTH, _PIXEL_HEIGHT, _STEREO_MODE = b"\xb0", b"\xba", b"\x53\xb8"
_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = b"\x54\xb0", b"\x54\xba", b"\x54\xb2"
_MAX_TRACKS_BYTES = 2**24
_NUM_TOP_ELEMENTS = 50


def write_pixel_aspect(path: Path, pixel_aspect: Fraction) -> None:
    """Write the display size of the first picture; where it doesn't fit, the file stays as it is.

    Args:
        path: A closed .mkv or .webm file; changed in place.
        pixel_aspect: Width of a stored pixel over its height.
    """
    with path.open("r+b") as file:
        try:
            start, size = _find_tracks(file)
            file.seek(start)
            changed = _with_display_size(file.read(size), pixel_aspect)
        except (ValueError, KeyError, IndexError):
            return
        file.seek(start)
        file.write(changed)


def _with_display_size(tracks: bytes, pixel_aspect: Fraction) -> bytes:
    """Return the content of a Tracks element, as long as before."""
    elements = list(_elements(tracks))
    pictures = [i for i, (kind, data) in enumerate(elements) if _has_video(kind, data)]
    kind, entry = elements[pictures[0]]
    elements[pictures[0]] = (
        kind,
        b"".join(
            _element(name, _shown(data, pixel_aspect) if name == _VIDEO else data)
            for name, data in _elements(entry)
            if name != _VOID
        ),
    )
    kept = [_element(*element) for element in elements if element[0] not in (_VOID, _CRC_32)]
    has_checksum = any(kind == _CRC_32 for kind, _ in elements)
    room = len(tracks) - sum(map(len, kept)) - (6 if has_checksum else 0)
    if room < 0 or room == 1:  # no element is as short as one byte
        raise ValueError(room)
    if room:
        kept.append(_element(_VOID, bytes(room - 2 if room < 129 else room - 3)))
    body = b"".join(kept)
    checksum = _element(_CRC_32, zlib.crc32(body).to_bytes(4, "little"))
    return checksum + body if has_checksum else body


def _has_video(kind: bytes, data: bytes) -> bool:
    return kind == _TRACK_ENTRY and any(name == _VIDEO for name, _ in _elements(data))


def _shown(video: bytes, pixel_aspect: Fraction) -> bytes:
    """Return the content of a Video element with a display size; no side gets smaller."""
    elements = dict(_elements(video))
    if any(elements.get(_STEREO_MODE, b"")):
        raise ValueError  # the size of one eye, which depends on how they are packed
    width, height = (int.from_bytes(elements[kind]) for kind in (_PIXEL_WIDTH, _PIXEL_HEIGHT))
    elements.pop(_DISPLAY_UNIT, None)  # absent: pixels
    for kind, length in (
        (_DISPLAY_WIDTH, round_half_up(width * max(pixel_aspect, Fraction(1)))),
        (_DISPLAY_HEIGHT, round_half_up(height / min(pixel_aspect, Fraction(1)))),
    ):
        elements[kind] = length.to_bytes((length.bit_length() + 7) // 8)
    return b"".join(_element(kind, data) for kind, data in elements.items())


def _find_tracks(file: BinaryIO) -> tuple[int, int]:
    """(place, size) of the content of the Tracks element."""
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    for _ in range(_NUM_TOP_ELEMENTS):
        place = file.tell()
        header = ebml.read_header(file.read(ebml.MAX_HEADER_BYTES), 0)
        if header is None:
            break
        kind, start, size = header
        if kind == ebml.SEGMENT:
            size = 0
        if size is None:
            break
        if kind == ebml.TRACKS and size <= _MAX_TRACKS_BYTES:
            return place + start, size
        following = place + start + size
        if following > length:  # a damaged size may be larger than what can be sought
            break
        file.seek(following)
    raise ValueError


def _elements(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) of elements that follow each other."""
    at = 0
    while at < len(data):
        header = ebml.read_header(data, at)
        if header is None:
            raise ValueError
        kind, start, size = header
        if size is None:
            raise ValueError
        at = start + size
        if at > len(data):
            raise ValueError
        yield kind, data[start:at]


def _element(kind: bytes, data: bytes) -> bytes:
    """Return an element with the shortest size field; all ones would mean an unknown size."""
    num_bytes = next(n for n in range(1, 9) if len(data) < (1 << 7 * n) - 1)
    return kind + (1 << 7 * num_bytes | len(data)).to_bytes(num_bytes) + data
