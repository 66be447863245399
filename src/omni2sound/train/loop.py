"""The training loop of the transformer: one task per step, three stages, exact resume.

In:   a `Recipe`, a `FeatureStore`, a frozen autoencoder.
Out:  checkpoints, a log, and the averaged weights.

Everything random at step k follows from (seed, k), so a resumed run is the same run. The
loop stops at the recipe's end, at `max_steps`, when `max_minutes` are over, or on Ctrl-C,
and saves in every case; a step whose loss is not finite changes nothing and is counted.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from omni2sound.config import digest
from omni2sound.data.batch import Batch, Difficulty, build_batch, sampler_for
from omni2sound.data.features import FeatureStore
from omni2sound.data.sampler import StepDraw
from omni2sound.diffusion.objective import weighted_mse
from omni2sound.errors import ConfigError
from omni2sound.models.autoencoder import AudioVAE
from omni2sound.models.conditioning import Conditions
from omni2sound.models.dit import DiT
from omni2sound.train.log import LossBins, RunLog
from omni2sound.train.optimizer import make_optimizer
from omni2sound.train.recipe import Recipe, Stage
from omni2sound.train.state import TrainState, latest_state, load_state, save_state

__all__ = [
    "INTERRUPTED",
    "TrainOptions",
    "TrainResult",
    "frame_weights",
    "learning_rate",
    "train",
    "validation_loss",
]

_log = logging.getLogger(__name__)

LOG_EVERY = 20
"""Steps between log lines."""
INTERRUPTED = "interrupted"
MAX_NON_FINITE = 20
"""Non-finite steps after which a run stops: something is wrong, not unlucky."""
VALIDATION_BATCHES = 4
"""Batches of each task in one validation."""
CONVERGED_TAIL = 0.1
"""Share of a stage's steps at its end over which convergence is judged."""
CONVERGED_GAIN = 0.01
"""A stage has converged if the validation loss improved by less than this over its tail."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions:
    """How a run is run; none of it changes what is learned per step."""

    out: Path
    max_steps: int | None = None
    max_minutes: float | None = None
    save_minutes: float = 4.0
    resume: bool = False
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """How a run ended.

    Attributes:
        steps: Optimizer steps done in all.
        finished: Whether the recipe's last step was done.
        reason: Why it stopped.
        stage_converged: For each finished stage, whether its validation loss had converged.
        skipped: Steps left out for a non-finite loss.
    """

    steps: int
    finished: bool
    reason: str
    stage_converged: dict[str, bool]
    skipped: int


def learning_rate(stage: Stage, step_in_stage: int) -> float:
    """Linear warm-up, then half a cosine from `lr` to `final_lr`."""
    if step_in_stage < stage.warmup_steps:
        return stage.lr * (step_in_stage + 1) / stage.warmup_steps
    rest = max(1, stage.steps - stage.warmup_steps)
    progress = (step_in_stage - stage.warmup_steps) / rest
    return stage.final_lr + (stage.lr - stage.final_lr) * 0.5 * (1 + math.cos(math.pi * progress))


def batch_loss(model: DiT, batch: Batch, vae: AudioVAE, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Loss and noise time of each sample (B,)."""
    objective, precision = recipe.objective, recipe.precision
    device = next(model.parameters()).device
    with torch.no_grad():
        x0_BLC = vae.encode(batch.waveform_BN.to(device))
    noises, times = [], []
    for seed in batch.noise_seeds_B:
        generator = torch.Generator().manual_seed(seed)
        noises.append(torch.randn(x0_BLC.shape[1:], generator=generator))
        times.append(objective.draw_times(1, generator=generator))
    noise_BLC, t_B = torch.stack(noises).to(device), torch.cat(times).to(device)
    x_BLC = objective.noised(x0_BLC, noise_BLC, t_B)
    conditions = _to_device(batch.conditions, device)
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        prediction_BLC = model(x_BLC, t_B, conditions, drop_B=batch.drop_B.to(device))
    target_BLC = objective.target(x0_BLC, noise_BLC, t_B)
    weight_C = vae.channel_scale_C**recipe.channel_weight_exponent
    weight_BL = None
    if recipe.silence_weight != 1:
        waveform_BN = batch.waveform_BN.to(device)
        weight_BL = frame_weights(waveform_BN, x0_BLC.shape[1], silence=recipe.silence_weight)
    loss_B = weighted_mse(
        prediction_BLC, target_BLC, weight_BL, weight_C=weight_C / weight_C.mean()
    )
    return loss_B, t_B


