"""Training loop of the transformer: one task per step, stages, exact resume.

In:   a `Recipe`, a `FeatureStore`, a frozen autoencoder; any number of ranks.
Out:  checkpoints, a log, samples, and the EMA weights.

All randomness of step k derives from (seed, k), so a resumed run equals an uninterrupted one.
The loop stops at the recipe's end, at `max_steps`, after `max_minutes`, or on a signal
(Ctrl-C, SIGTERM), and always saves. A step with a non-finite gradient is skipped and counted.
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
from omni2sound.data.batches.on_device import DeviceFeatures
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
from omni2sound.train.validation import ema_weights, validation_loss

_log = logging.getLogger(__name__)

INTERRUPTED = "interrupted"
MAX_NON_FINITE = 20
"""Consecutive skipped steps after which a run stops: that many are no accident."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions:
    """Execution settings of a run; none of them changes what a step learns.

    Attributes:
        out: Folder of the run.
        max_steps: Stop once this many steps are done in all.
        max_minutes: Stop after this long.
        save_minutes: Time between checkpoints.
        save_steps: Steps between checkpoints, if that is sooner.
        resume: Continue the run in `out`.
        device: Device of this rank.
        log_every: Steps between lines of the log.
        num_readers: Threads that build batches ahead; 0 builds each between two steps.
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
    """The end of a run.

    Attributes:
        steps: Optimizer steps done in all.
        finished: Whether the recipe's last step was done.
        reason: Why the run stopped.
        stage_converged: Whether the validation loss of each finished stage had converged; empty
            without validation features.
        skipped: Number of steps skipped because a gradient was not finite.
        parent_sha256: Digest of the model that the run started from, if any.
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
        model: Transformer with its initial weights, equal on every rank; changed in place.
        recipe: Stages and hyperparameters.
        store: Training features.
        validation: Validation features. None: convergence is not measured, no stage extended.
        vae: Frozen autoencoder, on the rank's device.
        options: Execution settings.
        prompts: Text encoder for stages that change prompts.
        world: Ranks of this run; None is a single one.
        parent_sha256: Digest of the model that the initial weights come from, if any.
        vae_sha256: Digest of the autoencoder.
        on_step: Called with (steps done, steps in all).

    Returns:
        The EMA weights on the CPU, and how the run ended.

    Raises:
        ConfigError: If the folder holds a run and `resume` is off, or holds another run; if
            features, encoders or the number of ranks do not fit a stage.
    """
    world, device = world or World(), torch.device(options.device)
    _check_ranks(recipe, world)
    samplers = _samplers(recipe, store, validation, prompts, world)
    if world.is_first:
        options.out.mkdir(parents=True, exist_ok=True)
    world.wait()
    state = _initial_state(model, recipe, world, device)
    identity = _identity(recipe, store, validation, prompts, vae_sha256, device)
    bins = LossBins()
    progress = _resume(recipe, options, state, identity, bins, world)
    progress = progress or Progress(recipe=recipe, parent_sha256=parent_sha256)
    run = _Run(
        on_device=_on_device(store, recipe, device),
        validation_on_device=_on_device(validation, recipe, device),
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
    weights = {k: whole(v).detach().cpu() for k, v in state.ema.items()}
    return weights, TrainResult(
        steps=progress.step,
        finished=progress.step >= progress.num_steps,
        reason=reason,
        stage_converged=dict(progress.converged),
        skipped=progress.skipped,
        parent_sha256=progress.parent_sha256,
    )


def _check_ranks(recipe: Recipe, world: World) -> None:
    if recipe.resident and world.size > 1:
        given = f"this run has {world.size} ranks"
        raise ConfigError(f"features are resident on one device, {given}; set resident=false")


def _initial_state(model: DiT, recipe: Recipe, world: World, device: torch.device) -> TrainState:
    prepare_model(
        model.train(),
        world,
        device,
        activation_checkpointing=recipe.activation_checkpointing,
        compiled=recipe.compile,
    )
    optimizer = make_optimizer(
        model, kind=recipe.optimizer, weight_decay=recipe.weight_decay, betas=recipe.adam_betas
    )
    ema = {k: v.detach().clone() for k, v in model.state_dict().items()}
    return TrainState(model=model, ema=ema, optimizer=optimizer)


def _on_device(
    store: FeatureStore | None, recipe: Recipe, device: torch.device
) -> DeviceFeatures | None:
    return DeviceFeatures(store, device) if store is not None and recipe.resident else None


def _identity(
    recipe: Recipe,
    store: FeatureStore,
    validation: FeatureStore | None,
    prompts: PromptEncoder | None,
    vae_sha256: str | None,
    device: torch.device,
) -> dict[str, Any]:
    """JSON data that a resumed run must share with the run that it continues."""
    changes_prompts = any(stage.makes_prompts for stage in recipe.stages)
    return {
        "recipe": to_json(recipe, with_runtime=False),
        "data": store.description,
        "data_sha256": store.sha256,
        # It decides how long stages are.
        "validation_sha256": None if validation is None else validation.sha256,
        "vae_sha256": vae_sha256,
        # Noise is drawn on the device there, and each kind of device has its own generator.
        **({"device": device.type} if recipe.resident else {}),
        "prompts_sha256": (prompts.sha256 if prompts is not None and changes_prompts else None),
    }


def _resume(
    recipe: Recipe,
    options: TrainOptions,
    state: TrainState,
    identity: dict[str, Any],
    bins: LossBins,
    world: World,
) -> Progress | None:
    """Restore the newest checkpoint of the run's folder; None if there is none.

    Raises:
        ConfigError: If there is one and `resume` is off, or it is of another run.
    """
    newest = latest_state(options.out)
    if newest is None:
        return None
    if not options.resume:
        raise ConfigError(
            f"{options.out} holds a run ({newest.name}); set `resume`, or give another `out`"
        )
    saved = load_state(newest, state, identity=identity, world=world)
    bins.restore(saved.pop("bins"), world)
    progress = Progress.from_json(recipe, saved)
    _log.info("resumed %s at step %d", options.out, progress.step)
    return progress


def _samplers(
    recipe: Recipe,
    store: FeatureStore,
    validation: FeatureStore | None,
    prompts: PromptEncoder | None,
    world: World,
) -> dict[str, TaskSampler]:
    """Build the sampler of each stage, and check before the first step what each will need.

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
    """State of a running loop."""

    on_device: DeviceFeatures | None
    validation_on_device: DeviceFeatures | None
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
        with Interrupt() as interrupt, self._batches() as batches_at:
            while progress.step < progress.num_steps:
                if options.max_steps is not None and progress.step >= options.max_steps:
                    reason = f"{options.max_steps} steps were asked for"
                    break
                self._step(batches_at(progress.step))
                if on_step is not None:
                    on_step(progress.step, progress.num_steps)
                now, every = time.monotonic(), options.save_steps
                # Ranks decide together: otherwise some would wait for the others for ever.
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

    def _step(self, micro_batches: list[Batch]) -> None:
        recipe, progress = self.recipe, self.progress
        stage, inside = progress.stage_at(progress.step)
        if stage.silence_weight is not None:
            recipe = replace(recipe, silence_weight=stage.silence_weight)
        rate = learning_rate(stage, inside)
        outcome = optimizer_step(
            self.state,
            micro_batches,
            self.vae,
            recipe,
            rate=rate,
            step=progress.step,
            device=self.device,
        )
        progress.count(finite=outcome.finite)
        self.meter.count(micro_batches)
        if outcome.finite:
            self.bins.add(micro_batches[0].task, outcome.times, outcome.losses)
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
            with ema_weights(self.state):
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
        with ema_weights(self.state):
            means = validation_loss(
                self.state.model,
                held_out,
                self.vae,
                self.recipe,
                device=self.device,
                world=self.world,
                on_device=self.validation_on_device,
            )
        step = self.progress.step
        verdict = self.progress.record_loss(sum(means.values()) / len(means))
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

    def _micro_batches(self, step: int) -> list[Batch]:
        """Build this rank's micro-batches of a step."""
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
        if self.on_device is not None:
            build: Callable[..., Batch] = self.on_device.batch
            places: list[dict[str, int]] = [{}]
        else:
            build = partial(build_batch, self.store)
            accumulate, num_parts = self.recipe.accumulate, self.world.size * self.recipe.accumulate
            first = self.world.rank * accumulate
            places = [{"part": first + i, "num_parts": num_parts} for i in range(accumulate)]
        return [
            build(
                draw,
                seed=self.recipe.seed,
                step=step,
                difficulty=difficulty,
                prompts=self.prompts,
                caption_role=stage.caption_role,
                text_tokens=self.recipe.text_tokens,
                **place,
            )
            for place in places
        ]

    @contextmanager
    def _batches(self) -> Iterator[Callable[[int], list[Batch]]]:
        """Yield a function from step to micro-batches; threads may build those of later steps."""
        if self.options.num_readers == 0 or self.on_device is not None:
            yield self._micro_batches
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
                        ahead[later] = pool.submit(self._micro_batches, later)
                micro_batches: list[Batch] = ahead.pop(step).result()
                return micro_batches

            yield get
