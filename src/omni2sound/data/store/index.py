"""Index of a feature store: its description, its shards, and whether it is complete.

In:   a store folder (`rows` describes its files).
Out:  `ShardRecord`s with lengths and SHA-256; an error if something is missing.

What not to get wrong: `index.json` is written last, so its existence means that every shard
exists. A store without it is unfinished, whatever else the folder holds.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omni2sound.config import from_json
from omni2sound.data.store.shards import (
    ClipTable,
    Shard,
    joined_tables,
    read_table,
    table_of,
    write_table,
)
from omni2sound.errors import ConfigError, IntegrityError, MissingPartError
from omni2sound.files import atomic_path, file_sha256, write_json, write_text
from omni2sound.readers import as_object, interpreting, loads, read_object, read_text

_log = logging.getLogger(__name__)

DESCRIPTION = "store.json"
INDEX = "index.json"
PROGRESS = "progress.jsonl"
"""Number of planned shards and the finished ones, while a store is being built."""
MANY_SHARDS = 1000
FORMAT = 2
"""Version of the folder layout."""
CLIPS = "clips.feather"
"""Length, pictures and quality of every clip, to be mapped; see `shards.write_table`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipFailure:
    """A clip without row, and the reason."""

    clip_id: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardRecord:
    """Index entry of one shard."""

    name: str
    sha256: str
    num_bytes: int
    num_clips: int
    failed: tuple[ClipFailure, ...]


@dataclass(frozen=True, slots=True)
class ShardFile:
    """A shard to read: its path, its SHA-256 if the store has an index, its number of clips."""

    path: Path
    sha256: str | None
    num_clips: int


def shard_record(path: Path) -> ShardRecord:
    """Make the index entry of a shard on disk; reads all of it."""
    shard = Shard(path)
    with interpreting(path, "a shard of features"):
        failed = tuple(ClipFailure(clip_id=c, reason=r) for c, r in shard.failed())
    return ShardRecord(
        name=path.name,
        sha256=file_sha256(path),
        num_bytes=path.stat().st_size,
        num_clips=shard.num_clips(),
        failed=failed,
    )


