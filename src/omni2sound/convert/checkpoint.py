"""Checkpoints of the stable-audio-tools family: finding one and choosing a set of weights.

In:   a folder or a file (`.ckpt`, `.pt`, `.pth`, `.bin`, `.safetensors`), tensors by name.
Out:  tensors by the names that the model is published with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from torch import Tensor

from omni2sound.errors import MissingPartError, UserError

WeightSet = Literal["trained", "average"]
"""Weights of a training checkpoint: those of the last step, or their EMA."""
SETTINGS = "model_config.json"


def find_checkpoint(source: Path) -> Path:
    """Find the only checkpoint of a folder; a file is returned as it is.

    Raises:
        MissingPartError: There is none, or more than one.
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
    """Find a file of that name in the checkpoint's folder, or in the one above.

    Raises:
        MissingPartError: There is none.
    """
    for folder in (checkpoint.parent, checkpoint.parent.parent):
        if (folder / name).is_file():
            return folder / name
    raise MissingPartError(f"{name} lies neither beside {checkpoint} nor one folder above")


def choose_weights(
    tensors: dict[str, Tensor], wanted: WeightSet | None, path: Path
) -> tuple[dict[str, Tensor], int]:
    """Select one set of weights of a training checkpoint, under their published names.

    Training wraps the model as `diffusion.`, the EMA of its network as
    `diffusion_ema.ema_model.`; compiled networks have `_orig_mod.` in their names.

    Returns:
        The selected tensors, and the number of tensors of the other set.

    Raises:
        UserError: The file has two sets and none was chosen, or lacks the chosen one.
    """
    plain = {name.replace("._orig_mod.", "."): value for name, value in tensors.items()}
    if not any(name.startswith("diffusion.") for name in plain):
        if wanted is not None:
            raise UserError(f"{path} holds one set of weights; leave `weights` out")
        return plain, 0
    averaged = any(name.startswith("diffusion_ema.") for name in plain)
    if averaged and wanted is None:
        raise UserError(
            f"{path} is a training checkpoint with two sets of weights; "
            "choose `weights`: trained or average"
        )
    if wanted == "average" and not averaged:
        raise UserError(f"{path} holds no EMA weights; set `weights` to trained")
    chosen, aside = {}, 0
    for name, value in plain.items():
        if name.startswith("diffusion_ema."):
            inner = name.removeprefix("diffusion_ema.ema_model.")
            if wanted == "average" and inner != name:
                chosen[f"model.{inner}"] = value
            else:
                aside += 1  # the other set, or counters of the EMA
        elif name.startswith("diffusion.model.") and wanted == "average":
            aside += 1
        else:
            chosen[name.removeprefix("diffusion.")] = value
    return chosen, aside
