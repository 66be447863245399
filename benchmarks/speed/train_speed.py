"""How fast does a recipe's transformer train on this device? Seconds a step, and MFU.

    python benchmarks/speed/train_speed.py --recipe paper --clips 16 --device cuda
    python benchmarks/speed/train_speed.py --recipe tiny --clips 4 --clip-seconds 4 --device cpu

Forward, backward, clipping, optimizer and average on random inputs of the right shapes; the
autoencoder and reading are left out. MFU: operations of the network (activation checkpointing's
second forward does not count) over the peak of the device's data sheet; where the device has
none in our table, over what a large matrix product reaches on it, measured in the same run.
"""

from __future__ import annotations

import argparse
import time

import torch

from omni2sound.models.dit import DiT
from omni2sound.recipes import recipe_named
from omni2sound.runtime import resolve_device
from omni2sound.timebase import TimeBase
from omni2sound.train.cost import blank_conditions, device_named, task_flops
from omni2sound.train.optimizer import make_optimizer
from omni2sound.train.parallel import World, prepare_model
from omni2sound.train.state import TrainState
from omni2sound.train.step import update_ema


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recipe", default="paper")
    parser.add_argument("--clips", type=int, default=16, help="clips of one step on this device")
    parser.add_argument("--clip-seconds", type=float, default=10.0)
    parser.add_argument("--task", default="VT2A")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--no-checkpointing", action="store_true")
    args = parser.parse_args()

    device, recipe = resolve_device(args.device), recipe_named(args.recipe)
    with device:
        model = DiT(recipe.dit)
    prepare_model(
        model.train(),
        World(),
        device,
        activation_checkpointing=recipe.activation_checkpointing and not args.no_checkpointing,
        compiled=args.compile,
    )
    optimizer = make_optimizer(model, kind=recipe.optimizer, weight_decay=recipe.weight_decay)
    ema = {k: v.detach().clone() for k, v in model.state_dict().items()}
    state = TrainState(model=model, ema=ema, optimizer=optimizer)
    frames = TimeBase().num_latent_frames(args.clip_seconds)
    x_BLC = torch.randn(args.clips, frames, recipe.dit.latent_dim, device=device)
    t_B = torch.rand(args.clips, device=device)
    conditions = blank_conditions(
        recipe.dit,
        args.task,
        args.clip_seconds,
        text_tokens=recipe.text_tokens,
        device=device,
        batch_size=args.clips,
    )

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            prediction = model(x_BLC, t_B, conditions)
        (prediction.float() - x_BLC).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        update_ema(state.ema, state.model, recipe.ema_decay)

    seconds = timed(step, args.steps, device)
    flops = args.clips * task_flops(recipe, args.task, args.clip_seconds)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    known = device_named(name)
    peak = known.peak_flops if known else matrix_product_flops(device)
    source = "data sheet" if known else "a matrix product in this run"
    print(f"{recipe.name}, {args.clips} clips of {args.clip_seconds:g} s, {args.task}, on {name}")
    print(f"{seconds * 1000:.1f} ms a step, {flops / seconds / 1e12:.3f} TFLOP/s")
    print(f"MFU {flops / seconds / peak:.1%} of {peak / 1e12:.3f} TFLOP/s ({source})")
    if device.type == "cuda":
        print(f"peak memory {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB")


def timed(step: object, count: int, device: torch.device) -> float:
    """Mean seconds, after three steps to warm up."""
    for warm in (3, count):
        wait(device)
        begin = time.perf_counter()
        for _ in range(warm):
            step()  # type: ignore[operator]
        wait(device)
    return (time.perf_counter() - begin) / count


def matrix_product_flops(device: torch.device) -> float:
    size = 1024
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / timed(lambda: a @ b, 10, device)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
