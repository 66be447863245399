"""What a run is: stages over one model, as data.

In:   nothing; `recipes/` fills these types.
Out:  `Recipe`, whose digest (`config.digest`) names the run.

One task is drawn per step and a batch never mixes tasks; a stage says how often each is
drawn and what makes it harder. Source: Omni2Sound, arXiv:2601.02731, training schedule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from omni2sound.config import runtime_only
from omni2sound.diffusion.objective import Objective
from omni2sound.errors import ConfigError
from omni2sound.models.dit import DiTConfig
from omni2sound.train.optimizer import OptimizerKind

__all__ = ["TASKS", "Recipe", "Stage", "Task"]

Task = Literal["T2A", "V2A", "VT2A"]
TASKS: tuple[Task, ...] = get_args(Task)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One phase of training; it starts from the weights that the one before left."""

    name: str
    """Short name, for logs."""
    steps: int
    """Optimizer steps."""
    lr: float
    """Peak learning rate, reached after warm-up."""
    final_lr: float
    """Learning rate at the stage's last step; the way there is half a cosine."""
    warmup_steps: int
    """Steps of linear warm-up from zero."""
    task_weights: Mapping[str, float]
    """Chance that a step is of this task; a task that is not named is never drawn."""
    offscreen_prob: float = 0.0
    """Chance that a VT2A clip gets an unseen sound mixed in and told in its caption."""
    token_drop_sample_prob: float = 0.0
    """Chance that a VT2A prompt loses words before the text encoder."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.task_weights) - set(TASKS))
        if unknown:
            raise ConfigError(f"stage {self.name!r}: unknown tasks {unknown}; known: {TASKS}")
        total = sum(self.task_weights.values())
        if abs(total - 1) > 1e-6:
            raise ConfigError(f"stage {self.name!r}: task_weights must sum to 1, got {total}")
        if self.steps < 1 or self.warmup_steps < 0:
            raise ConfigError(
                f"stage {self.name!r}: needs steps >= 1 and warmup_steps >= 0, "
                f"got {self.steps} and {self.warmup_steps}"
            )
        for name in ("offscreen_prob", "token_drop_sample_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"stage {self.name!r}: {name} must lie in [0, 1]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A whole run."""

    name: str
    """Also the default name of the model that comes out."""
    dit: DiTConfig
    """Shape of the transformer."""
    stages: tuple[Stage, ...]
    """In order."""
    batch_seconds: float
    """Seconds of sound per step; all clips of a batch have one length."""
    objective: Objective = field(default_factory=Objective)
    """Path and prediction target."""
    channel_weight_exponent: float = 0.0
    """Loss weight of a latent channel: its scale before standardisation to this power (mean 1).
    0 weighs channels alike; components of a spectrum differ in what they are worth."""
    silence_weight: float = 1.0
    """Loss weight of a silent frame beside a loud one's 1; see `train.loop.frame_weights`. Room
    tone cannot be predicted, and where it fills most frames its error drowns the rest."""
    null_prob: float = 0.1
    """Guidance dropout: chance that a sample takes the null branch (paper: joint dropout)."""
    ema_decay: float = 0.999
    """Decay of the averaged weights, which are what is saved as the model."""
    optimizer: OptimizerKind = "adamw"
    """See `train.optimizer`; why "muon" on two cores: docs/decisions/0031."""
    weight_decay: float = 0.01
    """On matrices only."""
    clip_norm: float = 1.0
    """Gradient norm above which gradients are scaled down."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Autocast type of the forward pass; weights and optimizer stay float32."""
    seed: int = 0
    """Of everything random."""
    validate_every: int = runtime_only(200)
    """Steps between measurements of the validation loss."""

    def __post_init__(self) -> None:
        if not self.stages:
            raise ConfigError(f"recipe {self.name!r} has no stages")
        if self.batch_seconds <= 0:
            raise ConfigError(f"batch_seconds must be positive, got {self.batch_seconds}")
        if not 0 <= self.null_prob < 1 or not 0 <= self.ema_decay < 1:
            raise ConfigError("null_prob and ema_decay must lie in [0, 1)")

    @property
    def num_steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[Stage, int]:
        """The stage of a step and the step's index inside it.

        Raises:
            ValueError: If the run has no such step.
        """
        inside = step
        for stage in self.stages:
            if 0 <= inside < stage.steps:
                return stage, inside
            inside -= stage.steps
        raise ValueError(f"recipe {self.name!r} has steps 0 to {self.num_steps - 1}, got {step}")