def describe_store(folder: Path, description: Mapping[str, Any]) -> None:
    """Record what a store's features depend on, or check that it is the same.

    Raises:
        ConfigError: If the folder holds other features.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / DESCRIPTION
    text = json.dumps(description, indent=2, sort_keys=True) + "\n"
    if path.exists():
        before = read_object(path)
        if before != json.loads(text):
            changed = sorted(
                k for k in {*before, *description} if before.get(k) != description.get(k)
            )
            raise ConfigError(
                f"{folder} holds features made with other settings ({', '.join(changed)}); "
                "use a new folder"
            )
        return
    write_text(path, text)


def write_index(folder: Path, records: Iterable[ShardRecord]) -> None:
    """Write the table of clips, then the index, of a store whose shards are all there."""
    records = list(records)
    with atomic_path(folder / CLIPS) as temporary:
        write_table(temporary, [table_of(Shard(folder / r.name)) for r in records])
    shards = [
        {
            "name": r.name,
            "sha256": r.sha256,
            "bytes": r.num_bytes,
            "clips": r.num_clips,
            "failed": [[f.clip_id, f.reason] for f in r.failed],
        }
        for r in records
    ]
    index = {"format": FORMAT, "clips_sha256": file_sha256(folder / CLIPS), "shards": shards}
    write_json(folder / INDEX, index)


def clip_table(folder: Path, shards: Sequence[Path]) -> ClipTable:
    """Map the table of a store's clips; older stores have none, and their shards are read.

    Raises:
        IntegrityError: If the table is not that of the index.
    """
    index, path = folder / INDEX, folder / CLIPS
    expected = read_object(index).get("clips_sha256") if index.is_file() else None
    if expected is None:
        if len(shards) > MANY_SHARDS:
            _log.warning(
                "%s has no table of its clips, so all of its %d shards are read; "
                "omni2sound data repack makes a store that opens at once",
                folder,
                len(shards),
            )
        return joined_tables([table_of(Shard(shard)) for shard in shards])
    if not path.is_file() or file_sha256(path) != expected:
        raise IntegrityError(
            f"{path} is damaged or missing; run the command that made the features again"
        )
    return read_table(path)


def read_index(folder: Path) -> tuple[ShardRecord, ...] | None:
    """Read the index; None if the store is not finished.

    Raises:
        ConfigError: If the format of the index is unknown.
    """
    path = folder / INDEX
    if not path.is_file():
        return None
    data = read_object(path)
    if data.get("format") != FORMAT:
        raise ConfigError(
            f"{path} has format {data.get('format')!r}, this release reads format {FORMAT}"
        )
    with interpreting(path, "an index of features"):
        return tuple(_record_of(shard, path) for shard in data["shards"])


def _record_of(shard: Mapping[str, Any], path: Path) -> ShardRecord:
    fields = {
        "name": shard["name"],
        "sha256": shard["sha256"],
        "num_bytes": shard["bytes"],
        "num_clips": shard["clips"],
        "failed": [{"clip_id": clip, "reason": reason} for clip, reason in shard["failed"]],
    }
    record = from_json(ShardRecord, fields, where=str(path))
    if not re.fullmatch(r"[^/\\\0]+\.arrow", record.name) or record.name.startswith("."):
        raise ConfigError(
            f"{path}: expected names of .arrow files beside it, got {record.name[:80]!r}"
        )
    return record


def verify_store(folder: Path) -> list[str]:
    """Name the shards whose bytes differ from their checksum; reads everything.

    Raises:
        MissingPartError: If the folder holds no features.
        ConfigError: If the store is not finished.
    """
    read_description(folder)
    return [
        record.name
        for record in _finished(folder)
        if not (folder / record.name).is_file()
        or file_sha256(folder / record.name) != record.sha256
    ]


def store_sha256(folder: Path) -> str:
    """Digest of all rows: of the names and checksums of the shards, in order."""
    records = read_index(folder)
    if records is None:  # without index: everything is read
        records = tuple(shard_record(path) for path in sorted(folder.glob("*.arrow")))
    shards = json.dumps([[r.name, r.sha256] for r in records])
    return hashlib.sha256(shards.encode()).hexdigest()


def read_description(folder: Path) -> dict[str, Any]:
    """Read what a store's features depend on.

    Raises:
        MissingPartError: If the folder holds no features.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise MissingPartError(
            f"no features in {folder}; make them with omni2sound scenes features (scenes) or "
            "omni2sound data features (your clips); docs/guides/train.md has examples"
        )
    return read_object(path)


def _finished(folder: Path) -> tuple[ShardRecord, ...]:
    records = read_index(folder)
    if records is not None:
        return records
    have, of = len(list(folder.glob("[!.]*.arrow"))), ""
    stem, _, suffix = PROGRESS.partition(".")
    if progress := sorted(folder.glob(f"{stem}*.{suffix}")):
        first = read_text(progress[0]).partition("\n")[0]
        with suppress(ValueError):  # cut by a kill
            of = f" of {as_object(loads(first), PROGRESS).get('planned')}"
    raise ConfigError(
        f"the features in {folder} are unfinished: {have}{of} shards are there; "
        "run the command that makes them again; it resumes"
    )


def shards_of(
    folder: Path, description: Mapping[str, Any], *, present: bool = True
) -> list[ShardFile]:
    """List the shards of a finished store with their SHA-256, in the order of its index.

    A store that was written by hand has no index, and so no digests. Unless all shards are to be
    `present`, they are not looked for.

    Raises:
        ConfigError: If the store is not finished.
        IntegrityError: If a shard is missing or has the wrong length.
    """
    if "format" not in description:
        # Written by hand, without index: taken as it is.
        paths = sorted(folder.glob("*.arrow"))
        if not paths:
            raise MissingPartError(f"no features in {folder}: it has no shards")
        return [ShardFile(path, None, Shard(path).num_clips()) for path in paths]
    records = _finished(folder)
    for record in records if present else ():
        path = folder / record.name
        if not path.is_file() or path.stat().st_size != record.num_bytes:
            raise IntegrityError(
                f"{path} is damaged or missing; run the command that made the features again"
            )
    return [ShardFile(folder / r.name, r.sha256, r.num_clips) for r in records]
