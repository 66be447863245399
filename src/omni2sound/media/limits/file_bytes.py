"""Bytes of a long file, read where they are looked at.

In:   an open file.
Out:  what `bytes` gives for indexes, slices and `find`.

Not a mapping: a file that somebody shortens while it is mapped ends the process that looks at it.
"""

from __future__ import annotations

import errno
import os
from io import BufferedReader
from typing import overload

_BLOCK_BYTES = 2**15
_FIND_BYTES = 2**20


class FileBytes:
    """The bytes of a file that is open; their number is taken once."""

    def __init__(self, file: BufferedReader) -> None:
        self._file = file
        self._length = os.fstat(file.fileno()).st_size
        self._start, self._block = 0, b""

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> bytes: ...
    def __getitem__(self, place: int | slice) -> int | bytes:
        if isinstance(place, slice):
            start, stop, _ = place.indices(self._length)
            return self._read(start, stop - start)
        if not 0 <= place < self._length:
            raise IndexError(place)
        return self._read(place, 1)[0]

    def _read(self, start: int, size: int) -> bytes:
        if size <= 0:
            return b""
        at = start - self._start
        if not (at >= 0 and at + size <= len(self._block)):
            if size >= _BLOCK_BYTES:
                return self._of_file(start, size)
            self._start, at = start, 0
            self._block = self._of_file(start, min(_BLOCK_BYTES, self._length - start))
        return self._block[at : at + size]

    def _of_file(self, start: int, size: int) -> bytes:
        self._file.seek(start)
        data = self._file.read(size)
        if len(data) < size:
            raise OSError(errno.EIO, "became shorter while it was read")
        return data

    def find(self, wanted: bytes, start: int = 0, stop: int | None = None) -> int:
        """Return the first place of some bytes that lie within a range; -1 if there is none."""
        stop = self._length if stop is None else min(stop, self._length)
        while start + len(wanted) <= stop:
            end = min(start + _FIND_BYTES, stop)
            found = self._read(start, end - start).find(wanted)
            if found >= 0:
                return start + found
            if end == stop:
                break
            start = end - len(wanted) + 1
        return -1
