"""The matrix of recipes, the comparisons and the expected sign of each: the pre-registration.

In:   nothing.
Out:  `RECIPES`, each as its stages; `COMPARISONS`, each a difference of two recipes on one measure,
      with the sign that the paper's claim makes us expect.

All recipes have the same network, data, optimizer and number of steps. Each stage is a run of its
own from the averaged weights of the one before, so recipes that begin alike share those runs: equal
seeds are pairs. No number here may change once a run of the matrix has been looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from omni2sound.config import digest
from omni2sound.data.batches.batch import Source
from omni2sound.errors import UserError
from omni2sound.recipes.ablations import ablate
from omni2sound.recipes.tiny import tiny
from omni2sound.train.recipe import Recipe, Stage

SEEDS = (0, 1, 2, 3, 4)
CLASSES = ("drum", "guitar", "trumpet", "dog", "rooster", "bird", "bell", "hammer")
DURATION_S = 4.0
TRAINING, BY_EAR, WRONG = "train", "by-ear", "wrong"
"""Stores: the training features, and copies with captions by ear or of another clip."""
SCENES = {"train": (("audio", 320), ("main", 320)), "held": (("audio", 64), ("main", 64))}
"""Scenes of each store: kind and number."""
NUM_CLIPS = 64
"""Test scenes: half of them "main", half "offscreen"."""
NUM_SOUNDS = 32
"""Scenes of each track for which sounds are made and scored; the loss is that of all."""
NUM_DRAWS = 4
"""Noise draws of the loss of a scene."""
SAMPLING_STEPS = 8
GUIDANCE = 3.0


def base() -> Recipe:
    """Build the recipe that all others change: `tiny` on stored latents, so without augmentation.

    It is in float32, which is faster than bfloat16 at this width on a CPU.
    """
    return replace(tiny(), name="claims", precision="float32", augment=False)


def _without_stage_3(**changes: object) -> tuple[Stage, ...]:
    """Stages 1 and 2, the second as long as 2 and 3 together, with changes to the second."""
    first, second = ablate(base(), "no-stage-3").stages
    return first, replace(second, **changes)  # type: ignore[arg-type]


def _bridge_from(store: str) -> tuple[Stage, ...]:
    """The bridge task alone draws from another store."""
    own = Source(store=TRAINING, tasks=("T2A", "V2A"))
    return _without_stage_3(data=(own, Source(store=store, tasks=("VT2A",))))


def _shares(t2a: float) -> Mapping[str, float]:
    """Shares with the bridge: the rest is divided as in the base."""
    joint = base().stages[1].task_weights
    rest = (1 - t2a) / (1 - joint["T2A"])
    return {"T2A": t2a, "V2A": joint["V2A"] * rest, "VT2A": joint["VT2A"] * rest}


def _third_stage(**off: float) -> tuple[Stage, ...]:
    first, second, third = base().stages
    return first, second, replace(third, **off)  # type: ignore[arg-type]


def _stages(name: str) -> tuple[Stage, ...]:
    return ablate(base(), name).stages


RECIPES: Mapping[str, tuple[Stage, ...]] = {
    "two-stages": _stages("no-stage-3"),
    "three-stages": base().stages,
    "no-bridge-0.1": _stages("no-bridge"),
    "no-pretraining": _stages("no-pretraining"),
    "no-bridge-0.4": _stages("t2a-0.4"),
    "merged-stages": _stages("merged-stages"),
    "v2a-only": _stages("v2a-only"),
    "t2a-only": _stages("t2a-only"),
    "wrong-bridge": _bridge_from(WRONG),
    "off-screen-alone": _third_stage(token_drop_sample_prob=0.0),
    "dropout-alone": _third_stage(offscreen_prob=0.0),
    "by-ear-bridge": _bridge_from(BY_EAR),
    "no-bridge-0.2": _stages("t2a-0.2"),
    "bridge-0.2": _without_stage_3(task_weights=_shares(0.2)),
    "bridge-0.4": _without_stage_3(task_weights=_shares(0.4)),
}
"""Stages of each recipe, in the order in which they are run."""

Track = Literal["T2A", "V2A", "VT2A", "off-screen"]
TRACKS: tuple[Track, ...] = ("T2A", "V2A", "VT2A", "off-screen")
"""What a model is shown: the caption, the video or both of a "main" scene; both of an "offscreen"
scene, whose caption names a sound that the video does not show."""
Measure = Literal["KL", "onset F1"]
"""Primary measures. "KL": divergence of the tags of the scene's own sound from those of the made
one, mean over clips and both taggers, lower is better; it moves before a class is recognised.
"onset F1": at 100 ms (`stage-v1`), higher is better. The secondary measure is the training loss of
a scene's own sound on the same track, of all comparisons, corrected among themselves: what the
recipe changes in the model before a sampler and a judge add their noise. It decides no claim."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A difference of two recipes, A - B; the paper's claim makes us expect A to be the better."""

    claim: str
    name: str
    a: str
    b: str
    track: Track
    measure: Measure
    better: Literal["A", "B"] = "A"

    @property
    def sign(self) -> int:
        """Expected sign of A - B."""
        return (1 if self.better == "A" else -1) * (-1 if self.measure == "KL" else 1)


