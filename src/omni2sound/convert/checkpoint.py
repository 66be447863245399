"""Checkpoint files of others: found, read without running anything, one set of weights chosen.

In:   a folder or a file (`.ckpt`, `.pt`, `.pth`, `.bin`, `.safetensors`).
Out:  tensors by the names that the model is published with.

What not to get wrong: checkpoints are pickles. They are read by torch's loader that knows
tensors and plain data alone; one that names any code is refused, and nothing of it runs.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from omni2sound.errors import ConfigError, MissingPartError, UserError

__all__ = [
    "SETTINGS",
    "Tower",
    "beside",
    "choose_tower",
    "find_checkpoint",
    "read_json",
    "read_tensors",
]

Tower = Literal["trained", "average"]
"""Which weights of a training checkpoint: those of the last step, or their moving average."""
SETTINGS = "model_config.json"


def find_checkpoint(source: Path) -> Path:
    """The one checkpoint of a folder; a file is itself.

    Raises:
        MissingPartError: There is none, or several.
    """
    if source.is_file():
        return source
    kinds = ("*.ckpt", "*.pt", "*.pth", "*.bin", "*.safetensors")
    places = (source, source / "checkpoints")
    found = sorted(path for place in places for kind in kinds for path in place.glob(kind))
    if len(found) != 1:
        names = ", ".join(str(path.relative_to(source)) for path in found) or "none"
        raise MissingPartError(
            f"{source} must hold {SETTINGS} and one checkpoint, found {names}; "
            "give the checkpoint's own path if there are several"
        )
    return found[0]


def beside(checkpoint: Path, name: str) -> Path:
    """A file of that name in the checkpoint's folder, or in the one above.

    Raises:
        MissingPartError: There is none.
    """
    for folder in (checkpoint.parent, checkpoint.parent.parent):
        if (folder / name).is_file():
            return folder / name
    raise MissingPartError(f"{name} lies neither beside {checkpoint} nor one folder above")


def read_json(path: Path) -> Any:
    """JSON data of a file.

    Raises:
        ConfigError: It can't be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a file by name, from the disk as they are needed.

    Raises:
        UserError: The file is a pickle with code in it, or no checkpoint.
    """
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(f"{path} is no safetensors file: {error}") from None
    try:
        with warnings.catch_warnings():  # of old formats, which it refuses or reads
            warnings.simplefilter("ignore", UserWarning)
            data = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"it names {named[1]}" if named else "it is no file of tensors and plain data"
        raise UserError(
            f"{path} is refused: {what}, and code in a checkpoint is never run; "
            "save its state_dict alone, as safetensors, where you trust it"
        ) from None
    except (RuntimeError, EOFError, ValueError) as error:
        raise UserError(f"{path} is no checkpoint: {error}") from None
    if isinstance(data, Mapping) and "state_dict" in data:
        data = data["state_dict"]
    if not isinstance(data, Mapping) or not data:
        raise UserError(f"{path} holds no tensors by name")
    odd = [str(key) for key, value in data.items() if not isinstance(value, Tensor)]
    if odd:
        raise UserError(f"{path}: what stands under {', '.join(odd)} is no tensor")
    return {str(key): value for key, value in data.items()}


def choose_tower(
    tensors: dict[str, Tensor], tower: Tower | None, path: Path
) -> tuple[dict[str, Tensor], int]:
    """One set of weights of a training checkpoint, under the names that it is published with.

    Training wraps the model as `diffusion.`, its network's moving average as
    `diffusion_ema.ema_model.`; compiled networks have `_orig_mod.` in their names.

    Returns:
        The chosen tensors, and how many belong to the weights that were not chosen.

    Raises:
        UserError: The file leaves a choice that was not made, or has not what was chosen.
    """
    plain = {name.replace("._orig_mod.", "."): value for name, value in tensors.items()}
    if not any(name.startswith("diffusion.") for name in plain):
        if tower is not None:
            raise UserError(f"{path} holds one set of weights; leave --weights out")
        return plain, 0
    averaged = any(name.startswith("diffusion_ema.") for name in plain)
    if averaged and tower is None:
        raise UserError(
            f"{path} is a training checkpoint with two sets of weights; "
            "choose --weights trained or --weights average"
        )
    if tower == "average" and not averaged:
        raise UserError(f"{path} holds no averaged weights; use --weights trained")
    chosen, aside = {}, 0
    for name, value in plain.items():
        if name.startswith("diffusion_ema."):
            inner = name.removeprefix("diffusion_ema.ema_model.")
            if tower == "average" and inner != name:
                chosen[f"model.{inner}"] = value
            else:
                aside += 1  # the other tower, or the average's own counters
        elif name.startswith("diffusion.model.") and tower == "average":
            aside += 1
        else:
            chosen[name.removeprefix("diffusion.")] = value
    return chosen, aside
