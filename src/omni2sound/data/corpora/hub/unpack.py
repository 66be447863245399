"""Writes the media of Hub Parquet files as files, under the names that `tables.read` finds.

In:   a folder of Parquet files, or one; the folder of the media.
Out:  `NAME/0000001.wav` and so on; the bytes as they are in the table.

A row's bytes are read alone, so memory holds one clip at a time. What is there already, of the same
length, is not written again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omni2sound.data.corpora.hub.tables import hub_tables
from omni2sound.data.tables import Problem
from omni2sound.files import atomic_path
from omni2sound.readers import parquet_rows

_BEGINNINGS = (
    (0, b"RIFF", ".wav"),
    (0, b"fLaC", ".flac"),
    (0, b"OggS", ".ogg"),
    (0, b"FORM", ".aiff"),
    (0, b"ID3", ".mp3"),
    (0, b"\x1a\x45\xdf\xa3", ".mkv"),
    (4, b"ftyp", ".mp4"),
)
"""Where a file's kind is told, by what, and the suffix."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unpacked:
    """Result of unpacking."""

    num_written: int
    num_found: int
    """Files that were there before."""
    problems: tuple[Problem, ...]


def unpack(published: Path, media: Path) -> Unpacked:
    """Write the media of every row to a file of its own.

    Args:
        published: Folder of Parquet files, or one.
        media: Folder of the media; created if missing.

    Raises:
        UserError: There is no Parquet file, or one has no column of media.
        ConfigError: A file is no Parquet file, or damaged.
    """
    written = found = 0
    problems: list[Problem] = []
    for table in hub_tables(published):
        columns = [f"{table.media}.bytes"]
        read = parquet_rows(table.path, columns=columns, rows_at_once=1)
        for number, row in enumerate(read, start=1):
            data = (row[table.media] or {}).get("bytes") or b""
            suffix = _suffix(data)
            if suffix is None:
                reason = "sound or video of no known kind" if data else "no sound or video in it"
                problems.append(Problem(file=table.path.name, line=number, reason=reason))
                continue
            target = media / f"{table.stem(number)}{suffix}"
            if target.is_file() and target.stat().st_size == len(data):
                found += 1
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(target) as temporary:
                temporary.write_bytes(data)
            written += 1
    return Unpacked(num_written=written, num_found=found, problems=tuple(problems))


def _suffix(data: bytes) -> str | None:
    """Suffix of a media file by how it begins; None if that is not known."""
    for at, beginning, suffix in _BEGINNINGS:
        if data[at : at + len(beginning)] == beginning:
            return suffix
    # A frame of MPEG sound begins with eleven bits that are set.
    is_mpeg = len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0
    return ".mp3" if is_mpeg else None
