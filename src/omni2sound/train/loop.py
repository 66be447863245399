"""The training loop of the transformer: one task per step, three stages, exact resume.

In:   a `Recipe`, a `FeatureStore`, a frozen autoencoder; any number of ranks.
Out:  checkpoints, a log, samples, and the averaged weights.

Everything random at step k follows from (seed, k), so a resumed run is the same run. The
loop stops at the recipe's end, at `max_steps`, when `max_minutes` are over, or when it is
asked to (Ctrl-C, SIGTERM), and saves in every case; a step whose gradient is not finite
changes nothing and is counted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from omni2sound.config import to_json
from omni2sound.data.batches.batch import Batch, build_batch, sampler_for
from omni2sound.data.batches.hard_samples import Difficulty, PromptEncoder
from omni2sound.data.batches.on_device import ResidentFeatures
from omni2sound.data.batches.sampler import TaskSampler
from omni2sound.data.store.rows import FeatureStore
from omni2sound.errors import ConfigError
from omni2sound.models.autoencoder import AudioVAE
from omni2sound.models.dit import DiT
from omni2sound.train.interrupt import Interrupt
from omni2sound.train.log import LossBins, RunLog
from omni2sound.train.meter import Meter
from omni2sound.train.optimizer import make_optimizer
from omni2sound.train.parallel import World, prepare_model, whole
from omni2sound.train.progress import Progress, learning_rate
from omni2sound.train.recipe import Recipe, Stage
from omni2sound.train.samples import write_samples
from omni2sound.train.state import TrainState, latest_state, load_state, save_state
from omni2sound.train.step import optimizer_step
from omni2sound.train.validation import averaged, validation_loss

__all__ = ["INTERRUPTED", "TrainOptions", "TrainResult", "train"]

_log = logging.getLogger(__name__)

INTERRUPTED = "interrupted"
MAX_NON_FINITE = 20
"""Non-finite steps in a row after which a run stops: something is wrong, not unlucky."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions:
    """How a run is run; none of it changes what is learned per step.

    Attributes:
        out: The run's folder.
        max_steps: Stop once this many steps are done in all.
        max_minutes: Stop after this long.
        save_minutes: Time between checkpoints.
        save_steps: Steps between checkpoints, if that is sooner.
        resume: Go on with the run in `out`.
        device: Of this rank.
        log_every: Steps between lines of the log.
        num_readers: Threads that build the next batches; 0 builds them in between.
    """

    out: Path
    max_steps: int | None = None
    max_minutes: float | None = None
    save_minutes: float = 4.0
    save_steps: int | None = None
    resume: bool = False
    device: str = "cpu"
    log_every: int = 20
    num_readers: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """How a run ended.

    Attributes:
        steps: Optimizer steps done in all.
        finished: Whether the recipe's last step was done.
        reason: Why it stopped.
        stage_converged: For each finished stage, whether its validation loss had converged;
            empty without validation features.
        skipped: Steps left out because a gradient was not finite.
        parent_sha256: Digest of the model that the run's first weights were of, if any.
    """

    steps: int
    finished: bool
    reason: str
    stage_converged: dict[str, bool]
    skipped: int
    parent_sha256: str | None


