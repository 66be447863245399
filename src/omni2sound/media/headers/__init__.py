"""Headers of the parts that mp4 and Matroska files are built of."""

from __future__ import annotations

from typing import Protocol


class Bytes(Protocol):
    """What headers are read from: bytes, or a file that is read where it is looked at."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: slice, /) -> bytes: ...
