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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from omni2sound.config import to_json
from omni2sound.data.batches.batch import Batch
from omni2sound.data.batches.hard_samples import PromptEncoder
from omni2sound.data.batches.on_device import DeviceFeatures
from omni2sound.data.store.rows import FeatureStore
from omni2sound.errors import ConfigError
from omni2sound.models.autoencoder import AudioVAE
from omni2sound.models.dit import DiT
from omni2sound.train.batches import StepBatches
from omni2sound.train.interrupt import Interrupt
from omni2sound.train.log import LossBins, Meter, OnLog, RunLog
from omni2sound.train.optimizer import make_optimizer
from omni2sound.train.parallel import World, prepare_model, whole
from omni2sound.train.progress import Progress, learning_rate
from omni2sound.train.recipe import Recipe, Stage
from omni2sound.train.samples import write_samples
from omni2sound.train.state import Saving, TrainState, begin_saving, latest_state, load_state
from omni2sound.train.step import optimizer_step
from omni2sound.train.validation import ema_weights, validation_loss

_log = logging.getLogger(__name__)

INTERRUPTED = "interrupted"
MAX_SPIKES = 5
"""Times that a run goes back; more are no accident."""
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
        keep_every: Checkpoints of multiples of this many steps are made, and kept.
        allow: Keys of `state.ALLOWED`: differences that a resumed run may have.
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
    keep_every: int | None = None
    allow: tuple[str, ...] = ()
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
        changes: Differences that were allowed when the run was resumed.
        spikes: Steps at which the run went back.
    """

    steps: int
    finished: bool
    reason: str
    stage_converged: dict[str, bool]
    skipped: int
    parent_sha256: str | None
    changes: tuple[str, ...] = ()
    spikes: tuple[int, ...] = ()

    @classmethod
    def of(cls, progress: Progress, reason: str) -> TrainResult:
        """Make the result of a run that is where `progress` says."""
        return cls(
            steps=progress.step,
            finished=progress.step >= progress.num_steps,
            reason=reason,
            stage_converged=dict(progress.converged),
            skipped=progress.skipped,
            parent_sha256=progress.parent_sha256,
            changes=tuple(progress.changes),
            spikes=tuple(progress.spikes),
        )


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
    on_log: OnLog | None = None,
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
        on_log: Called on the first rank with (step, numbers) of each line of the log.

    Returns:
        The EMA weights on the CPU, and how the run ended.

    Raises:
        ConfigError: If the folder holds a run and `resume` is off, or holds another run; if
            features, encoders or the number of ranks do not fit a stage.
    """
    world, device = world or World(), torch.device(options.device)
    _check_ranks(recipe, world)
    batches = StepBatches(recipe, store, validation, prompts, world, pin=device.type == "cuda")
    if world.is_first:
        options.out.mkdir(parents=True, exist_ok=True)
    world.wait()
    state = _initial_state(model, recipe, world, device)
    identity = _identity(recipe, store, validation, prompts, vae_sha256, device)
    bins = LossBins()
    progress = _resume(recipe, options, state, identity, bins, world, parent_sha256)
    batches.on_device = _on_device(store, recipe, device)
    run = _Run(
        batches=batches,
        validation_on_device=_on_device(validation, recipe, device),
        recipe=recipe,
        options=options,
        world=world,
        device=device,
        state=state,
        identity=identity,
        progress=progress,
        bins=bins,
        store=store,
        validation=validation,
        vae=vae,
        log=RunLog(options.out, first_step=progress.step, world=world, on_log=on_log),
        meter=Meter(recipe, device, world),
    )
    try:
        reason = run.until_done(on_step)
    finally:
        run.log.close()
    weights = {k: whole(v).detach().cpu() for k, v in state.ema.items()}
    return weights, TrainResult.of(run.progress, reason)  # another progress after a step back


def _check_ranks(recipe: Recipe, world: World) -> None:
    if recipe.resident and world.size > 1:
        given = f"this run has {world.size} ranks"
        raise ConfigError(f"features are resident on one device, {given}; set resident=false")
    if world.size % recipe.replicas:
        given = f"replicas={recipe.replicas} must divide the number of ranks, {world.size}"
        raise ConfigError(f"{given}; each of them is sharded over as many ranks")


def _initial_state(model: DiT, recipe: Recipe, world: World, device: torch.device) -> TrainState:
    prepare_model(
        model.train(),
        world,
        device,
        activation_checkpointing=recipe.activation_checkpointing,
        compiled=recipe.compile,
        replicas=recipe.replicas,
        half=recipe.precision == "bfloat16",
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
    parent_sha256: str | None,
) -> Progress:
    """Restore the newest checkpoint of the run's folder, or begin.

    Raises:
        ConfigError: If there is one and `resume` is off, or it is of another run.
    """
    newest = latest_state(options.out)
    if newest is None:
        return Progress(recipe=recipe, parent_sha256=parent_sha256)
    if not options.resume:
        raise ConfigError(
            f"{options.out} holds a run ({newest.name}); set `resume`, or give another `out`"
        )
    saved = load_state(newest, state, identity=identity, world=world, allow=options.allow)
    bins.restore(saved.pop("bins"), world)
    progress = Progress.from_json(recipe, saved)
    if parent_sha256 not in (None, progress.parent_sha256):
        raise ConfigError(
            f"{options.out} holds a run from other weights than `init_from`; give the model "
            "that it began with, or another `out`"
        )
    _log.info("resumed %s at step %d", options.out, progress.step)
    return progress