def frame_weights(waveform_BN: Tensor, num_frames: int, *, silence: float) -> Tensor:
    """Weight of each latent frame (B, L): `silence` up to -60 dBFS, 1 from -30 dBFS.

    A frame takes the loudest of itself and its neighbours, so that an onset's first frame and
    the frame before it count as much as the sound.
    """
    missing = -waveform_BN.shape[1] % num_frames
    padded_BN = torch.nn.functional.pad(waveform_BN, (0, missing))
    frames_BLH = padded_BN.reshape(len(padded_BN), num_frames, -1)
    level_db = 10 * torch.log10(frames_BLH.square().mean(dim=-1) + 1e-12)
    level_db = torch.nn.functional.max_pool1d(level_db[:, None], 3, stride=1, padding=1)[:, 0]
    return silence + (1 - silence) * ((level_db + 60) / 30).clamp(0, 1)


def _to_device(c: Conditions, device: torch.device) -> Conditions:
    def move(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.to(device, non_blocking=True)

    return Conditions(
        seconds_start_B=c.seconds_start_B.to(device),
        seconds_total_B=c.seconds_total_B.to(device),
        text_BTE=move(c.text_BTE),
        text_mask_BT=move(c.text_mask_BT),
        vision_BTV=move(c.vision_BTV),
        sync_BLS=move(c.sync_BLS),
    )


@torch.no_grad()
def validation_loss(
    model: DiT, store: FeatureStore, vae: AudioVAE, recipe: Recipe
) -> dict[str, float]:
    """Mean loss per trained task on fixed batches, fixed noise and fixed noise times."""
    sampler = sampler_for(store, seed=recipe.seed + 1, batch_seconds=recipe.batch_seconds)
    means = {}
    was_training = model.training
    model.eval()
    trained = {t for stage in recipe.stages for t, weight in stage.task_weights.items() if weight}
    for task in sorted(trained):
        losses = []
        for step in range(VALIDATION_BATCHES):
            batch = build_batch(
                store,
                sampler.draw(step, {task: 1.0}),
                seed=recipe.seed + 1,
                step=step,
                difficulty=Difficulty(augment=False),
            )
            loss_B, _ = batch_loss(model, batch, vae, recipe)
            losses.append(loss_B.mean().item())
        means[task] = float(np.mean(losses))
    model.train(was_training)
    return means


def train(
    model: DiT,
    recipe: Recipe,
    store: FeatureStore,
    validation: FeatureStore,
    vae: AudioVAE,
    options: TrainOptions,
    *,
    on_step: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Tensor], TrainResult]:
    """Run or resume a recipe.

    Returns:
        The averaged weights, and how the run ended.

    Raises:
        ConfigError: If the folder holds a run and `resume` is off, or a run that differs.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    model.to(torch.device(options.device)).train()
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    optimizer = make_optimizer(model, kind=recipe.optimizer, weight_decay=recipe.weight_decay)
    state = TrainState(model=model, average=average, optimizer=optimizer)
    identity = {"recipe": digest(recipe), "data": digest(store.description)}
    step = _start(options, state, identity)
    sampler = sampler_for(store, seed=recipe.seed, batch_seconds=recipe.batch_seconds)
    started = saved = time.monotonic()
    skipped, reason, logged_at = 0, "recipe finished", (time.monotonic(), step)
    last_step = min(recipe.num_steps, options.max_steps or recipe.num_steps)
    # Fail now, not when a later stage first draws what the features do not have.
    for stage in recipe.stages:
        for clips in (sampler, sampler_for(validation, seed=0, batch_seconds=1.0)):
            clips.draw(0, stage.task_weights)
        if stage.offscreen_prob and not store.has_offscreen:
            raise ConfigError(
                f"stage {stage.name} mixes in unseen sounds, and the features have none; "
                "add scenes of kind offscreen, or set offscreen_prob to 0"
            )
    log, bins, curve = RunLog(options.out), LossBins(), _Curve()
    with _Interrupt() as interrupt:
        while step < last_step:
            stage, step_in_stage = recipe.stage_at(step)
            draw = sampler.draw(step, stage.task_weights)
            finite, grad_norm, rate = _one_step(
                state, recipe, stage, step_in_stage, draw, step, store, vae, bins
            )
            skipped += not finite
            if skipped > MAX_NON_FINITE:
                raise ConfigError(f"{skipped} steps had a non-finite loss; lower the learning rate")
            step += 1
            now = time.monotonic()
            if step % LOG_EVERY == 0:
                per_step = (now - logged_at[0]) / max(1, step - logged_at[1])
                logged_at = (now, step)
                log.write(
                    step,
                    stage=stage.name,
                    lr=rate,
                    grad_norm=grad_norm,
                    s_per_step=round(per_step, 3),
                    skipped=skipped,
                    **bins.take(),
                )
            if step % recipe.validate_every == 0 or step_in_stage + 1 == stage.steps:
                means = _validate_average(state, validation, vae, recipe)
                curve.add(stage.name, step_in_stage + 1, float(np.mean(list(means.values()))))
                log.write(
                    step, stage=stage.name, **{f"val/{k}": round(v, 5) for k, v in means.items()}
                )
            if on_step is not None:
                on_step(step, last_step)
            if now - saved > options.save_minutes * 60:
                save_state(options.out, state, step=step, identity=identity)
                saved = time.monotonic()
            if options.max_minutes is not None and now - started > options.max_minutes * 60:
                reason = f"{options.max_minutes:g} minutes are over"
                break
            if interrupt.asked:
                reason = INTERRUPTED
                break
        else:
            if step < recipe.num_steps:
                reason = f"{last_step} steps were asked for"
    save_state(options.out, state, step=step, identity=identity)
    log.close()
    result = TrainResult(
        steps=step,
        finished=step >= recipe.num_steps,
        reason=reason,
        stage_converged=curve.converged(recipe),
        skipped=skipped,
    )
    return state.average, result


def _start(options: TrainOptions, state: TrainState, identity: dict[str, Any]) -> int:
    newest = latest_state(options.out)
    if newest is None:
        return 0
    if not options.resume:
        raise ConfigError(
            f"{options.out} holds a run ({newest.name}); add --resume or use another --out"
        )
    step = load_state(newest, state, identity=identity)
    _log.info("resumed %s at step %d", options.out, step)
    return step


def _one_step(
    state: TrainState,
    recipe: Recipe,
    stage: Stage,
    step_in_stage: int,
    draw: StepDraw,
    step: int,
    store: FeatureStore,
    vae: AudioVAE,
    bins: LossBins,
) -> tuple[bool, float, float]:
    difficulty = Difficulty(
        offscreen_prob=stage.offscreen_prob,
        token_drop_sample_prob=stage.token_drop_sample_prob,
        null_prob=recipe.null_prob,
    )
    batch = build_batch(store, draw, seed=recipe.seed, step=step, difficulty=difficulty)
    model = state.model
    assert isinstance(model, DiT)
    loss_B, t_B = batch_loss(model, batch, vae, recipe)
    state.optimizer.zero_grad(set_to_none=True)
    loss_B.mean().backward()  # type: ignore[no-untyped-call]
    for parameter in model.parameters():
        if parameter.grad is None:  # a branch that this task does not use
            parameter.grad = torch.zeros_like(parameter)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
    rate = learning_rate(stage, step_in_stage)
    if not bool(torch.isfinite(norm)):
        return False, float("nan"), rate
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.optimizer.step()
    # A short memory at first, or the random start would stay in the average for long.
    decay = min(recipe.ema_decay, (1 + step) / (10 + step))
    with torch.no_grad():
        for name, value in model.state_dict().items():
            state.average[name].lerp_(value, 1 - decay)
    bins.add(draw.task, t_B.tolist(), loss_B.detach().tolist())
    return True, float(norm), rate


def _validate_average(
    state: TrainState, validation: FeatureStore, vae: AudioVAE, recipe: Recipe
) -> dict[str, float]:
    model = state.model
    assert isinstance(model, DiT)
    current = {k: v.detach().clone() for k, v in model.state_dict().items()}
    model.load_state_dict(state.average)
    try:
        return validation_loss(model, validation, vae, recipe)
    finally:
        model.load_state_dict(current)


class _Interrupt:
    """Ctrl-C asks for an end after the step that is running; a second one ends at once.

    An exception in the middle of a step would leave weights of two steps in one checkpoint.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> _Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class _Curve:
    """Validation losses by stage, to judge convergence."""

    def __init__(self) -> None:
        self._points: dict[str, list[tuple[int, float]]] = {}

    def add(self, stage: str, step_in_stage: int, loss: float) -> None:
        self._points.setdefault(stage, []).append((step_in_stage, loss))

    def converged(self, recipe: Recipe) -> dict[str, bool]:
        """For stages whose last step was measured: less than 1 % gained over the tail."""
        verdict = {}
        for stage in recipe.stages:
            points = self._points.get(stage.name, [])
            if not points or points[-1][0] != stage.steps:
                continue
            tail = [loss for s, loss in points if s <= stage.steps * (1 - CONVERGED_TAIL)]
            verdict[stage.name] = bool(tail) and points[-1][1] > tail[-1] * (1 - CONVERGED_GAIN)
        return verdict
