"""Progress of a run: the current stage, validation losses, convergence.

In:   a recipe, validation losses.
Out:  `Progress`: the stage of each step, extensions, verdicts; JSON in every checkpoint.

What not to get wrong: all of it decides what is trained next, so all of it is saved. A run that
is killed between two validations must reach the same verdicts.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omni2sound.config import from_json, to_json
from omni2sound.train.recipe import Recipe, Stage

CONVERGED_TAIL = 0.1
"""Share of a stage's steps, at its end, over which convergence is measured."""
SPIKE_STEPS = 8
"""Steps whose mean loss is compared with the losses before (chosen)."""
SPIKE_MEMORY = 128
"""Steps with which it is compared (chosen)."""
CONVERGED_GAIN = 0.01
"""Relative improvement of the validation loss over the tail below which a stage converged."""


def learning_rate(stage: Stage, step_in_stage: int) -> float:
    """Learning rate: linear warm-up, then half a cosine to `final_lr`, which extensions keep."""
    if step_in_stage < stage.warmup_steps:
        return stage.lr * (step_in_stage + 1) / stage.warmup_steps
    rest = max(1, stage.steps - stage.warmup_steps)
    progress = min(1.0, (step_in_stage - stage.warmup_steps) / rest)
    return stage.final_lr + (stage.lr - stage.final_lr) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(kw_only=True, slots=True)
class Progress:
    """State of a run besides its tensors.

    Attributes:
        recipe: Recipe of the run.
        parent_sha256: Digest of the model that the run started from; None for random weights.
        step: Optimizer steps done.
        skipped: Number of steps skipped because the gradient was not finite.
        skipped_in_a_row: Number of skipped steps since the last one that was not.
        added_steps: Steps added to stages that had not converged, by name.
        losses: Validation losses by stage: (steps done in the stage, mean over tasks).
        converged: Verdict on each finished stage, by name.
        changes: Differences to the run as it began that were allowed on resume.
        draws: Number of batches that were passed over after a spike: step k trains on the draw of
            k + `draws`.
        spikes: Steps at which the loss rose and the run went back.
        recent: Mean losses of the last steps, for the detection of spikes.
    """

    recipe: Recipe
    parent_sha256: str | None = None
    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    added_steps: dict[str, int] = field(default_factory=dict)
    losses: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    converged: dict[str, bool] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    draws: int = 0
    spikes: list[int] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)

    def steps_of(self, stage: Stage) -> int:
        """Number of steps of a stage, extensions included."""
        return stage.steps + self.added_steps.get(stage.name, 0)

    @property
    def num_steps(self) -> int:
        """Number of steps of the run, with the extensions so far."""
        return sum(self.steps_of(stage) for stage in self.recipe.stages)

    def stage_at(self, step: int) -> tuple[Stage, int]:
        """Return the stage of a step and the step's index within it.

        Raises:
            ValueError: If the run has no such step.
        """
        inside = step
        for stage in self.recipe.stages:
            if 0 <= inside < self.steps_of(stage):
                return stage, inside
            inside -= self.steps_of(stage)
        raise ValueError(
            f"recipe {self.recipe.name!r} has steps 0 to {self.num_steps - 1}, got {step}"
        )

    def count(self, *, finite: bool) -> None:
        """Count a step; `finite` is whether its gradient was."""
        self.step += 1
        self.skipped += not finite
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1

    def is_spike(self, loss: float) -> bool:
        """Add a step's mean loss; whether the last ones are far above those before.

        A mean over `SPIKE_STEPS` steps is compared with the median of up to `SPIKE_MEMORY` before
        them, so that a single hard batch is no spike. Nothing is one before half of them are known.
        """
        factor = self.recipe.spike_factor
        if not factor:
            return False
        self.recent = [*self.recent, loss][-(SPIKE_MEMORY + SPIKE_STEPS) :]
        last, before = self.recent[-SPIKE_STEPS:], self.recent[:-SPIKE_STEPS]
        if len(before) < SPIKE_MEMORY // 2:
            return False
        return not sum(last) / len(last) <= factor * statistics.median(before)

    def validation_is_due(self) -> bool:
        """Whether to validate now: at intervals, where a stage's tail begins, and at its end."""
        stage, inside = self.stage_at(self.step - 1)
        steps = self.steps_of(stage)
        return (
            self.step % self.recipe.validate_every == 0
            or inside + 1 == steps
            or inside + 1 == steps - _tail(stage)
        )

    def record_loss(self, loss: float) -> bool | None:
        """Record a validation loss; at a stage's end, decide whether the stage has converged.

        A stage that has not is extended, as far as its recipe allows.

        Returns:
            The verdict, or None before the stage's end.
        """
        stage, inside = self.stage_at(self.step - 1)
        points = self.losses.setdefault(stage.name, [])
        points.append((inside + 1, loss))
        steps = self.steps_of(stage)
        if inside + 1 < steps:
            return None
        before = [earlier for done, earlier in points if done <= steps - _tail(stage)]
        verdict = bool(before) and loss > before[-1] * (1 - CONVERGED_GAIN)
        added = self.added_steps.get(stage.name, 0)
        more = min(_tail(stage), stage.extend_steps - added)
        if not verdict and more > 0:
            self.added_steps[stage.name] = added + more
        else:
            self.converged[stage.name] = verdict
        return verdict

    def to_json(self) -> dict[str, Any]:
        """JSON data for a checkpoint."""
        return {name: value for name, value in to_json(self).items() if name != "recipe"}

    @classmethod
    def from_json(cls, recipe: Recipe, data: Mapping[str, Any]) -> Progress:
        """Restore the data of `to_json`, for the same recipe.

        Raises:
            ConfigError: If a field is unknown or of the wrong type.
        """
        return from_json(cls, {**data, "recipe": to_json(recipe)}, where="progress")


def _tail(stage: Stage) -> int:
    """Steps over which convergence is measured, and by which a stage is extended."""
    return max(1, round(stage.steps * CONVERGED_TAIL))