@dataclass(kw_only=True, slots=True, eq=False)
class _Run:
    """State of a running loop."""

    batches: StepBatches
    validation_on_device: DeviceFeatures | None
    recipe: Recipe
    options: TrainOptions
    world: World
    device: torch.device
    state: TrainState
    identity: dict[str, Any]
    progress: Progress
    bins: LossBins
    store: FeatureStore
    validation: FeatureStore | None
    vae: AudioVAE
    log: RunLog
    meter: Meter
    saving: Saving | None = None
    """The checkpoint that is being written while the run goes on."""

    def until_done(self, on_step: Callable[[int, int], None] | None) -> str:
        """Train until there is a reason to stop, and save."""
        try:
            reason = self._steps(on_step)
        finally:
            if self.world.size == 1:  # others may not come to wait for each other after an error
                self._settle()
        self._save()
        self._settle()
        return reason

    def _steps(self, on_step: Callable[[int, int], None] | None) -> str:
        options, progress = self.options, self.progress
        started = saved = time.monotonic()
        reason = "recipe finished"
        with Interrupt() as interrupt, self.batches.ahead(options.num_readers) as next_batches:
            while progress.step < progress.num_steps:
                if options.max_steps is not None and progress.step >= options.max_steps:
                    reason = f"{options.max_steps} steps were asked for"
                    break
                self._step(next_batches(progress))
                progress = self.progress  # another one after a step back
                if on_step is not None:
                    on_step(progress.step, progress.num_steps)
                now = time.monotonic()
                counts = [n for n in (options.save_steps, options.keep_every) if n is not None]
                # Ranks decide together: otherwise some would wait for the others for ever.
                asked, over, save, unwritten = self.world.flags(
                    interrupt.asked,
                    options.max_minutes is not None and now - started > options.max_minutes * 60,
                    now - saved > options.save_minutes * 60
                    or any(progress.step % every == 0 for every in counts),
                    self.saving is not None and not self.saving.written,
                )
                if not unwritten:
                    self._settle()
                if asked or over:
                    reason = INTERRUPTED if asked else f"{options.max_minutes:g} minutes are over"
                    break
                if save:
                    self._save()
                    saved = time.monotonic()
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
            world=self.world,
        )
        progress.count(finite=outcome.finite)
        self.meter.count(micro_batches)
        if outcome.finite:
            self.bins.add(micro_batches[0].task, outcome.times, outcome.losses)
            if recipe.spike_factor and progress.is_spike(self._mean(outcome.losses)):
                self._step_back()
                return
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

    def _mean(self, losses: Sequence[float]) -> float:
        """Mean of a step's losses over all ranks."""
        total = self.world.sum(torch.tensor([sum(losses), len(losses)], dtype=torch.float64))
        return float(total[0] / total[1])

    def _step_back(self) -> None:
        """Go back to the newest checkpoint, and pass over the batches since.

        Raises:
            ConfigError: If there is none, or the run has gone back too often.
        """
        progress, at = self.progress, self.progress.step
        self._settle()
        newest = latest_state(self.options.out)
        if newest is None or len(progress.spikes) >= MAX_SPIKES:
            raise ConfigError(
                f"the loss rose suddenly at step {at}, "
                + ("before the first checkpoint" if newest is None else "once too often")
                + "; lower the learning rate, or look for damaged features"
            )
        draws, spikes = progress.draws, [*progress.spikes, at]
        saved = load_state(newest, self.state, identity=self.identity, world=self.world)
        self.bins.restore(saved.pop("bins"), self.world)
        restored = Progress.from_json(self.recipe, saved)
        restored.draws, restored.spikes = draws + at - restored.step, spikes
        self.progress = restored
        self.log.rewind(restored.step)
        self.log.write(restored.step, spike_at=at, draws=restored.draws)
        # The steps since are done anew, so a kill must not find the run as it was.
        self._save(again=True)
        self._settle()
        _log.warning("the loss rose at step %d; back to step %d", at, restored.step)

    def _save(self, *, again: bool = False) -> None:
        self._settle()
        self.saving = begin_saving(
            self.options.out,
            self.state,
            step=self.progress.step,
            identity=self.identity,
            progress={**self.progress.to_json(), "bins": self.bins.to_json(self.world)},
            world=self.world,
            keep_every=self.options.keep_every,
            again=again,
        )

    def _settle(self) -> None:
        """Wait for the checkpoint that is being written, if any, and put it in place."""
        saving, self.saving = self.saving, None
        if saving is not None:
            saving.finish()
