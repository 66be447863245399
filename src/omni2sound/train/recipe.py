"""Recipes: the stages and hyperparameters of a run, as data.

In:   nothing; `recipes/` fills these types.
Out:  `Recipe`, whose digest (`config.digest`) names the run.

One task is drawn per step and a batch never mixes tasks; a stage sets how often each task is
drawn and how hard its samples are. Source: Omni2Sound, arXiv:2601.02731, training schedule.

What not to get wrong: declare a new field with `config.added`. Otherwise the digests of all
existing runs change, and none can be resumed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from omni2sound.config import added, runtime_only
from omni2sound.data.batches.batch import Source
from omni2sound.diffusion.objective import Objective
from omni2sound.diffusion.settings import SamplerConfig
from omni2sound.errors import ConfigError
from omni2sound.models.conditioning import ConditionerConfig
from omni2sound.models.dit import DiTConfig
from omni2sound.train.optimizer import OptimizerKind

if TYPE_CHECKING:  # its module reads media, which training does without
    from omni2sound.generate.request import Task

TASKS: tuple[Task, ...] = ("T2A", "V2A", "VT2A")
"""In the order of losses in checkpoints."""


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One phase of training, which continues from the weights of the previous stage."""

    name: str
    """Short name for logs."""
    steps: int
    """Optimizer steps."""
    lr: float
    """Peak learning rate, reached after warm-up."""
    final_lr: float
    """End of the half cosine: the learning rate of the step after the stage's last one, which is
    the first step of an extension."""
    warmup_steps: int
    """Steps of linear warm-up from zero."""
    task_weights: Mapping[str, float]
    """Probability of each task per step; a task that is not named is never drawn."""
    t2a_best_share: float = 1.0
    """Share of clips that T2A uses, those with the best-scored captions; 1 uses all."""
    caption_role: str = "caption"
    """Role of the texts used as prompts: "caption", or another that the features hold."""
    offscreen_prob: float = 0.0
    """Probability that an off-screen sound is added to a VT2A clip and to its caption."""
    offscreen_snr_db: tuple[float, float] = (-6.0, 9.0)
    """Range of the level of the clip's own sound over the off-screen one."""
    token_drop_sample_prob: float = 0.0
    """Probability of token dropout for a VT2A prompt, before the text encoder."""
    token_drop_prob: float = 0.5
    """Probability of dropping each token of such a prompt."""
    silence_weight: float | None = added(None)
    """Overrides the recipe's in training. With a low weight a model learns first what things
    sound like, but then generates sound too readily: the odds of a sound are off by about the
    weight. The validation loss keeps the recipe's weight, to be comparable over stages."""
    data: tuple[Source, ...] = added(())
    """Stores that the stage draws from, with weights and filters. Default: all features alike."""
    extend_steps: int = 0
    """Steps that may be added at `final_lr`, a tenth of `steps` at a time, until the stage has
    converged (`train.progress`). 0: the verdict is logged, and the next stage starts."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.task_weights) - set(TASKS))
        total = sum(self.task_weights.values())
        low, high = self.offscreen_snr_db
        weight, where = self.silence_weight, f"stage {self.name!r}: "
        _check(not unknown, f"{where}unknown tasks {unknown}; known: {TASKS}")
        _check(
            all(weight >= 0 for weight in self.task_weights.values()),
            f"{where}task_weights must be 0 or more, got {self.task_weights}",
        )
        _check(abs(total - 1) <= 1e-6, f"{where}task_weights must sum to 1, got {total}")
        _check(
            0 < self.lr < math.inf and 0 <= self.final_lr < math.inf,
            f"{where}needs lr > 0 and final_lr >= 0, got {self.lr} and {self.final_lr}",
        )
        _check(
            self.steps >= 1 and self.warmup_steps >= 0 and self.extend_steps >= 0,
            f"{where}needs steps >= 1, warmup_steps >= 0 and extend_steps >= 0, "
            f"got {self.steps}, {self.warmup_steps} and {self.extend_steps}",
        )
        _check(
            weight is None or 0 <= weight < math.inf,
            f"{where}silence_weight must be 0 or more, got {weight}",
        )
        for name in ("offscreen_prob", "token_drop_sample_prob", "token_drop_prob"):
            value = getattr(self, name)
            _check(0 <= value <= 1, f"{where}{name} must lie in [0, 1], got {value}")
        share = self.t2a_best_share
        _check(0 < share <= 1, f"{where}t2a_best_share must lie in (0, 1], got {share}")
        _check(low <= high, f"{where}offscreen_snr_db must rise, got {low}, {high}")

    @property
    def makes_prompts(self) -> bool:
        """Whether prompts are changed in training, which requires the text encoder."""
        return "VT2A" in self.task_weights and bool(
            self.offscreen_prob or self.token_drop_sample_prob
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How the trained model is sampled unless a request says otherwise; part of its card."""

    sampler: SamplerConfig
    """Solver and noise levels; its `bound` is the recipe's `latent_bound`."""
    steps: int
    """Sampling steps."""
    guidance: float
    """Guidance scale."""
    duration_s: float
    """Length of the sound of a prompt alone, at most that of the training clips."""

    def __post_init__(self) -> None:
        _check(
            1 <= self.steps <= 1000 and 0 <= self.guidance <= 100 and self.duration_s > 0,
            "sampling needs steps in 1 to 1000, guidance in 0 to 100 and duration_s > 0, got "
            f"{self.steps}, {self.guidance} and {self.duration_s}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A run: model, stages and hyperparameters."""

    name: str
    """Name of the recipe, and of the trained model."""
    dit: DiTConfig
    """Shape of the transformer."""
    stages: tuple[Stage, ...]
    """Stages in order."""
    batch_seconds: float
    """Seconds of sound per step, over all devices; clips of a batch are equally long."""
    text_tokens: int | None = None
    """Tokens to which every prompt is padded or cut. None: the longest prompt of the batch, for
    models that mask padding."""
    augment: bool = added(True)
    """Random gain and equaliser for every waveform. False: stored latents are used wherever
    nothing is mixed in, and the autoencoder has less to encode."""
    text_noise: float = added(0.0)
    """Embedding noise, in standard deviations of a token state: one vector for the whole prompt
    and one for each token. Without it, few prompt templates and many steps fit the exact states
    of the words, and paraphrases are not understood."""
    text_drop: float = added(0.0)
    """Token dropout after the text encoder: probability of each token; one is always kept."""
    sampling: Sampling | None = added(None)  # noqa: RUF009 - `Sampling` is frozen
    """How the trained model is sampled. None: the solver of the objective's kind and the defaults
    of the bundled model."""
    latent_bound: float = added(0.0)
    """`SamplerConfig.bound` of the trained model: how far from 0 predicted latents may lie."""
    resident: bool = added(False)
    """On-device features: keep all of them in the device's memory and build batches there
    (`data.batches.on_device`), for a GPU that would wait for the host. The random draws differ
    from those of host batches, and between CPU and GPU."""
    speed: float = added(0.0)
    """Speed perturbation of text-to-audio clips: factors up to 1 + `speed`, faster or slower.
    With on-device features only."""
    spike_factor: float = added(0.0)
    """Spike detection: where the mean loss of a few steps exceeds this many times the median of
    those before, the run goes back to its last checkpoint and passes over the batches since. 0: no
    detection."""
    accumulate: int = 1
    """Micro-batches per step; more need less memory."""
    objective: Objective = field(default_factory=Objective)
    """Path and prediction target."""
    channel_weight_exponent: float = 0.0
    """Loss weight of a latent channel: its scale before standardisation to this power, with
    mean 1. 0 weights channels equally."""
    silence_weight: float = 1.0
    """Loss weight of silent frames; loud ones have 1 (`train.step.frame_weights`). Room tone is
    unpredictable, and where it fills most frames its error dominates the loss."""
    null_prob: float = 0.1
    """Guidance dropout: probability of the null branch (paper: joint dropout)."""
    ema_decay: float = 0.999
    """Decay of the EMA weights, which are saved as the model."""
    optimizer: OptimizerKind = "adamw"
    """See `train.optimizer`; why "muon" on two cores: docs/decisions/0031."""
    weight_decay: float = 0.01
    """Weight decay, of matrices only."""
    adam_betas: tuple[float, float] = (0.9, 0.99)
    """Decay rates of AdamW's first and second moments."""
    clip_norm: float = 1.0
    """Gradient norm to which larger gradients are clipped."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Autocast type of the forward pass; weights and optimizer state are float32."""
    compile: bool = False
    """Compile the blocks: faster on a GPU after a minute of compilation; rounds differently."""
    activation_checkpointing: bool = runtime_only(False)
    """Recompute each block's activations in the backward pass instead of storing them."""
    replicas: int = runtime_only(1)
    """Groups of ranks that each hold a copy of the weights, sharded over the group; 1: all ranks
    are one. With as many as machines, weights are gathered inside of each."""
    seed: int = 0
    """Random seed of the run."""
    validate_every: int = runtime_only(200)
    """Steps between validations."""
    sample_every: int = runtime_only(0)
    """Steps between sample sounds with spectrograms in the run's folder; 0 writes none."""

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        sizes = self.dit.conditioner
        masked = isinstance(sizes, ConditionerConfig) and sizes.masked
        _check(bool(names), f"recipe {self.name!r} has no stages")
        _check(
            len(set(names)) == len(names),
            f"recipe {self.name!r}: stages need different names, got {names}",
        )
        _check(self.batch_seconds > 0, f"batch_seconds must be positive, got {self.batch_seconds}")
        _check(
            0 <= self.null_prob < 1 and 0 <= self.ema_decay < 1,
            f"null_prob and ema_decay must lie in [0, 1), got {self.null_prob} and "
            f"{self.ema_decay}",
        )
        _check(
            self.text_noise >= 0 and 0 <= self.text_drop < 1,
            f"need text_noise >= 0 and text_drop in [0, 1), got {self.text_noise} and "
            f"{self.text_drop}",
        )
        _check(
            self.speed == 0 or (self.speed > 0 and self.resident),
            f"speed must be 0 or more and needs resident=true, got speed={self.speed} and "
            f"resident={self.resident}; set speed to 0 before resident to false",
        )
        _check(
            self.spike_factor == 0 or self.spike_factor > 1,
            f"spike_factor must be 0, or more than 1, got {self.spike_factor}",
        )
        _check(
            self.augment or not self.resident,
            "on-device features are encoded in every step, augment=false uses stored latents: "
            "set resident to false (and speed to 0 before it)",
        )
        _check(
            self.accumulate <= 1 or not self.resident,
            "on-device features make whole batches: set accumulate to 1",
        )
        _check(
            min(self.accumulate, self.validate_every, self.replicas) >= 1
            and self.sample_every >= 0,
            "accumulate, validate_every and replicas must be >= 1, sample_every >= 0",
        )
        _check(
            self.text_tokens is not None or masked,
            "a model without masks attends to padding: set text_tokens to the number of tokens "
            "to which every prompt is padded",
        )

    @property
    def num_steps(self) -> int:
        """Number of steps of all stages, without extensions."""
        return sum(stage.steps for stage in self.stages)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that any stage trains, in order."""
        return tuple(t for t in TASKS if any(s.task_weights.get(t) for s in self.stages))
