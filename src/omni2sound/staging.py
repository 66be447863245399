"""Hidden folders in which files and folders are written before they get their names.

In:   a target path.
Out:  the folder beside it that this process has alone, empty.

What not to get wrong: only who holds the lock on such a folder may empty or remove it, since a
process that is alive may be writing there. On a file system without locks a folder belongs to who
made it, and one that exists is never taken over. A folder that is replaced is set aside first; the
next process that writes it, or `doctor --repair`, puts it back if a kill came in between.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from omni2sound.errors import UserError

if sys.platform != "win32":
    import fcntl

_MAX_NAME_BYTES = 80
_NO_LOCK = -1
_PART, _ASIDE = ".part", ".aside"
_SCRATCH = "omni2sound-"
MARK = ".omni2sound-part"
"""File in the hidden folder of a folder: says that it is one of ours."""


def staging_of(target: Path) -> Path:
    """Return the hidden folder in which `target` is written; its name ends in ".part"."""
    name = os.fsencode(target.name)
    if len(name) > _MAX_NAME_BYTES:  # names are limited in bytes
        name = name[:_MAX_NAME_BYTES] + b"-" + hashlib.sha256(name).hexdigest()[:12].encode()
    return target.with_name(f".{name.decode(errors='ignore')}{_PART}")


@contextmanager
def staged(target: Path, *, alone: bool, marked: bool = False, mode: int = 0o777) -> Iterator[Path]:
    """Yield an empty hidden folder beside `target`, claimed by this process and removed after.

    Args:
        target: What is written.
        alone: Refuse while another process writes the same; otherwise take a folder of one's own.
        marked: Put `MARK` into the folder, which will itself become `target`.
        mode: Permissions of the folder, before the umask.

    Raises:
        UserError: Another process is writing it.
        OSError: The folder can't be made; the error names `target`.
    """
    folder = staging_of(target)
    try:
        lock = _claim(folder, mode=mode)
        if lock is None:
            if alone:
                raise UserError(
                    f"{target.name}: another process is writing it; choose another name (if there "
                    f"is none, its disk has no locks: remove {folder.name})"
                )
            folder = folder.with_name(f".{secrets.token_hex(6)}{folder.name}")
            lock = _claim(folder, mode=mode)
        elif alone:
            _take_back(target)
        if marked:
            (folder / MARK).touch()
    except OSError as error:  # of the target, whose name the caller knows
        raise type(error)(error.errno, error.strerror, str(target)) from None
    try:
        yield folder
    finally:
        if lock is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            _remove(folder, lock)


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield an empty folder among the temporary files of the system, removed after the block.

    Nobody else may look into it. A kill leaves it there until `doctor --repair`.
    """
    target = Path(tempfile.gettempdir()) / f"{_SCRATCH}{secrets.token_hex(8)}"
    with staged(target, alone=True, marked=True, mode=0o700) as folder:
        yield folder


def scratch_folders() -> list[Path]:
    """List what `scratch` made and nobody has removed, by processes dead or alive.

    Only folders of this user's that nobody else can write to: others may put anything under such
    a name. None on Windows, where nobody can tell whether their process is alive.
    """
    if sys.platform == "win32":
        return []
    try:
        inside = Path(tempfile.gettempdir())
    except FileNotFoundError:  # no folder can be written to: the disk is full
        return []
    return sorted(path for path in inside.glob(f".{_SCRATCH}*{_PART}") if _is_own(path))


