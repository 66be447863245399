"""Reader of zip archives inside a Debian package, as a stream.

In:   the archive as a file that can only be read forwards.
Out:  the wanted members, in archive order.

`zipfile` begins with the directory at the end, so that an archive of gigabytes inside a package
would have to be written to disk first. Here local headers are followed from the start, and
reading ends with the last wanted member. Sizes are untrusted: each is checked.

Source: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local file header) and 4.4.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterator
from typing import IO

from omni2sound.errors import MediaError

MAX_MEMBER_BYTES = 1 << 28
"""Far above any sound; a larger one is damage or an attack."""
ZIP_SUFFIXES = ("zip", "pk3")

_HEADER = struct.Struct("<4sHHHHHIIIHH")
_LOCAL, _DIRECTORY = b"PK\x03\x04", (b"PK\x01\x02", b"PK\x05\x06")
_SIZES_FOLLOW = 0x08
_ENCRYPTED = 0x01
_STORED, _DEFLATED = 0, 8
_BLOCK_BYTES = 1 << 20


def iter_zip(stream: IO[bytes], wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the wanted members, in archive order.

    Raises:
        MediaError: If the bytes are no zip archive, are damaged, or use what is not supported.
    """
    left = set(wanted)
    while left:
        header = stream.read(_HEADER.size)
        if header[:4] in _DIRECTORY:
            return
        if len(header) != _HEADER.size or header[:4] != _LOCAL:
            raise MediaError("damaged zip archive: no header where a member should begin")
        _, _, flags, method, _, _, crc, packed, size, name_bytes, extra_bytes = _HEADER.unpack(
            header
        )
        name = _exactly(stream, name_bytes).decode("utf-8", "replace")
        _exactly(stream, extra_bytes)
        if flags & (_SIZES_FOLLOW | _ENCRYPTED):
            raise MediaError(f"zip member {name!r} is encrypted or has its size at its end")
        if name not in left:
            _skip(stream, packed)
            continue
        if max(packed, size) > MAX_MEMBER_BYTES:
            raise MediaError(f"{name} claims {max(packed, size)} bytes; refused")
        left.discard(name)
        yield name, _content(name, method, _exactly(stream, packed), size, crc)


def _content(name: str, method: int, raw: bytes, size: int, crc: int) -> bytes:
    try:
        if method == _DEFLATED:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, max(size, 1))
        elif method == _STORED:
            content = raw
        else:
            raise MediaError(f"zip member {name!r} uses compression {method}; known: 0 and 8")
    except zlib.error as error:
        raise MediaError(f"zip member {name!r} is damaged: {error}") from error
    if len(content) != size or zlib.crc32(content) != crc:
        raise MediaError(f"zip member {name!r} is damaged: its size or checksum differs")
    return content


def _exactly(stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise MediaError("damaged zip archive: it ends inside a member")
    return content


def _skip(stream: IO[bytes], size: int) -> None:
    while size:
        block = len(_exactly(stream, min(size, _BLOCK_BYTES)))
        size -= block
