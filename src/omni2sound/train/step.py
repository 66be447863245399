"""One optimizer step: loss, gradients over micro-batches and ranks, clipping, update, EMA.

In:   a `TrainState`, micro-batches, a learning rate.
Out:  `StepOutcome`; the state is changed in place, or not at all if a gradient is not finite.

The gradient of a step is the mean over all samples of the batch, however they are split into
micro-batches and over ranks (FSDP2 averages over ranks, after the last micro-batch).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce

import torch
from torch import Tensor, nn

from omni2sound.data.batches.batch import Batch
from omni2sound.diffusion.objective import Objective, weighted_mse
from omni2sound.models.autoencoder import AudioVAE
from omni2sound.models.conditioning import Conditions
from omni2sound.train.parallel import (
    World,
    average_whole_gradients,
    local,
    sync_gradients,
    whole,
)
from omni2sound.train.recipe import Recipe
from omni2sound.train.state import TrainState


@dataclass(frozen=True, kw_only=True, slots=True)
class StepOutcome:
    """Result of one step.

    Attributes:
        finite: Whether the gradient was finite, and the weights were updated.
        grad_norm: Gradient norm before clipping; not finite if `finite` is False.
        times: Noise time of each sample of this rank.
        losses: Loss of each sample of this rank.
    """

    finite: bool
    grad_norm: float
    times: tuple[float, ...]
    losses: tuple[float, ...]


def batch_loss(
    model: nn.Module, batch: Batch, vae: AudioVAE, recipe: Recipe, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Loss and noise time of each sample (B,)."""
    objective = recipe.objective
    waveform_BN = None
    if batch.waveform_BN is not None:
        waveform_BN = batch.waveform_BN.to(device, non_blocking=True)
    x0_BLC = clean_latents(batch.latents, waveform_BN, vae, device)
    noise_BLC, t_B = _noise(batch.noise_seeds_B, x0_BLC, objective)
    x_BLC = objective.add_noise(x0_BLC, noise_BLC, t_B)
    valid_BL = None
    if batch.valid_frames_B is not None:
        places_L = torch.arange(x0_BLC.shape[1], device=device)
        valid_BL = places_L < batch.valid_frames_B.to(device)[:, None]
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        prediction_BLC = model(
            x_BLC,
            t_B,
            to_device(batch.conditions, device),
            drop_B=batch.drop_B.to(device),
            frame_mask_BL=valid_BL,
        )
    target_BLC = objective.target(x0_BLC, noise_BLC, t_B)
    weight_C = vae.scale_C**recipe.channel_weight_exponent
    weight_BL = None
    if recipe.silence_weight != 1:
        assert waveform_BN is not None  # the loop reads waveforms where frames are weighted
        weight_BL = frame_weights(
            waveform_BN, x0_BLC.shape[1], silence=recipe.silence_weight, valid_BL=valid_BL
        )
    if valid_BL is not None:
        weight_BL = valid_BL.float() if weight_BL is None else weight_BL * valid_BL
    loss_B = weighted_mse(
        prediction_BLC, target_BLC, weight_BL, weight_C=weight_C / weight_C.mean()
    )
    return loss_B, t_B


