"""Files and folders that are whole or absent, and the folder for what can be made or fetched again.

In:   target paths, environment variables.
Out:  a temporary path or folder that becomes the target on success; the cache folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from omni2sound.errors import UserError


def split_lines(text: str) -> list[str]:
    """Split a text of JSON Lines at LF alone; empty lines are left out.

    `str.splitlines` also splits at U+2028, U+0085 or a form feed, which a caption may hold.
    """
    return [line for line in text.split("\n") if line]


class Closing:
    """Base of objects that are closed at the end of their `with` block."""

    def close(self) -> None:
        """Release resources; called once."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def cache_dir() -> Path:
    """Return the folder for everything that can be made or fetched again; it may not exist.

    `OMNI2SOUND_CACHE` if set, else the platform's place: `$XDG_CACHE_HOME/omni2sound` or
    `~/.cache/omni2sound`, `~/Library/Caches/omni2sound`, `%LOCALAPPDATA%/omni2sound/Cache`.
    """
    if chosen := os.environ.get("OMNI2SOUND_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "omni2sound"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        base = Path(local) if local else Path.home() / "AppData" / "Local"
        return base / "omni2sound" / "Cache"
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "omni2sound"


def corpus_folder(given: Path | None = None) -> Path:
    """Return the folder of recordings and pictures: `given`, or the one in the cache."""
    return given or cache_dir() / "stage"


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path that becomes `target` if the block succeeds, and is deleted if not.

    The temporary file is hidden, lies in the target's folder (a rename does not cross file
    systems) and keeps the target's suffix (encoders choose the container by it). An existing
    target is replaced; whether that is allowed is up to the caller.

    Yields:
        A path that does not exist yet; the block must create a file there and close it.

    Raises:
        UserError: The target's folder does not exist.
    """
    target = Path(target)
    if not target.parent.is_dir():
        raise UserError(f"{target}: folder {target.parent} does not exist; create it first")
    stem = os.fsencode(target.stem)[:80].decode(errors="ignore")  # names are limited in bytes
    temporary = target.with_name(f".{stem}.{secrets.token_hex(6)}.part{target.suffix}")
    try:
        yield temporary
        flush_to_disk(temporary)
        temporary.replace(target)
    except BaseException:  # KeyboardInterrupt too: nothing half-written stays behind
        temporary.unlink(missing_ok=True)
        raise
    flush_to_disk(target.parent)


def as_path(value: object, field: str) -> Path:
    """Return the path that a text or path-like object names.

    Args:
        value: An argument or field of any type.
        field: Its name.

    Raises:
        UserError: If it is neither.
    """
    if not isinstance(value, str | os.PathLike):
        raise UserError(f"expected a path, got {repr(value)[:80]}", field=field)
    return Path(value)


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file, whole or not at all; an existing one is replaced."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: str | os.PathLike[str], data: object) -> None:
    """Write a JSON file, whole or not at all; an existing one is replaced."""
    write_text(target, json.dumps(data, indent=1, ensure_ascii=False) + "\n")


@contextmanager
def atomic_folder(target: Path, *, marker: str, kind: str) -> Iterator[Path]:
    """Yield a temporary folder that becomes `target` if the block succeeds, and is deleted if not.

    Args:
        target: The folder; an existing one is replaced if it holds the file `marker`.
        marker: File that every folder of this kind holds.
        kind: What such a folder is called in an error: "model folder".

    Raises:
        UserError: `target` exists without the marker.
    """
    if target.exists() and not (target / marker).is_file():
        raise UserError(f"{target} exists and is no {kind}; choose another one")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield staging
        staging.chmod(0o755)
        if target.exists():
            # The old folder is deleted only after the new one has its name.
            old = staging.with_name(f"{staging.name}.old")
            target.rename(old)
            staging.rename(target)
            shutil.rmtree(old)
        else:
            staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def flush_to_disk(path: Path) -> None:
    """Flush a file or folder: without it, a power cut may leave a new name without content."""
    if path.is_dir() and sys.platform == "win32":
        return  # Windows has no way to flush a folder
    # Windows flushes only what is open for writing; a folder opens for reading only.
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
