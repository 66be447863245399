"""What a run is: stages over one model, as data.

In:   nothing; `recipes/` fills these types.
Out:  `Recipe`, whose digest (`config.digest`) names the run.

What not to get wrong: a field that is new here is declared `config.added`, or every run of
before gets another digest and can't be resumed.

One task is drawn per step and a batch never mixes tasks; a stage says how often each is
drawn and what makes it harder. Source: Omni2Sound, arXiv:2601.02731, training schedule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from omni2sound.config import added, runtime_only
from omni2sound.diffusion.objective import Objective
from omni2sound.errors import ConfigError
from omni2sound.models.conditioning import ConditionerConfig
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
    """Learning rate that half a cosine comes down to: that of the step after the stage's last,
    which is the first of an extension."""
    warmup_steps: int
    """Steps of linear warm-up from zero."""
    task_weights: Mapping[str, float]
    """Chance that a step is of this task; a task that is not named is never drawn."""
    t2a_best_share: float = 1.0
    """T2A takes this share of its clips, those whose captions were scored best; 1 takes all."""
    caption_role: str = "caption"
    """Which of a clip's texts prompts are: "caption", or another role that the features hold."""
    offscreen_prob: float = 0.0
    """Chance that a VT2A clip gets an unseen sound mixed in and told in its caption."""
    offscreen_snr_db: tuple[float, float] = (-6.0, 9.0)
    """Range of the clip's own sound over the unseen one."""
    token_drop_sample_prob: float = 0.0
    """Chance that a VT2A prompt loses tokens before the text encoder."""
    token_drop_prob: float = 0.5
    """Chance of each token of such a prompt to be lost."""
    silence_weight: float | None = added(None)
    """Instead of the recipe's. What counts silence little learns what things sound like first,
    and then believes in sounds too easily: odds of a sound are off by as much as the weight.
    The validation loss keeps the recipe's, to be comparable over stages."""
    extend_steps: int = 0
    """Steps that may be added at `final_lr`, a tenth of `steps` at a time, until the stage has
    converged (`train.progress`). 0: the verdict is told, and the next stage starts."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.task_weights) - set(TASKS))
        if unknown:
            raise ConfigError(f"stage {self.name!r}: unknown tasks {unknown}; known: {TASKS}")
        if not all(weight >= 0 for weight in self.task_weights.values()):
            raise ConfigError(
                f"stage {self.name!r}: task_weights must be 0 or more, got {self.task_weights}"
            )
        total = sum(self.task_weights.values())
        if abs(total - 1) > 1e-6:
            raise ConfigError(f"stage {self.name!r}: task_weights must sum to 1, got {total}")
        if not (0 < self.lr < math.inf and 0 <= self.final_lr < math.inf):
            raise ConfigError(
                f"stage {self.name!r}: needs lr > 0 and final_lr >= 0, "
                f"got {self.lr} and {self.final_lr}"
            )
        if self.steps < 1 or self.warmup_steps < 0:
            raise ConfigError(
                f"stage {self.name!r}: needs steps >= 1 and warmup_steps >= 0, "
                f"got {self.steps} and {self.warmup_steps}"
            )
        if self.silence_weight is not None and not 0 <= self.silence_weight < math.inf:
            raise ConfigError(
                f"stage {self.name!r}: silence_weight must be 0 or more, got {self.silence_weight}"
            )
        for name in ("offscreen_prob", "token_drop_sample_prob", "token_drop_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"stage {self.name!r}: {name} must lie in [0, 1], got {getattr(self, name)}"
                )
        if not 0 < self.t2a_best_share <= 1:
            raise ConfigError(
                f"stage {self.name!r}: t2a_best_share must lie in (0, 1], got {self.t2a_best_share}"
            )
        low, high = self.offscreen_snr_db
        if not low <= high:
            raise ConfigError(f"stage {self.name!r}: offscreen_snr_db must rise, got {low}, {high}")
        if self.extend_steps < 0:
            raise ConfigError(f"stage {self.name!r}: extend_steps must be >= 0")

    @property
    def makes_prompts(self) -> bool:
        """Whether prompts are changed in training, so that a text encoder has to be there."""
        return "VT2A" in self.task_weights and bool(
            self.offscreen_prob or self.token_drop_sample_prob
        )


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
    """Seconds of sound per step, over all devices; all clips of a batch have one length."""
    text_tokens: int | None = None
    """Tokens that every prompt is filled up or cut to. None: the longest prompt of the batch,
    for models that mask padding."""
    augment: bool = added(True)
    """Change gain and colour of every waveform. False: where nothing is mixed in either, the
    latents that the features hold are taken, and the autoencoder has less to do (or nothing)."""
    text_noise: float = added(0.0)
    """Noise on the states of every prompt, in standard deviations of a state: one vector for the
    whole text and one for each token. Few wordings and many steps otherwise teach the exact
    states of the words, and others of the same meaning are not understood."""
    text_drop: float = added(0.0)
    """Chance of each token's state to be left out, after the text encoder; one stays."""
    resident: bool = added(False)
    """Keep all features in the device's memory and build batches there
    (`data.batches.on_device`), for one GPU that would otherwise wait for the host. Random numbers
    differ from those without, and on a GPU from those on a CPU."""
    speed: float = added(0.0)
    """Clips for text-to-audio are played up to this share faster or slower (0.15: 1.15 times,
    or by that factor slower). With resident features only."""
    accumulate: int = 1
    """Parts that a step's batch is computed in, one after the other; saves memory."""
    objective: Objective = field(default_factory=Objective)
    """Path and prediction target."""
    channel_weight_exponent: float = 0.0
    """Loss weight of a latent channel: its scale before standardisation to this power (mean 1).
    0 weighs channels alike; components of a spectrum differ in what they are worth."""
    silence_weight: float = 1.0
    """Loss weight of a silent frame beside a loud one's 1; see `train.step.frame_weights`. Room
    tone cannot be predicted, and where it fills most frames its error drowns the rest."""
    null_prob: float = 0.1
    """Guidance dropout: chance that a sample takes the null branch (paper: joint dropout)."""
    ema_decay: float = 0.999
    """Decay of the averaged weights, which are what is saved as the model."""
    optimizer: OptimizerKind = "adamw"
    """See `train.optimizer`; why "muon" on two cores: docs/decisions/0031."""
    weight_decay: float = 0.01
    """On matrices only."""
    adam_betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's memories of the gradient and of its square."""
    clip_norm: float = 1.0
    """Gradient norm above which gradients are scaled down."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Autocast type of the forward pass; weights and optimizer stay float32."""
    compile: bool = False
    """Compile the blocks. Faster on a GPU, after a minute's start; rounds differently."""
    activation_checkpointing: bool = runtime_only(False)
    """Compute each block's activations again in the backward pass instead of keeping them."""
    seed: int = 0
    """Of everything random."""
    validate_every: int = runtime_only(200)
    """Steps between measurements of the validation loss."""
    sample_every: int = runtime_only(0)
    """Steps between sounds and spectrograms written into the run's folder; 0 writes none."""

    def __post_init__(self) -> None:
        if not self.stages:
            raise ConfigError(f"recipe {self.name!r} has no stages")
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ConfigError(f"recipe {self.name!r}: stages need different names, got {names}")
        if self.batch_seconds <= 0:
            raise ConfigError(f"batch_seconds must be positive, got {self.batch_seconds}")
        if not 0 <= self.null_prob < 1 or not 0 <= self.ema_decay < 1:
            raise ConfigError("null_prob and ema_decay must lie in [0, 1)")
        if self.text_noise < 0 or not 0 <= self.text_drop < 1:
            raise ConfigError(
                f"need text_noise >= 0 and text_drop in [0, 1), got {self.text_noise} and "
                f"{self.text_drop}"
            )
        if self.speed < 0 or (self.speed and not self.resident):
            raise ConfigError(
                f"speed must be 0 or more and needs resident=true, got speed={self.speed} and "
                f"resident={self.resident}; set speed to 0 before resident to false"
            )
        if self.resident and not self.augment:
            raise ConfigError(
                "resident features make latents in every step, and augment=false is there to take "
                "stored ones: set resident to false (and speed to 0 before it)"
            )
        if self.resident and self.accumulate > 1:
            raise ConfigError("resident features make whole batches: set accumulate to 1")
        if self.accumulate < 1 or self.validate_every < 1 or self.sample_every < 0:
            raise ConfigError("accumulate and validate_every must be >= 1, sample_every >= 0")
        sizes = self.dit.conditioner
        masked = isinstance(sizes, ConditionerConfig) and sizes.masked
        if self.text_tokens is None and not masked:
            raise ConfigError(
                "a model without masks attends to padding: set text_tokens to the number of "
                "tokens that every prompt is filled up to"
            )

    @property
    def num_steps(self) -> int:
        """Steps of all stages, without extensions."""
        return sum(stage.steps for stage in self.stages)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every task that some stage trains, in order."""
        return tuple(t for t in TASKS if any(s.task_weights.get(t) for s in self.stages))
