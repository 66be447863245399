"""Files and folders that are whole or absent, and the folder for what can be made or fetched again.

In:   target paths, environment variables.
Out:  a temporary path or folder that becomes the target on success; the cache folder.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Self

from omni2sound.errors import ConfigError, UserError
from omni2sound.readers import MAX_ROWS, open_regular, real_path
from omni2sound.redact import scrub
from omni2sound.staging import put_aside, settle, staged, unmark

if TYPE_CHECKING:
    from torch import Tensor

LEFT_BY_SYSTEMS = (".DS_Store", "Thumbs.db", "desktop.ini")
"""Files that systems leave wherever somebody looks."""


def check_inside(path: str, field: str) -> None:
    """Refuse a path, with "/" between its parts, that leads out of the folder it is relative to.

    Raises:
        UserError: It does.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or not pure.name:
        raise UserError(f"{path[:80]!r}: expected a path inside of the folder", field=field)


def split_lines(text: str) -> list[str]:
    """Split a text of JSON Lines at LF alone; empty lines are left out.

    `str.splitlines` also splits at U+2028, U+0085 or a form feed, which a caption may hold.

    Raises:
        ConfigError: There are more than `readers.MAX_ROWS`.
    """
    if text.count("\n") > MAX_ROWS:
        raise ConfigError(f"more than {MAX_ROWS} lines; expected a shorter file")
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
def atomic_path(
    target: str | os.PathLike[str], *, replace: bool = True, alone: bool = False
) -> Iterator[Path]:
    """Yield a temporary path that becomes `target` if the block succeeds, and is deleted if not.

    The temporary file has the target's name (encoders choose the container by its suffix) and
    lies in a hidden folder beside it (a rename does not cross file systems). What a killed process
    left in that folder is removed first.

    Args:
        target: The file to write.
        replace: Whether an existing file is replaced. If not, and of two processes at once, one
            writes the file and the other raises.
        alone: Refuse while another process writes the same file; implied without `replace`.

    Yields:
        A path that does not exist yet; the block must create a file there and close it.

    Raises:
        UserError: The target's folder does not exist, the file does and may not be replaced, or
            another process is writing it.
    """
    target = Path(target)
    if not target.parent.is_dir():
        raise UserError(f"{target}: folder {target.parent} does not exist; create it first")
    with staged(target, alone=alone or not replace) as folder:
        if not replace and target.exists():
            raise _exists(target)
        temporary = folder / target.name
        with writing(target):
            yield temporary
            flush_to_disk(temporary)
            if replace:
                temporary.replace(target)
            else:
                _rename_to_new(temporary, target)
    flush_to_disk(target.parent)


def _rename_to_new(path: Path, target: Path) -> None:
    """Give a file its name only if nothing has that name at this very instant."""
    try:
        os.link(path, target)
    except FileExistsError:
        raise _exists(target) from None
    except (OSError, NotImplementedError):  # a file system without hard links
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            raise _exists(target) from None
        path.replace(target)


def _exists(target: Path) -> UserError:
    return UserError(f"{target.name}: exists already; choose another name, or set `overwrite`")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name `path` in errors of the system inside the block.

    A full disk is reported without the file's name, or with that of a temporary one.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None and ".part" not in str(error.filename):
            raise
        # Of a library, the reason may be in its text alone; nor can PyAV's errors be given a name.
        reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
        raise OSError(error.errno or errno.EIO, reason, str(path)) from None


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file.

    Raises:
        OSError: It can't be written; the error names the file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path, metadata=dict(metadata) if metadata is not None else None)
    except SafetensorError as error:
        reason = " ".join(str(error).split())
        raise OSError(errno.EIO, reason, str(path)) from None


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
    """SHA-256 (hex) of a regular file's bytes.

    Raises:
        FileNotFoundError: There is none.
        ConfigError: It is a pipe, a device or a folder.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file without API keys, whole or not at all; replaces an existing one."""
    with atomic_path(target) as temporary:
        temporary.write_text(scrub(text), encoding="utf-8")


def write_json(target: str | os.PathLike[str], data: object) -> None:
    """Write a JSON file, whole or not at all; an existing one is replaced."""
    write_text(target, json.dumps(data, indent=1, ensure_ascii=False) + "\n")


@contextmanager
def atomic_folder(target: Path, *, kind: str, marker: str | None = None) -> Iterator[Path]:
    """Yield a temporary folder that becomes `target` if the block succeeds, and is deleted if not.

    Args:
        target: The folder; an existing one is replaced if it holds the file `marker`.
        kind: What such a folder is called in an error: "model folder".
        marker: File that every folder of this kind holds. None: an existing one must be empty.

    Raises:
        UserError: `target` exists and may not be replaced, or another process is writing it.
    """
    target = real_path(target)  # a link goes on pointing to the folder
    settle(target)
    _check_replaceable(target, marker, kind)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target: relative paths stay true.
    with staged(target, alone=True, marked=True) as staging:
        _check_replaceable(target, marker, kind)  # an old one may be back
        with writing(target):
            yield staging
        for path in staging.rglob("*"):
            flush_to_disk(path)
        staging.chmod(0o755)
        _check_replaceable(target, marker, kind)  # somebody else may have written it meanwhile
        if target.exists() and not any(target.iterdir()):
            target.rmdir()
        with put_aside(target):
            unmark(staging)
            staging.rename(target)
    flush_to_disk(target.parent)


def _check_replaceable(target: Path, marker: str | None, kind: str) -> None:
    if not target.exists():
        return
    if marker is None:
        if not target.is_dir() or any(target.iterdir()):
            raise UserError(f"{target}: not empty; choose another folder")
    elif not (target / marker).is_file():
        raise UserError(f"{target} exists and is no {kind}; choose another one")


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