def _noise(seeds: Sequence[int], x0_BLC: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
    """Draw noise and noise times: from one seed per sample, or all from one on the device."""
    device, count = x0_BLC.device, len(x0_BLC)
    if len(seeds) != count:
        (seed,) = seeds
        generator = torch.Generator(device).manual_seed(seed)
        noise_BLC = torch.randn(x0_BLC.shape, generator=generator, device=device)
        return noise_BLC, objective.draw_times(count, generator=generator)
    noises, times = [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        noises.append(torch.randn(x0_BLC.shape[1:], generator=generator))
        times.append(objective.draw_times(1, generator=generator))
    return torch.stack(noises).to(device), torch.cat(times).to(device)


@torch.no_grad()
def clean_latents(
    stored: Sequence[Tensor | None],
    waveform_BN: Tensor | None,
    vae: AudioVAE,
    device: torch.device,
) -> Tensor:
    """Latents (B, L, C): stored ones where the features hold them, encoded ones elsewhere."""
    unknown = [i for i, latents_LC in enumerate(stored) if latents_LC is None]
    encoded: Iterable[Tensor] = ()
    if unknown:
        assert waveform_BN is not None  # `build_batch` reads what has to be encoded
        encoded = vae.encode(waveform_BN[unknown])
    left = iter(encoded)
    return torch.stack(
        [
            next(left) if known is None else known.to(device, non_blocking=True).float()
            for known in stored
        ]
    )


def frame_weights(
    waveform_BN: Tensor, num_frames: int, *, silence: float, valid_BL: Tensor | None = None
) -> Tensor:
    """Loss weight of each latent frame (B, L): `silence` up to -60 dBFS, 1 from -30 dBFS.

    The level of a frame is the maximum over itself and its two neighbours, so that the frames
    around an onset count as much as the sound. Frames where `valid_BL` is False are silent.
    """
    missing = -waveform_BN.shape[1] % num_frames
    padded_BN = torch.nn.functional.pad(waveform_BN, (0, missing))
    frames_BLH = padded_BN.reshape(len(padded_BN), num_frames, -1)
    level_db = 10 * torch.log10(frames_BLH.square().mean(dim=-1) + 1e-12)
    if valid_BL is not None:
        level_db = level_db.masked_fill(~valid_BL, -torch.inf)
    level_db = torch.nn.functional.max_pool1d(level_db[:, None], 3, stride=1, padding=1)[:, 0]
    return silence + (1 - silence) * ((level_db + 60) / 30).clamp(0, 1)


def to_device(c: Conditions, device: torch.device) -> Conditions:
    """Copy conditions to a device, and to float32 there: half as much is copied."""
    given = {f.name: x for f in fields(c) if (x := getattr(c, f.name)) is not None}
    moved = {name: x.to(device, non_blocking=True) for name, x in given.items()}
    return replace(c, **{n: x.float() if x.is_floating_point() else x for n, x in moved.items()})


def optimizer_step(
    state: TrainState,
    micro_batches: Iterable[Batch],
    vae: AudioVAE,
    recipe: Recipe,
    *,
    rate: float,
    step: int,
    device: torch.device,
    world: World | None = None,
) -> StepOutcome:
    """Update the state by one batch.

    Args:
        state: Model, EMA and optimizer; changed in place.
        micro_batches: This rank's share of the batch, in `recipe.accumulate` equal pieces.
        vae: Autoencoder that encodes waveforms.
        recipe: Loss, clipping, EMA and precision.
        rate: Learning rate.
        step: Number of steps done before.
        device: Device of the model.
        world: Ranks of this run; None is a single one.
    """
    model = state.model
    state.optimizer.zero_grad(set_to_none=True)
    losses, times = [], []
    for number, batch in enumerate(micro_batches, start=1):
        sync_gradients(model, number == recipe.accumulate)
        loss_B, t_B = batch_loss(model, batch, vae, recipe, device)
        (loss_B.mean() / recipe.accumulate).backward()  # type: ignore[no-untyped-call]
        losses.append(loss_B.detach())
        times.append(t_B)
    for parameter in model.parameters():
        if parameter.grad is None:  # a branch that this task does not use
            parameter.grad = torch.zeros_like(parameter)
    average_whole_gradients(model, world or World())
    norm = _clip(model, recipe.clip_norm)
    finite = bool(torch.isfinite(norm))
    if finite:
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.optimizer.step()
        # A fast EMA at first: otherwise the random start would stay in it for long.
        update_ema(state.ema, model, min(recipe.ema_decay, (1 + step) / (10 + step)))
    return StepOutcome(
        finite=finite,
        grad_norm=float(norm),
        times=tuple(torch.cat(times).tolist()),
        losses=tuple(torch.cat(losses).tolist()),
    )


@torch.no_grad()
def _clip(model: nn.Module, limit: float) -> Tensor:
    """Scale gradients down to the norm `limit`; return the norm before, equal on all ranks."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    sharded = [g for g in gradients if local(g) is not g]
    held_whole = [g for g in gradients if local(g) is g]
    # Summed over ranks *before* the division: `clip_grad_norm_` on sharded gradients divides
    # by one rank's part of the norm.
    norms = [whole(nn.utils.get_total_norm(part)) for part in (sharded, held_whole) if part]
    norm = reduce(torch.hypot, norms)
    scale = (limit / (norm + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_([local(g) for g in gradients], scale)
    return norm


@torch.no_grad()
def update_ema(ema: Mapping[str, Tensor], model: nn.Module, decay: float) -> None:
    """Move averaged weights towards the model's by a share of 1 - `decay`, in place."""
    now = model.state_dict()
    torch._foreach_lerp_([local(v) for v in ema.values()], [local(now[k]) for k in ema], 1 - decay)
