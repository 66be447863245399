"""The table of things: what labels of two networks are called, and what they sound like.

In:   `things.toml`, beside this module.
Out:  `Things`: the thing of a COCO label or of ImageNet probabilities, and its prompt.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from omni2sound.config import from_json

_IMAGENET_LABELS = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """One row of the table."""

    name: str
    """What the user reads."""
    sound: str | None = None
    """Class of the scene catalogue; None if the model has no such sound."""
    moving: bool = False
    """Whether it sounds only while it moves."""
    place: bool = False
    """Whether it is looked for in the whole picture."""
    silent: str | None = None
    """Why it has no sound; None if that is not worth saying."""
    coco: tuple[int, ...] = ()
    imagenet: tuple[str, ...] = ()
    """Indices, or ranges such as "151-268"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Things:
    """The table, with indices from labels to rows."""

    rows: tuple[Thing, ...]
    prompts: Mapping[str, str]
    """Prompt of each sound."""
    of_coco: Mapping[int, int] = field(repr=False)
    """Row of each COCO label that has one."""
    of_imagenet_K: NDArray[np.int64] = field(repr=False)
    """Row of each ImageNet label, -1 without one."""

    @property
    def places(self) -> frozenset[str]:
        """Names of what is looked for in the whole picture."""
        return frozenset(row.name for row in self.rows if row.place)

    def posterior(self, imagenet_TK: NDArray[np.float32]) -> NDArray[np.float32]:
        """Sum ImageNet probabilities (T, 1000) by thing, (T, rows)."""
        known = self.of_imagenet_K >= 0
        sums = np.zeros((len(imagenet_TK), len(self.rows)), np.float32)
        for picture, probabilities_K in zip(sums, imagenet_TK, strict=True):
            np.add.at(picture, self.of_imagenet_K[known], probabilities_K[known])
        return sums


@lru_cache(maxsize=1)
def load_things() -> Things:
    """Read the table."""
    text = (resources.files(__package__) / "things.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    rows = from_json(tuple[Thing, ...], data["thing"], where="things.toml")
    of_coco: dict[int, int] = {}
    of_imagenet_K = np.full(_IMAGENET_LABELS, -1)
    for i, row in reversed(list(enumerate(rows))):  # the first row that claims a label has it
        of_coco.update(dict.fromkeys(row.coco, i))
        for span in row.imagenet:
            first, _, last = span.partition("-")
            of_imagenet_K[int(first) : int(last or first) + 1] = i
    return Things(rows=rows, prompts=data["prompts"], of_coco=of_coco, of_imagenet_K=of_imagenet_K)
