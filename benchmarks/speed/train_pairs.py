"""Processor time of a training step by two source trees in turns: forward and backward, optimizer.

    python benchmarks/speed/train_pairs.py --before TREE [--task T2A] [--blocks 8] [--threads 1]

TREE is another checkout, as `git worktree add --detach TREE COMMIT` makes it. Its modules and ours
are loaded into one process, one after the other, and each block takes a step of `embedded` (16
clips of 4 s) with one tree, twice with the other, and with the first again. Losses of four steps
from equal weights are printed first. Processor time counts all threads: compare at one.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
CLIPS, SECONDS = 16, 4.0


def load(tree: Path, task: str) -> tuple[Callable[[], float], Callable[[], None]]:
    """Return a tree's forward and backward pass, which gives the loss, and its update."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "omni2sound"]:
        del sys.modules[name]
    sys.path.insert(0, str(tree / "src"))
    from omni2sound.models.dit import DiT
    from omni2sound.recipes import recipe_named
    from omni2sound.timebase import TimeBase
    from omni2sound.train.cost import blank_conditions
    from omni2sound.train.optimizer import make_optimizer

    sys.path.pop(0)
    recipe, cpu = recipe_named("embedded"), torch.device("cpu")
    torch.manual_seed(0)
    model = DiT(recipe.dit).train()
    optimizer = make_optimizer(model, kind=recipe.optimizer, weight_decay=recipe.weight_decay)
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    conditions = blank_conditions(
        recipe.dit, task, SECONDS, text_tokens=recipe.text_tokens, device=cpu, batch_size=CLIPS
    )
    frames = TimeBase().num_latent_frames(SECONDS)
    x_BLC, t_B = torch.randn(CLIPS, frames, recipe.dit.latent_dim), torch.rand(CLIPS)

    def passes() -> float:
        with torch.autocast("cpu", torch.bfloat16):
            prediction = model(x_BLC, t_B, conditions)
        loss = (prediction.float() - x_BLC).square().mean()
        loss.backward()
        return float(loss.detach())

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return passes, update


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--before", type=Path, required=True, help="checkout to compare with")
    parser.add_argument("--task", default="VT2A")
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sides = [load(tree, args.task) for tree in (args.before.absolute(), ROOT)]
    for _ in range(4):
        losses = [passes() for passes, _ in sides]
        for _, update in sides:
            update()
        print("losses {:.6f} and {:.6f}".format(*losses))
    ratios = []
    for block in range(args.blocks):
        taken = [[0.0, 0.0], [0.0, 0.0]]
        for side in ((0, 1, 1, 0), (1, 0, 0, 1))[block % 2]:
            for part, run in enumerate(sides[side]):
                begin = time.process_time()
                run()
                taken[side][part] += time.process_time() - begin
        (pass0, update0), (pass1, update1) = taken
        ratios.append((pass0 / pass1, update0 / update1, (pass0 + update0) / (pass1 + update1)))
    for name, values in zip(("passes", "update", "step"), zip(*ratios, strict=True), strict=True):
        low, *_, high = sorted(values)
        middle = statistics.median(values)
        print(f"{name}: {middle:.2f} times as many a second (blocks {low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
