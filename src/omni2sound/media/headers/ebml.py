"""Headers of the elements of Matroska files.

In:   bytes.
Out:  id, place and size of an element; None where there is none.

(RFC 8794, 4 to 6; RFC 9559.)
"""

from __future__ import annotations

from omni2sound.media.headers import Bytes

EBML, SEGMENT, TRACKS = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b"
CLUSTER, TAGS, SEEK_HEAD = b"\x1f\x43\xb6\x75", b"\x12\x54\xc3\x67", b"\x11\x4d\x9b\x74"
_MAX_NUMBER_BYTES = 8
MAX_HEADER_BYTES = 12
"""Of an element whose id has at most four bytes, as all of Matroska's."""


def num_bytes(head: bytes) -> int:
    """Length of the number that bytes begin with, by the first of them; 9 if there is none."""
    return 9 - head[0].bit_length() if head else _MAX_NUMBER_BYTES + 1


def read_header(data: Bytes, at: int) -> tuple[bytes, int, int | None] | None:
    """Read the header of an element.

    Args:
        data: Holds at least the header.
        at: Where the element begins.

    Returns:
        Id, where the content begins, bytes of the content; None for a size that is unknown.
    """
    head = data[at : at + 2 * _MAX_NUMBER_BYTES]
    split = num_bytes(head)
    end = split + num_bytes(head[split : split + 1])
    if len(head) < end or max(split, end - split) > _MAX_NUMBER_BYTES:
        return None
    ones = (1 << 7 * (end - split)) - 1
    size = int.from_bytes(head[split:end], "big") & ones
    return head[:split], at + end, None if size == ones else size
