"""Where a computation runs, where downloads are kept, and how a file is written whole.

In:   names given by users ("auto", "cuda", "bfloat16"), environment variables, target paths.
Out:  `torch.device`, `torch.dtype`, `Path`; a temporary path that becomes the target on success.

Torch is imported inside functions only: the media modules and the command line import this
module and must start without it. A name is refused, never replaced by something near it:
whoever asks for "cuda" and silently gets the CPU waits an hour before noticing.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, get_args

from omni2sound.errors import UserError

if TYPE_CHECKING:
    import torch

__all__ = [
    "Closing",
    "DeviceName",
    "DtypeName",
    "atomic_path",
    "cache_dir",
    "resolve_device",
    "resolve_dtype",
    "set_num_threads",
]

logger = logging.getLogger(__name__)

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
DtypeName = Literal["auto", "float32", "bfloat16", "float16"]


class Closing:
    """Something that is closed at the end of its `with` block."""

    def close(self) -> None:
        """Let go of what is held; called once."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def resolve_device(name: str = "auto") -> torch.device:
    """Turn a device name into a device that exists.

    Args:
        name: "auto" (cuda, else mps, else cpu), "cpu", "cuda", "cuda:1" or "mps".

    Raises:
        UserError: The name is unknown, or this machine has no such device.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    known = get_args(DeviceName)
    if kind not in known or kind == "auto" or (index and not (kind == "cuda" and index.isdigit())):
        raise UserError(f"device {name!r}: expected one of {', '.join(known)}")
    if kind == "cuda":
        num_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if num_devices == 0:
            raise UserError(
                f"device {name!r}: torch {torch.__version__} finds no CUDA device; use --device cpu"
            )
        if index and int(index) >= num_devices:
            raise UserError(
                f"device {name!r}: this machine has {num_devices} CUDA device(s), counted from 0"
            )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError(
            f"device {name!r}: torch {torch.__version__} finds no MPS device; use --device cpu"
        )
    return torch.device(name)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """Turn a precision name into the dtype of the transformer's weights and activations.

    Args:
        name: "auto" (bfloat16 on a CUDA device or x86 CPU that multiplies it natively, else
            float32), "float32", "bfloat16" or "float16".
        device: Where it will run.

    Raises:
        UserError: The name is unknown, or the device cannot compute in it.
    """
    import torch

    known = get_args(DtypeName)
    if name not in known:
        raise UserError(f"dtype {name!r}: expected one of {', '.join(known)}")
    if name == "auto":
        return torch.bfloat16 if _multiplies_bfloat16(device) else torch.float32
    if name == "float16" and device.type == "cpu":
        raise UserError("dtype 'float16' is not usable on a CPU; use float32 or bfloat16")
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 are several times faster here than in float32."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # What older torch releases can't tell, they are not asked.
        asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, bool)() for name in asked)
    return False


def set_num_threads(num_threads: int | None) -> int:
    """Limit the threads of one torch operation; None leaves torch's choice.

    Returns:
        The number in force.

    Raises:
        UserError: `num_threads` is below 1.
    """
    import torch

    if num_threads is not None:
        if num_threads < 1:
            raise UserError(f"num_threads={num_threads}: expected 1 or more")
        torch.set_num_threads(num_threads)
    return torch.get_num_threads()


def cache_dir() -> Path:
    """The one folder for everything that can be made or fetched again. It may not exist yet.

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


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path that becomes `target` when the block ends well, and vanishes if not.

    The temporary file is hidden, lies in the target's folder (a rename does not cross file
    systems) and keeps the target's suffix (encoders choose the container by it). An existing
    target is replaced: whether that is allowed is the caller's question.

    Yields:
        A path that does not exist yet; the block must create a file there and close it.

    Raises:
        UserError: The target's folder does not exist.
    """
    target = Path(target)
    if not target.parent.is_dir():
        raise UserError(f"{target}: folder {target.parent} does not exist; create it first")
    temporary = target.with_name(f".{target.stem[:80]}.{secrets.token_hex(6)}.part{target.suffix}")
    try:
        yield temporary
        _flush_to_disk(temporary)
        temporary.replace(target)
    except BaseException:  # KeyboardInterrupt too: nothing half-written stays behind
        temporary.unlink(missing_ok=True)
        raise
    _flush_to_disk(target.parent)


def _flush_to_disk(path: Path) -> None:
    """Without this, a power cut may leave the new name with no content behind it."""
    if path.is_dir() and sys.platform == "win32":
        return  # Windows has no way to flush a folder
    # Windows flushes only what is open for writing; a folder opens for reading only.
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
