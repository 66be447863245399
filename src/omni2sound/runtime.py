"""The device and the precision of a computation.

In:   names given by users ("auto", "cuda", "bfloat16").
Out:  `torch.device`, `torch.dtype`.

Torch is imported inside functions only: the command line imports this module and must start
without it. A device that is missing is an error and never replaced by another one: a silent
fall-back from "cuda" to the CPU would be noticed an hour later.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from omni2sound.errors import UserError

if TYPE_CHECKING:
    import torch

INSTALL_TORCH = 'pip install "omni2sound[torch]"'
"""The command that installs what the package does not need for its default model."""

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
DtypeName = Literal["auto", "float32", "bfloat16", "float16"]


def visible_gpus() -> tuple[str, ...]:
    """Names of the CUDA devices that this process may use, as `CUDA_VISIBLE_DEVICES` has them."""
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return tuple(name.strip() for name in given.split(",") if name.strip())
    return tuple(str(number) for number in range(torch.cuda.device_count()))


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
        raise UserError(f"expected one of {', '.join(known)}, got {name!r}", field="device")
    if kind == "cuda":
        num_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if num_devices == 0:
            raise UserError(
                f"{name!r}: torch {torch.__version__} finds no CUDA device; use cpu", field="device"
            )
        if index and int(index) >= num_devices:
            raise UserError(
                f"{name!r}: this machine has {num_devices} CUDA device(s), counted from 0",
                field="device",
            )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError(
            f"{name!r}: torch {torch.__version__} finds no MPS device; use cpu", field="device"
        )
    return torch.device(name)


def has_torch() -> bool:
    """Whether torch is installed; it is not imported."""
    return importlib.util.find_spec("torch") is not None


def packages_missing_for_torch() -> list[str]:
    """Packages that generating in torch needs beside it and that are not installed.

    Another program's environment often has torch without them.
    """
    beside = ("diffusers", "transformers")
    return [name for name in beside if importlib.util.find_spec(name) is None]


def has_accelerator(device: str) -> bool:
    """Whether "auto" may stand for another device than the CPU; False for "cpu".

    A driver's files are looked for, without torch; torch may still find that it can't use it.
    """
    if device == "cpu":
        return False
    places = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # CUDA, ROCm, CUDA under WSL
    return sys.platform in ("darwin", "win32") or any(Path(place).exists() for place in places)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """Turn a precision name into the dtype of the transformer's weights and activations.

    Args:
        name: "auto" (bfloat16 on a CUDA device or x86 CPU that multiplies it natively, else
            float32), "float32", "bfloat16" or "float16".
        device: The device that computes.

    Raises:
        UserError: The name is unknown, or the device cannot compute in it.
    """
    import torch

    known = get_args(DtypeName)
    if name not in known:
        raise UserError(f"expected one of {', '.join(known)}, got {name!r}", field="dtype")
    if name == "auto":
        return torch.bfloat16 if _multiplies_bfloat16(device) else torch.float32
    if name == "float16" and device.type == "cpu":
        raise UserError("a CPU can't compute in float16; use float32 or bfloat16", field="dtype")
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 are several times faster on this device than in float32."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # Older torch releases have no such functions: False.
        names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, bool)() for name in names)
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
            raise UserError(f"expected 1 or more, got {num_threads}", field="num_threads")
        torch.set_num_threads(num_threads)
    return torch.get_num_threads()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch's operations in the block run on one thread each."""
    before = set_num_threads(None)
    set_num_threads(1)
    try:
        yield
    finally:
        set_num_threads(before)


def choose_deterministic(device: str, dtype: str) -> tuple[str, str]:
    """Choose device and precision of a computation that rounds the same way each time.

    Raises:
        UserError: Others are asked for.
    """
    if device not in ("auto", "cpu"):
        raise UserError(f"`deterministic` computes on the cpu, got {device!r}", field="device")
    if dtype not in ("auto", "float32"):
        raise UserError(f"`deterministic` computes in float32, got {dtype!r}", field="dtype")
    return "cpu", "float32"


class LoadedHere:
    """Base of what computes in the process that loaded it, and is not copied to another one.

    Pools of threads do not survive a fork: with several threads the child would wait for ever.
    Whoever computes calls `check_process` first.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()

    def num_threads(self) -> int:
        """Threads of one operation."""
        import torch

        return torch.get_num_threads()

    def check_process(self) -> None:
        """Refuse to compute in a process that was forked after loading.

        Raises:
            UserError: This is another process, and there are several threads.
        """
        if os.getpid() != self._pid and self.num_threads() > 1:
            raise UserError(
                "a model that was loaded before a fork would wait for ever for threads that the "
                "new process does not have; load it in each process, start processes by spawn, or "
                "call torch.set_num_threads(1) before the fork"
            )

    def __reduce__(self) -> Any:
        raise UserError(
            f"a {type(self).__name__} can't be pickled; load the model in each process by its name"
        )