def _is_own(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:  # just removed
        return False
    is_private = stat.S_ISDIR(found.st_mode) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return sys.platform != "win32" and is_private and found.st_uid == os.getuid()


def unmark(folder: Path) -> None:
    """Remove the mark of a folder that is about to get its name."""
    (folder / MARK).unlink()


@contextmanager
def put_aside(target: Path) -> Iterator[None]:
    """Move an existing folder out of the way of the block, which makes another; then delete it.

    If the block fails, the old folder gets its name back. Where there is none, an empty one stands
    for it: it says that what the block makes, and a kill leaves without `MARK`, is one of ours.
    """
    aside = _aside(target)
    if not target.exists():
        aside.mkdir(exist_ok=True)
        try:
            yield
        finally:
            with suppress(OSError):
                aside.rmdir()
        return
    shutil.rmtree(aside, ignore_errors=True)  # somebody else may still be deleting it
    target.rename(aside)
    try:
        yield
    except BaseException:
        if not target.exists():
            aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _aside(target: Path) -> Path:
    staging = staging_of(target)
    return staging.with_name(f"{staging.name}{_ASIDE}")


def settle(target: Path) -> None:
    """Finish what a killed process left of replacing a folder, unless a live one is writing it."""
    if _aside(target).is_dir():
        with claimed(target) as is_ours:
            if is_ours:
                _take_back(target)


def _take_back(target: Path) -> None:
    """Finish what a killed process left of replacing a folder; for who has the claim."""
    aside = _aside(target)
    if not aside.is_dir() or aside.is_symlink():
        return
    if target.exists() or not any(aside.iterdir()):
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.rename(target)


def is_aside(folder: Path) -> bool:
    """Whether a folder's name is that of an old one which `put_aside` moved."""
    return folder.name.startswith(".") and folder.name.endswith(_PART + _ASIDE)


def restore(aside: Path) -> Path | None:
    """Put a folder that a killed process set aside back in its place.

    Returns:
        Its place, or its own name if there was no old folder and what was there is removed; None
        if a process that is alive is writing it, or the place is taken.
    """
    target = aside.with_name(aside.name.removeprefix(".").removesuffix(_PART + _ASIDE))
    if _aside(target) != aside:  # a long name, of which only the beginning is known
        return None
    with claimed(target) as is_ours:
        if not is_ours or not aside.is_dir() or aside.is_symlink():
            return None
        if not any(aside.iterdir()):
            aside.rmdir()
            return aside
        if target.exists():
            return None
        aside.rename(target)
    return target


@contextmanager
def claimed(target: Path) -> Iterator[bool]:
    """Keep others from writing `target` during the block; yields whether that could be done."""
    folder = staging_of(target)
    lock = _claim(folder)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            _remove(folder, lock)


def remove_leftovers(target: Path) -> bool:
    """Remove what a killed process left of writing `target`; return whether there was something."""
    return remove_staging(staging_of(target))


def remove_staging(folder: Path) -> bool:
    """Remove a folder of `staging_of`, unless a process that is alive writes in it."""
    if not folder.is_dir() or (lock := _claim(folder, make=False)) is None:
        return False
    _remove(folder, lock)
    return True


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold an existing folder for the block; where there are no locks, nothing is held.

    Raises:
        UserError: Another process holds it.
    """
    if sys.platform == "win32":
        yield
        return
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{folder}: another process is writing it; wait for its end, or choose another "
                    "folder"
                ) from None
        yield
    finally:
        os.close(held)


def _claim(folder: Path, *, make: bool = True, mode: int = 0o777) -> int | None:
    """Make `folder`, or take it over from a process that died, and empty it.

    The claim is a lock on the folder, which the system releases however a process ends. It is
    emptied through that lock: its name may by now lead elsewhere.

    Args:
        folder: The folder.
        make: Whether it is made where there is none.
        mode: Permissions of one that is made, before the umask.

    Returns:
        What `_remove` takes; None if a live process has it, or perhaps has it: on a file system
        without locks nobody can tell. None, too, if there is none and none is to be made.
    """
    if sys.platform == "win32":  # no locks on folders: a file that is open can't be removed
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(mode)
        except FileExistsError:
            return None
        return _NO_LOCK
    while True:
        made = False
        if make:
            with suppress(FileExistsError):
                folder.mkdir(mode)
                made = True
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:  # its last owner has just removed it
            if not make:
                return None
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), folder.lstat()):
                break
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(lock)
            return None
        except OSError:  # a file system without locks
            if made:
                return lock
            os.close(lock)
            return None
        os.close(lock)
    _empty(lock)
    return lock


def _empty(folder: int) -> None:
    """Delete what is in an open folder, `MARK` last: until then it is known as one of ours."""
    for name in sorted(os.listdir(folder), key=lambda name: name == MARK):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            shutil.rmtree(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)


def _remove(folder: Path, lock: int) -> None:
    """Remove a claimed folder, and give up the claim.

    A folder that got its name is no longer there; somebody else may have made the next one.
    """
    with suppress(OSError):
        if lock == _NO_LOCK or os.path.samestat(os.fstat(lock), folder.lstat()):
            if lock != _NO_LOCK:
                _empty(lock)
            shutil.rmtree(folder, ignore_errors=True)
    if lock != _NO_LOCK:
        os.close(lock)
