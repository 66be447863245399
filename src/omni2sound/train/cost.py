"""Cost of a recipe, counted on PyTorch's meta device without allocating anything.

In:   a recipe, a length of clips, a number of devices.
Out:  `Cost`: parameters, operations and memory.

Operations are those of the matrix products in the forward and backward pass (`FlopCounterMode`),
activations the tensors that autograd saves. Not counted: the autoencoder, temporary buffers,
fragmentation. Attention weights count as saved, which fused attention avoids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from omni2sound.errors import ConfigError, UserError
from omni2sound.models.conditioning import Conditions
from omni2sound.models.dit import DiT, DiTConfig
from omni2sound.timebase import TimeBase
from omni2sound.train.parallel import World, prepare_model
from omni2sound.train.recipe import Recipe, Stage

MAX_CLIP_S = 3600
"""Largest length of clips, that of generation."""
UTILISATION = 0.4
"""Assumed share of a device's peak; a run logs its own as `mfu`."""
PROMPT_TOKENS = 32
"""Assumed prompt length where a recipe does not pad prompts to a fixed one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """A kind of accelerator.

    Attributes:
        peak_flops: Dense bf16 operations per second with float32 accumulation (data sheet).
        memory_bytes: Memory of the device.
    """

    peak_flops: float
    memory_bytes: int


DEVICES: Mapping[str, Device] = {
    "a100-40gb": Device(peak_flops=312e12, memory_bytes=40 * 2**30),
    "a100": Device(peak_flops=312e12, memory_bytes=80 * 2**30),
    "h100": Device(peak_flops=989e12, memory_bytes=80 * 2**30),
    "h200": Device(peak_flops=989e12, memory_bytes=141 * 10**9),
    "l40s": Device(peak_flops=362e12, memory_bytes=48 * 2**30),
    "rtx4090": Device(peak_flops=165e12, memory_bytes=24 * 2**30),
}
"""Devices by a part of the name that the driver reports; NVIDIA's data sheets (SXM)."""


def device_named(name: str) -> Device | None:
    """Find a device by a name such as "NVIDIA H100 80GB HBM3"; None if unknown."""
    plain = name.lower().replace(" ", "").replace("-", "")
    for known, device in DEVICES.items():
        if known.replace("-", "") in plain:
            return device
    return None


