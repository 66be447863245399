"""Removes what killed processes left behind: temporary files, half-done outputs, open calls.

In:   folders.
Out:  one `Repair` for each thing that was removed or found.

What not to get wrong: a process that is alive keeps its files. Its temporary folder is locked, and
so is its name in a call store; a folder that is no staging folder of ours is never touched, nor is
a file that holds something.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from omni2sound.errors import UserError
from omni2sound.generate.output import is_whole, read_sidecar, sidecar
from omni2sound.llm import CallStore
from omni2sound.readers import real_path
from omni2sound.staging import (
    MARK,
    claimed,
    is_aside,
    remove_staging,
    restore,
    scratch_folders,
    staging_of,
)

_OWNERS = ".owners"
_TABLES = frozenset({"owner", "call", "attempt"})
_AGE_S = 3600
"""Least age of an empty folder; it may be one that was made this very moment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Repair:
    """One thing that was found.

    Attributes:
        path: The file or folder.
        what: What it is, and what was done or is to be done.
        num_bytes: Bytes that were freed.
        failed: Whether it could not be looked into or removed.
    """

    path: Path
    what: str
    num_bytes: int = 0
    failed: bool = False


def repair(folders: Sequence[Path]) -> Iterator[Repair]:
    """Go through folders and all below them, and yield what was repaired.

    What can't be read or removed is yielded as failed, and the rest is gone through.

    Raises:
        UserError: One of them is no folder.
    """
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: expected a folder", field="folders")
        closed: list[OSError] = []
        for parent, names, files in os.walk(folder, onerror=closed.append):
            here = Path(parent)
            for name in sorted(names):
                found = _of_folder(here / name)
                if found is not None:
                    names.remove(name)
                    yield from found
            for name in sorted(files):
                if name.endswith(".json") and name != ".json":
                    output = here / name.removesuffix(".json")
                    try:
                        yield from _output(output)
                    except (OSError, UserError) as error:
                        yield from _failed(output, error)
        for closed_one in closed:
            yield from _failed(Path(closed_one.filename), closed_one)


def repair_scratch() -> Iterator[Repair]:
    """Remove what killed processes left among the temporary files of the system."""
    for folder in scratch_folders():
        yield from _of_folder(folder) or ()


def _of_folder(folder: Path) -> list[Repair] | None:
    """Repair a folder that is one of ours by its name; None if it is to be gone through."""
    try:
        if _is_staging(folder):
            return list(_leftover(folder))
        if is_aside(folder):
            return list(_aside(folder))
        if folder.name.endswith(_OWNERS) and folder.name != _OWNERS:
            return list(_call_store(folder)) or None
    except (OSError, UserError) as error:
        return list(_failed(folder, error))
    return None


def _failed(path: Path, error: OSError | UserError) -> Iterator[Repair]:
    if isinstance(error, FileNotFoundError):  # its process has just removed it
        return
    why = error.strerror if isinstance(error, OSError) else f"{error}".removeprefix(f"{path}: ")
    yield Repair(path=path, what=f"left as it is: {why}", failed=True)


def _is_staging(folder: Path) -> bool:
    """Whether a folder is one of `files.atomic_path` or `files.atomic_folder`.

    Folders of the same form are used for checkpoints and scenes, and hold other files.
    """
    if not (folder.name.startswith(".") and folder.name.endswith(".part")) or folder.is_symlink():
        return False
    held = list(folder.iterdir())
    if not held:
        return time.time() - folder.stat().st_mtime > _AGE_S
    if (folder / MARK).is_file():
        return True
    return all(
        path.name == folder.name or folder.name.endswith(staging_of(path).name) for path in held
    )


def _leftover(folder: Path) -> Iterator[Repair]:
    num_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if remove_staging(folder):
        yield Repair(path=folder, what="left by a process that died: removed", num_bytes=num_bytes)


def _aside(folder: Path) -> Iterator[Repair]:
    place = restore(folder)
    if place == folder:
        yield Repair(path=folder, what="left by a process that died: removed")
    elif place is not None:
        what = "was being replaced by a process that died: back in its place; run the command again"
        yield Repair(path=place, what=what)


def _output(output: Path) -> Iterator[Repair]:
    """Remove an empty output with its sidecar; report what is missing or another file.

    A missing output may have been moved, or be about to get its name: its sidecar stays.
    """
    made = read_sidecar(output)
    if made is None or is_whole(output, made):
        return
    beside = sidecar(output)
    if not output.exists():
        what = "its output is missing: moved, or never finished; make it again, or remove this"
        yield Repair(path=beside, what=what)
    elif not output.is_file() or output.stat().st_size:
        what = "is not the file that its sidecar describes: make it again, or remove the sidecar"
        yield Repair(path=output, what=what)
    else:
        with claimed(output) as is_ours:
            if not is_ours or read_sidecar(output) != made or output.stat().st_size:
                return  # somebody is making it again
            output.unlink()
            num_bytes = beside.stat().st_size
            beside.unlink()
        what = "half-done, its output is empty: removed; run the command again"
        yield Repair(path=beside, what=what, num_bytes=num_bytes)


def _call_store(owners: Path) -> Iterator[Repair]:
    """Settle calls of processes that died, as the next run would.

    Only where folder and file are a call store's; others may have such names.
    """
    store = owners.with_name(owners.name.removesuffix(_OWNERS))
    locks = list(owners.iterdir())
    if not locks or not all(_is_lock(lock) for lock in locks) or not _is_call_store(store):
        return
    with CallStore.open(store):
        pass
    num_left = sum(1 for _ in owners.iterdir())
    if num_left < len(locks):
        what = f"{len(locks) - num_left} process(es) died while asking: their calls are settled"
        yield Repair(path=store, what=what)


def _is_lock(path: Path) -> bool:
    is_named = re.fullmatch("[0-9a-f]{16}", path.name) is not None
    return is_named and path.is_file() and not path.stat().st_size


def _is_call_store(path: Path) -> bool:
    """Whether a file is a call store, without changing it."""
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{real_path(path).as_uri()}?mode=ro", uri=True)) as base:
            rows = base.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    except sqlite3.Error:
        return False
    return {name for (name,) in rows} >= _TABLES
