"""Headers of the boxes of mp4 and mov files.

In:   bytes, or an open file.
Out:  kind, place and size of boxes; None where there is none.

(ISO/IEC 14496-12, 4.2.)
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

from omni2sound.media.headers import Bytes

_HEADER_BYTES, _LONG_HEADER_BYTES = 8, 16


def read_header(data: Bytes, at: int, end: int) -> tuple[bytes, int, int] | None:
    """Read the header of a box.

    Args:
        data: Holds at least the header.
        at: Where the box begins.
        end: Where that ends which the box lies in; may be behind `data`.

    Returns:
        Kind, bytes of the header, bytes of the whole box, which may be more than there are.
    """
    there = min(end, len(data)) - at
    if there < _HEADER_BYTES:
        return None
    head = data[at : at + _LONG_HEADER_BYTES]
    size, kind = struct.unpack_from(">I4s", head)
    length = _HEADER_BYTES
    if size == 1 and there >= _LONG_HEADER_BYTES:
        (size,) = struct.unpack_from(">Q", head, length)
        length = _LONG_HEADER_BYTES
    elif size == 0:
        size = end - at
    return (kind, length, size) if size >= length else None


def top_boxes(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start, size) of each box at the top of a file; the last one may be cut off."""
    at, end = 0, os.fstat(file.fileno()).st_size
    while at < end:  # sizes may lie beyond what a file can be
        file.seek(at)
        header = read_header(file.read(_LONG_HEADER_BYTES), 0, end - at)
        if header is None:
            return
        kind, _, size = header
        yield kind, at, size
        at += size