def hours_of(flops: float, device: Device, *, num_devices: int) -> float:
    """Hours that so many operations take at `UTILISATION` of the devices' peak."""
    return flops / (num_devices * device.peak_flops * UTILISATION) / 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Cost of one optimizer step of a recipe.

    Attributes:
        parameters: Number of parameters of the transformer.
        clips_per_step: Clips of `clip_s` in a step, over all devices.
        flops_by_task: Operations forward and backward, over all devices.
        executed_by_task: The same with the activations that are computed again.
        memory_bytes: Memory per device, by purpose.
        spare_bytes: Memory per device that all activations would need beyond that.
    """

    parameters: int
    clips_per_step: int
    flops_by_task: Mapping[str, float]
    executed_by_task: Mapping[str, float]
    memory_bytes: Mapping[str, int]
    spare_bytes: int

    def stage_flops(self, stage: Stage) -> float:
        """Expected operations of all steps of a stage, with what is computed again."""
        per_step = sum(w * self.executed_by_task[t] for t, w in stage.task_weights.items() if w)
        return stage.steps * per_step


def recipe_cost(recipe: Recipe, *, clip_s: float, num_devices: int) -> Cost:
    """Count the cost on the meta device; needs no data and no memory.

    Raises:
        UserError: If the length of the clips is out of range.
        ConfigError: If a step's clips can't be shared by the devices.
    """
    if not 0.1 <= clip_s <= MAX_CLIP_S:
        raise UserError(f"expected 0.1 to {MAX_CLIP_S} seconds, got {clip_s:g}", field="clip_s")
    clips = max(1, int(recipe.batch_seconds / clip_s))
    parts = num_devices * recipe.accumulate
    if clips % parts:
        raise ConfigError(
            f"a step has {clips} clips of {clip_s:g} s, which {num_devices} devices times "
            f"accumulate={recipe.accumulate} can't share equally; change batch_seconds"
        )
    with torch.device("meta"):
        model = DiT(recipe.dit)
    parameters = sum(p.numel() for p in model.parameters())
    saved = max(_saved_bytes(recipe, task, clip_s) for task in recipe.tasks)
    kept = replace(recipe, activation_checkpointing=False)
    everything = max(_saved_bytes(kept, task, clip_s) for task in recipe.tasks)
    return Cost(
        parameters=parameters,
        clips_per_step=clips,
        flops_by_task={t: clips * task_flops(recipe, t, clip_s) for t in recipe.tasks},
        executed_by_task={t: clips * executed_flops(recipe, t, clip_s) for t in recipe.tasks},
        memory_bytes={
            **_weight_bytes(recipe, model, num_devices),
            "activations": saved * (clips // parts),
        },
        spare_bytes=(everything - saved) * (clips // parts),
    )


def _weight_bytes(recipe: Recipe, model: DiT, num_devices: int) -> dict[str, int]:
    """Bytes per device of weights and what belongs to them.

    Raises:
        ConfigError: If the replicas don't divide the devices.
    """
    if num_devices % recipe.replicas:
        raise ConfigError(
            f"replicas={recipe.replicas} must divide the number of devices, {num_devices}"
        )
    parameters = sum(p.numel() for p in model.parameters())
    block = sum(p.numel() for p in model.blocks[0].parameters())
    half = recipe.precision == "bfloat16"
    shard = 4 * parameters // (num_devices // recipe.replicas)
    # Micro-batches add up whole gradients, which are reduced after the last one.
    adds_up = num_devices > 1 and recipe.accumulate > 1
    sizes = {
        "weights": shard,
        "gradients": 4 * parameters if adds_up else shard,
        "optimizer": 2 * shard,
        "EMA weights": shard,
    }
    if num_devices > 1:
        # What is no block, this block, and the next one.
        outside = parameters - recipe.dit.depth * block
        sizes["gathered weights"] = (6 if half else 4) * outside + (4 if half else 8) * block
    elif half:
        # Autocast keeps a half-precision copy of every weight that it has used in a pass.
        sizes["half-precision copies"] = 2 * parameters
    return sizes


def task_flops(recipe: Recipe, task: str, clip_s: float) -> float:
    """Operations of one clip, forward and backward."""
    return _counted_flops(recipe.dit, recipe.text_tokens, task, clip_s, False)


def executed_flops(recipe: Recipe, task: str, clip_s: float) -> float:
    """Operations of one clip, forward and backward, with what checkpointing computes again."""
    again = recipe.activation_checkpointing
    return _counted_flops(recipe.dit, recipe.text_tokens, task, clip_s, again)


@lru_cache(maxsize=64)
def _counted_flops(
    dit: DiTConfig, text_tokens: int | None, task: str, clip_s: float, checkpointing: bool
) -> float:
    meta = torch.device("meta")
    with meta:
        model = DiT(dit)
    prepare_model(model, World(), meta, activation_checkpointing=checkpointing)
    with FlopCounterMode(display=False) as counter:
        _run(model, dit, text_tokens, task, clip_s)
    return float(counter.get_total_flops())


def _saved_bytes(recipe: Recipe, task: str, clip_s: float) -> int:
    """Bytes that autograd saves for one clip."""
    half = recipe.precision == "bfloat16"
    everything = _saved(recipe.dit, recipe.text_tokens, half, task, clip_s, False)
    if not recipe.activation_checkpointing:
        return everything
    # Plus one block at a time, which is recomputed.
    outside = _saved(recipe.dit, recipe.text_tokens, half, task, clip_s, True)
    return outside + (everything - outside) // recipe.dit.depth


@lru_cache(maxsize=64)
def _saved(
    dit: DiTConfig,
    text_tokens: int | None,
    half: bool,
    task: str,
    clip_s: float,
    checkpointing: bool,
) -> int:
    with torch.device("meta"):
        model = DiT(dit)
    if half:
        model.bfloat16()
    prepare_model(model, World(), torch.device("meta"), activation_checkpointing=checkpointing)
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            sizes[storage._cdata] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        _run(model, dit, text_tokens, task, clip_s)
    return sum(sizes.values())


def _run(
    model: nn.Module, dit: DiTConfig, text_tokens: int | None, task: str, clip_s: float
) -> None:
    dtype = next(model.parameters()).dtype
    frames = TimeBase().num_latent_frames(clip_s)
    x_BLC = torch.zeros(1, frames, dit.latent_dim, device="meta", dtype=dtype)
    conditions = blank_conditions(dit, task, clip_s, text_tokens=text_tokens, device="meta")
    prediction = model(x_BLC, torch.zeros(1, device="meta"), conditions)
    prediction.float().square().mean().backward()


def blank_conditions(
    dit: DiTConfig,
    task: str,
    clip_s: float,
    *,
    text_tokens: int | None,
    device: torch.device | str,
    batch_size: int = 1,
) -> Conditions:
    """Conditions of the right shapes, all zero."""
    sizes, time = dit.conditioner, TimeBase()
    tokens = text_tokens or PROMPT_TOKENS

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(batch_size, *shape, device=device)

    with_text, with_video = task != "V2A", task != "T2A"
    pictures, frames = time.num_vision_frames(clip_s), time.num_latent_frames(clip_s)
    return Conditions(
        seconds_start_B=zeros(),
        seconds_total_B=zeros() + clip_s,
        text_BTE=zeros(tokens, sizes.text_dim) if with_text else None,
        text_mask_BT=zeros(tokens) == 0 if with_text else None,
        vision_BTV=zeros(pictures, sizes.vision_dim) if with_video else None,
        sync_BLS=zeros(frames, sizes.sync_dim) if with_video else None,
    )
