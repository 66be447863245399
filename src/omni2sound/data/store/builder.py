"""Builds feature stores shard by shard; resumes an interrupted build.

In:   a description, one job for each shard, a function from a job to its rows.
Out:  a folder that `rows.FeatureStore` accepts.

Shards get their name when they are whole, and the index is written when all of them exist. An
existing shard is never made again: if `progress.jsonl` lacks it (the builder was killed in
between), its record is read from the shard itself. Several builders may make a part of the shards
each; the one after which none is missing writes the index.

What not to get wrong: a store is a function of its description. Everything that changes a byte of
a shard belongs in the description; engine and number of workers do not.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from filelock import FileLock, Timeout

from omni2sound.config import from_json
from omni2sound.data.store.index import (
    FORMAT,
    INDEX,
    PROGRESS,
    ClipFailure,
    ShardRecord,
    describe_store,
    read_index,
    shard_record,
    write_index,
)
from omni2sound.data.store.rows import ClipFeatures, write_shard
from omni2sound.data.workers import Share, Workers
from omni2sound.errors import UserError
from omni2sound.files import split_lines, write_text, writing
from omni2sound.readers import loads, read_text, real_path
from omni2sound.weights import ATTRIBUTION_FILE

_log = logging.getLogger(__name__)

_LOCK = ".building"
_MOMENT_S = 10.0
"""A part holds the whole store's lock for a moment, when it starts."""


class ShardJob(Protocol):
    """Data from which a worker makes one shard."""

    @property
    def name(self) -> str:
        """Name of the shard without suffix, unique in the store."""


Job = TypeVar("Job", bound=ShardJob)


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildReport:
    """Result of a build."""

    num_shards: int
    num_found: int
    """Number of shards from an earlier build."""
    num_clips: int
    failed: tuple[ClipFailure, ...]
    num_missing: int = 0
    """Number of shards that other shares have yet to make; without them there is no index."""


def build_store(
    out: Path,
    *,
    description: Mapping[str, Any],
    jobs: Sequence[Job],
    make: Callable[[Job], Iterable[ClipFeatures | ClipFailure]],
    attribution: str = "",
    workers: Workers = Workers(),
    on_shard: Callable[[int, int], None] | None = None,
    share: Share | None = None,
) -> BuildReport:
    """Build every missing shard, or those of a share; write the index if none is missing then.

    Args:
        out: Store folder; created if missing.
        description: Everything the features depend on.
        jobs: One for each shard, in the order of the store.
        make: Function at a module's top level: the rows of a job, and the clips that failed.
        attribution: Content of `attribution.tsv`.
        workers: Make the shards.
        on_shard: Called with (shards done, number of shards).
        share: Make these shards only, beside builders of other shares. Default: all.

    Raises:
        ConfigError: If the folder holds other features.
        UserError: If there are no jobs, or another process builds this store, or this share.
    """
    if not jobs:
        raise UserError(f"{out}: there are no clips to make features of")
    out = real_path(out)  # workers may run in another folder
    describe_store(out, {"format": FORMAT, **description})
    name = "" if share is None else f"-{share.number}of{share.of}"
    with _lock(out, name):
        if share is None:
            for rest in out.glob(".*.part.arrow"):  # of a builder that was killed
                rest.unlink()
        if attribution:
            write_text(out / ATTRIBUTION_FILE, attribution)
        done = _find_shards(out, jobs)
        num_found = len(done)
        own = [job for k, job in enumerate(jobs) if share is None or share.takes(k)]
        missing = [job for job in own if _file(job.name) not in done]
        _log.info("%d of %d shards to make in %s", len(missing), len(jobs), out)
        if missing:
            (out / INDEX).unlink(missing_ok=True)
        with (out / _progress(name)).open("w", encoding="utf-8") as progress:
            _append(progress, {"planned": len(jobs)})
            for record in done.values():
                _append(progress, asdict(record))
            if missing:
                for record in workers.map(partial(_make_shard, make, out), missing):
                    done[record.name] = record
                    _append(progress, asdict(record))
                    if on_shard is not None:
                        on_shard(len(done), len(jobs))
        if share is not None:
            done |= _find_shards(out, jobs)  # others may have made theirs in the meantime
        ordered = [done[_file(job.name)] for job in jobs if _file(job.name) in done]
        if len(ordered) == len(jobs):
            write_index(out, ordered)
            for path in out.glob(_progress("*")):
                path.unlink(missing_ok=True)
    return BuildReport(
        num_shards=len(ordered),
        num_found=num_found,
        num_clips=sum(r.num_clips for r in ordered),
        failed=tuple(f for r in ordered for f in r.failed),
        num_missing=len(jobs) - len(ordered),
    )


def _progress(name: str) -> str:
    stem, _, suffix = PROGRESS.partition(".")
    return f"{stem}{name}.{suffix}"


def _file(name: str) -> str:
    return f"{name}.arrow"


def _make_shard(
    make: Callable[[Job], Iterable[ClipFeatures | ClipFailure]], out: Path, job: Job
) -> ShardRecord:
    path = out / _file(job.name)
    write_shard(path, make(job))
    return shard_record(path)


def _find_shards(out: Path, jobs: Sequence[Job]) -> dict[str, ShardRecord]:
    """Find existing whole shards; a damaged one is deleted, to be made again."""
    known = {r.name: r for r in [*(read_index(out) or ()), *_read_progress(out)]}
    found = {}
    for job in jobs:
        path = out / _file(job.name)
        if not path.is_file():
            continue
        record = known.get(path.name)
        if record is None:
            record = shard_record(path)  # whole, or it would not have its name
        elif path.stat().st_size != record.num_bytes:
            _log.warning("%s is damaged; making it again", path)
            path.unlink()
            continue
        found[path.name] = record
    return found


def _read_progress(out: Path) -> Iterator[ShardRecord]:
    for path in sorted(out.glob(_progress("*"))):
        try:
            lines = split_lines(read_text(path))[1:]
        except FileNotFoundError:
            continue  # the last builder has just finished
        for line in lines:
            try:
                data = loads(line)
            except ValueError:
                break  # the line that was being written when the builder was killed
            yield from_json(ShardRecord, data, where=str(path))


def _append(progress: Any, line: Mapping[str, Any]) -> None:
    with writing(Path(progress.name)):
        progress.write(json.dumps(line, ensure_ascii=False) + "\n")
        progress.flush()


@contextmanager
def _lock(out: Path, part: str) -> Iterator[None]:
    """Refuse a second builder of the store, or of this part: both would compute the same.

    The operating system releases the lock when its holder ends, however that happens.
    """
    with ExitStack() as held:
        if not part:
            held.enter_context(_held(out, _LOCK))
            for other in out.glob(f"{_LOCK}-*"):
                with _held(out, other.name):
                    pass
        else:
            with _held(out, _LOCK, timeout_s=_MOMENT_S):  # another part may start just now
                held.enter_context(_held(out, f"{_LOCK}{part}"))
        yield


def _held(out: Path, name: str, *, timeout_s: float = 0) -> AbstractContextManager[object]:
    try:
        return FileLock(out / name).acquire(timeout=timeout_s)
    except Timeout:
        raise UserError(
            f"{out} is being built by another process; wait for it or choose another folder"
        ) from None