def train(
    model: DiT,
    recipe: Recipe,
    store: FeatureStore,
    validation: FeatureStore | None,
    vae: AudioVAE,
    options: TrainOptions,
    *,
    prompts: PromptEncoder | None = None,
    world: World | None = None,
    parent_sha256: str | None = None,
    vae_sha256: str | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Tensor], TrainResult]:
    """Run or resume a recipe.

    Args:
        model: With its first weights; the same on every rank. Changed in place.
        recipe: What to do.
        store: What to learn from.
        validation: What to measure on. None: no stage is judged, and none is extended.
        vae: Frozen; on the rank's device.
        options: How to run it.
        prompts: Encoder for stages that change prompts.
        world: The ranks of this run; None is one.
        parent_sha256: Digest of the model that the first weights are of, if any.
        vae_sha256: Digest of the autoencoder.
        on_step: Called with (steps done, steps in all).

    Returns:
        The averaged weights on the CPU, and how the run ended.

    Raises:
        ConfigError: If the folder holds a run and `resume` is off, or a run that differs; if
            data, encoders or ranks don't suffice for what a stage needs.
    """
    world, device = world or World(), torch.device(options.device)
    if recipe.resident and world.size > 1:
        raise ConfigError(
            f"resident features are for one device, and this run has {world.size} ranks; "
            "set resident=false"
        )
    samplers = _samplers(recipe, store, validation, prompts, world)
    if world.is_first:
        options.out.mkdir(parents=True, exist_ok=True)
    world.wait()
    prepare_model(
        model.train(),
        world,
        device,
        activation_checkpointing=recipe.activation_checkpointing,
        compiled=recipe.compile,
    )
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    optimizer = make_optimizer(
        model, kind=recipe.optimizer, weight_decay=recipe.weight_decay, betas=recipe.adam_betas
    )
    state = TrainState(model=model, average=average, optimizer=optimizer)
    identity = {
        "recipe": to_json(recipe, with_runtime=False),
        "data": store.description,
        "data_sha256": store.sha256,
        # It decides how long stages are.
        "validation_sha256": None if validation is None else validation.sha256,
        "vae_sha256": vae_sha256,
        # There batches draw noise on the device, and each kind has a generator of its own.
        **({"device": device.type} if recipe.resident else {}),
        "prompts_sha256": (
            prompts.sha256
            if prompts is not None and any(stage.makes_prompts for stage in recipe.stages)
            else None
        ),
    }
    progress, bins = Progress(recipe=recipe, parent_sha256=parent_sha256), LossBins()
    newest = latest_state(options.out)
    if newest is not None:
        if not options.resume:
            raise ConfigError(
                f"{options.out} holds a run ({newest.name}); add --resume or use another --out"
            )
        saved = load_state(newest, state, identity=identity, world=world)
        bins.restore(saved.pop("bins"), world)
        progress = Progress.from_json(recipe, saved)
        _log.info("resumed %s at step %d", options.out, progress.step)
    run = _Run(
        resident=ResidentFeatures(store, device) if recipe.resident else None,
        held_out=(
            ResidentFeatures(validation, device)
            if recipe.resident and validation is not None
            else None
        ),
        recipe=recipe,
        options=options,
        world=world,
        device=device,
        state=state,
        identity=identity,
        progress=progress,
        bins=bins,
        samplers=samplers,
        store=store,
        validation=validation,
        vae=vae,
        prompts=prompts,
        log=RunLog(options.out, first_step=progress.step, world=world),
        meter=Meter(recipe, device, world),
    )
    try:
        reason = run.until_done(on_step)
    finally:
        run.log.close()
    weights = {k: whole(v).detach().cpu() for k, v in state.average.items()}
    return weights, TrainResult(
        steps=progress.step,
        finished=progress.step >= progress.num_steps,
        reason=reason,
        stage_converged=dict(progress.converged),
        skipped=progress.skipped,
        parent_sha256=progress.parent_sha256,
    )