CLAIMS: Mapping[str, str] = {
    "bridge": "Bridge data (both text and video) join two tasks that compete",
    "stages": "Three stages turn competition into help",
    "bias": "Decoupled augmentation mends modality bias",
}


def _one(
    claim: str, name: str, a: str, b: str, shown: tuple[Track, Measure], better: Literal["A", "B"]
) -> Comparison:
    track, measure = shown
    return Comparison(claim=claim, name=name, a=a, b=b, track=track, measure=measure, better=better)


_TEXT: tuple[Track, Measure] = ("T2A", "KL")
_VIDEO: tuple[Track, Measure] = ("V2A", "onset F1")

COMPARISONS: tuple[Comparison, ...] = (
    _one("bridge", "B1", "no-bridge-0.4", "no-bridge-0.1", _TEXT, "A"),
    _one("bridge", "B2", "no-bridge-0.4", "no-bridge-0.1", _VIDEO, "B"),
    _one("bridge", "B3", "two-stages", "no-bridge-0.1", _TEXT, "A"),
    _one("bridge", "B4", "two-stages", "no-bridge-0.1", _VIDEO, "A"),
    _one("bridge", "B5", "two-stages", "wrong-bridge", _TEXT, "A"),
    _one("bridge", "B6", "two-stages", "by-ear-bridge", _TEXT, "A"),
    _one("stages", "S1", "two-stages", "no-pretraining", ("VT2A", "KL"), "A"),
    _one("stages", "S2", "three-stages", "merged-stages", _VIDEO, "A"),
    _one("stages", "S3", "three-stages", "v2a-only", _VIDEO, "A"),
    _one("stages", "S4", "three-stages", "t2a-only", _TEXT, "A"),
    _one("bias", "M1", "three-stages", "two-stages", ("off-screen", "KL"), "A"),
    _one("bias", "M2", "off-screen-alone", "two-stages", ("off-screen", "KL"), "A"),
    _one("bias", "M3", "dropout-alone", "two-stages", ("VT2A", "onset F1"), "A"),
    _one("bias", "M4", "three-stages", "two-stages", _VIDEO, "A"),
)
"""All comparisons. The leading ones are corrected together, the others among themselves (Holm)."""
LEADING = ("B3", "S4", "M1")
"""The comparison that decides each claim: it *holds* if that one is decided with the expected sign,
*does not hold* if it is decided against it, and *can't be told* at this size if it isn't decided.
The other comparisons show where a difference comes from, and decide no claim."""


def stage_recipe(stages: Sequence[Stage], number: int, seed: int) -> Recipe:
    """The run of one stage; each stage has random draws of its own, equal in all recipes."""
    recipe = base()
    return replace(recipe, stages=(stages[number],), seed=100 * seed + number)


def recipe_digests(name: str, seed: int) -> list[str]:
    """Digest of each stage's run of a recipe."""
    stages = RECIPES[name]
    return [digest(stage_recipe(stages, k, seed))[:16] for k in range(len(stages))]


def read_cell(path: Path) -> dict[str, Any]:
    """Read a cell of today's matrix; errors as in `check_cell`."""
    return check_cell(json.loads(path.read_text(encoding="utf-8")), path)


def check_cell(cell: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return a cell if it is of today's matrix.

    Raises:
        UserError: Its recipe is another by now, or its runs ended early.
    """
    steps = [0, *(step for step, _ in cell["curve"]), 0]
    done = sum(a for a, b in pairwise(steps) if b <= a)
    if done != cell["steps"]:
        raise UserError(
            f"{path}: {cell['recipe']}, seed {cell['seed']}, has {done} of {cell['steps']} steps"
        )
    if cell["recipe_sha256"] != recipe_digests(cell["recipe"], cell["seed"]):
        raise UserError(
            f"{path}: the recipe of {cell['recipe']}, seed {cell['seed']}, has changed since; use "
            "another folder"
        )
    return cell