def _samplers(
    recipe: Recipe,
    store: FeatureStore,
    validation: FeatureStore | None,
    prompts: PromptEncoder | None,
    world: World,
) -> dict[str, TaskSampler]:
    """What each stage draws from. Fails now, not when a later stage finds something missing.

    Raises:
        ConfigError: If clips, scores, texts or an encoder are missing, or a batch can't be
            shared by the ranks.
    """
    samplers = {}
    for stage in recipe.stages:
        sampler = samplers[stage.name] = sampler_for(
            store,
            seed=recipe.seed,
            batch_seconds=recipe.batch_seconds,
            t2a_best_share=stage.t2a_best_share,
        )
        sampler.check_parts(world.size * recipe.accumulate)
        clip = store[sampler.draw(0, stage.task_weights).clips[0]]
        roles = sorted({text.role for text in clip.texts})
        if stage.caption_role not in roles:
            raise ConfigError(
                f"stage {stage.name} takes texts of role {stage.caption_role!r}, and the features "
                f"have {roles}; make features with such texts, or set caption_role"
            )
        if stage.makes_prompts and prompts is None:
            raise ConfigError(
                f"stage {stage.name} changes prompts, which needs the text encoder that the "
                "features were made with; or set offscreen_prob and token_drop_sample_prob to 0"
            )
    if validation is not None:
        held_out = sampler_for(validation, seed=0, batch_seconds=recipe.batch_seconds)
        held_out.check_parts(world.size)
        held_out.draw(0, dict.fromkeys(recipe.tasks, 1.0))
    return samplers


@dataclass(kw_only=True, slots=True, eq=False)
class _Run:
    """Everything that a run holds while it runs."""

    resident: ResidentFeatures | None
    held_out: ResidentFeatures | None
    recipe: Recipe
    options: TrainOptions
    world: World
    device: torch.device
    state: TrainState
    identity: dict[str, Any]
    progress: Progress
    bins: LossBins
    samplers: dict[str, TaskSampler]
    store: FeatureStore
    validation: FeatureStore | None
    vae: AudioVAE
    prompts: PromptEncoder | None
    log: RunLog
    meter: Meter

    def until_done(self, on_step: Callable[[int, int], None] | None) -> str:
        """Train until there is a reason to stop, and save."""
        options, progress = self.options, self.progress
        started = saved = time.monotonic()
        reason = "recipe finished"
        with Interrupt() as interrupt, self._batches() as parts_of:
            while progress.step < progress.num_steps:
                if options.max_steps is not None and progress.step >= options.max_steps:
                    reason = f"{options.max_steps} steps were asked for"
                    break
                self._step(parts_of(progress.step))
                if on_step is not None:
                    on_step(progress.step, progress.num_steps)
                now, every = time.monotonic(), options.save_steps
                # Ranks decide together, or some of them would wait for the others for ever.
                asked, over, save = self.world.flags(
                    interrupt.asked,
                    options.max_minutes is not None and now - started > options.max_minutes * 60,
                    now - saved > options.save_minutes * 60
                    or (every is not None and progress.step % every == 0),
                )
                if asked or over:
                    reason = INTERRUPTED if asked else f"{options.max_minutes:g} minutes are over"
                    break
                if save:
                    self._save()
                    saved = time.monotonic()
        self._save()
        return reason

    def _step(self, parts: list[Batch]) -> None:
        recipe, progress = self.recipe, self.progress
        stage, inside = progress.stage_at(progress.step)
        if stage.silence_weight is not None:
            recipe = replace(recipe, silence_weight=stage.silence_weight)
        rate = learning_rate(stage, inside)
        outcome = optimizer_step(
            self.state,
            parts,
            self.vae,
            recipe,
            rate=rate,
            step=progress.step,
            device=self.device,
        )
        progress.count(finite=outcome.finite)
        self.meter.count(parts)
        if outcome.finite:
            self.bins.add(parts[0].task, outcome.times, outcome.losses)
        elif progress.skipped_in_a_row >= MAX_NON_FINITE:
            raise ConfigError(
                f"{progress.skipped_in_a_row} steps in a row had a gradient that is not finite; "
                "lower the learning rate, or look for damaged features. The last checkpoint is "
                f"in {self.options.out}"
            )
        if progress.step % self.options.log_every == 0:
            self.log.write(
                progress.step,
                stage=stage.name,
                lr=rate,
                grad_norm=outcome.grad_norm,
                skipped=progress.skipped,
                **self.meter.take(),
                **self.bins.take(self.world),
            )
        if self.validation is not None and progress.validation_is_due():
            self._validate(stage, self.validation)
        if recipe.sample_every and progress.step % recipe.sample_every == 0:
            with averaged(self.state):
                write_samples(
                    self.options.out / "samples" / f"step-{progress.step:08d}",
                    self.state.model,
                    self.store if self.validation is None else self.validation,
                    self.vae,
                    recipe,
                    device=self.device,
                    world=self.world,
                )

    def _validate(self, stage: Stage, held_out: FeatureStore) -> None:
        with averaged(self.state):
            means = validation_loss(
                self.state.model,
                held_out,
                self.vae,
                self.recipe,
                device=self.device,
                world=self.world,
                resident=self.held_out,
            )
        step = self.progress.step
        verdict = self.progress.judge(sum(means.values()) / len(means))
        self.log.write(
            step, stage=stage.name, **{f"val/{k}": round(v, 5) for k, v in means.items()}
        )
        if verdict is not None:
            more = self.progress.added_steps.get(stage.name, 0)
            self.log.write(step, stage=stage.name, converged=float(verdict), added_steps=more)
            if not verdict:
                _log.warning(
                    "stage %s has not converged at step %d; %d steps were added to it",
                    stage.name,
                    step,
                    more,
                )

    def _save(self) -> None:
        save_state(
            self.options.out,
            self.state,
            step=self.progress.step,
            identity=self.identity,
            progress={**self.progress.to_json(), "bins": self.bins.to_json(self.world)},
            world=self.world,
        )

    def _parts(self, step: int) -> list[Batch]:
        """This rank's share of a step's batch, in the parts that it is computed in."""
        stage, _ = self.progress.stage_at(step)
        draw = self.samplers[stage.name].draw(step, stage.task_weights)
        difficulty = Difficulty(
            offscreen_prob=stage.offscreen_prob,
            offscreen_snr_db=stage.offscreen_snr_db,
            token_drop_sample_prob=stage.token_drop_sample_prob,
            token_drop_prob=stage.token_drop_prob,
            null_prob=self.recipe.null_prob,
            augment=self.recipe.augment,
            text_noise=self.recipe.text_noise,
            text_drop=self.recipe.text_drop,
            speed=self.recipe.speed,
        )
        if self.resident is not None:
            made = self.resident.batch(
                draw,
                seed=self.recipe.seed,
                step=step,
                difficulty=difficulty,
                prompts=self.prompts,
                caption_role=stage.caption_role,
                text_tokens=self.recipe.text_tokens,
            )
            return [made]
        build = partial(
            build_batch,
            self.store,
            draw,
            seed=self.recipe.seed,
            step=step,
            difficulty=difficulty,
            prompts=self.prompts,
            caption_role=stage.caption_role,
            text_tokens=self.recipe.text_tokens,
            num_parts=self.world.size * self.recipe.accumulate,
        )
        first = self.world.rank * self.recipe.accumulate
        return [build(part=first + i) for i in range(self.recipe.accumulate)]

    @contextmanager
    def _batches(self) -> Iterator[Callable[[int], list[Batch]]]:
        """A batch is a function of its step, so threads may build those of the next steps."""
        if self.options.num_readers == 0 or self.resident is not None:
            yield self._parts
            return
        ahead: dict[int, Any] = {}
        with ThreadPoolExecutor(self.options.num_readers) as pool:

            def get(step: int) -> list[Batch]:
                # A stage that is extended moves the steps after it: nothing is read across its end.
                stage, _ = self.progress.stage_at(step)
                for later in range(step, step + self.options.num_readers + 1):
                    same = (
                        later < self.progress.num_steps
                        and self.progress.stage_at(later)[0] is stage
                    )
                    if same and later not in ahead:
                        ahead[later] = pool.submit(self._parts, later)
                parts: list[Batch] = ahead.pop(step).result()
                return parts

            yield get
