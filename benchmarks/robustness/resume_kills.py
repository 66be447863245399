"""Is a run that is killed again and again the same run? Compares the weights bit for bit.

    python benchmarks/robustness/resume_kills.py

A small transformer goes through all three stages on a corpus made in code, once undisturbed and
once killed (SIGKILL) at random moments: in the middle of steps, and while a checkpoint is half
written, written but not renamed, or just renamed. After each kill the run goes on from what it
finds. Prints every kill; exit code 1 if a single bit of the averaged weights differs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from click_corpus import click_autoencoder, click_recipe, click_store
from safetensors.torch import save_file

from omni2sound.data.store.rows import FeatureStore
from omni2sound.encoders.text import TextEncoder
from omni2sound.models.dit import DiT
from omni2sound.train import state
from omni2sound.train.loop import TrainOptions, train
from omni2sound.train.state import latest_state

SAVE_STEPS = 3
WRITES = ("half written", "written, not flushed", "flushed, not renamed", "renamed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=40, help="of each of the three stages")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()

    torch.set_num_threads(1)  # the runs are forked, so that a start costs nothing
    encoder, rng = TextEncoder.load(), random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        run = Run(click_store(root / "features", encoder), encoder, steps=args.steps)
        digests = {"undisturbed": run.finish(root / "whole")}
        killed = root / "killed"
        done = 0
        while done < args.kills:
            # Every third kill hits a checkpoint that is being written, each moment in turn.
            where = WRITES[done // 3 % len(WRITES)] if done % 3 == 2 else "in a step"
            after = rng.randint(1, 2 * args.steps * 3 // args.kills)
            reached = run.until_killed(killed, where, after, rng.random())
            if reached is None:
                raise SystemExit(f"the run was over after {done} kills; give more --steps")
            done += 1
            found = latest_state(killed)
            kept = "nothing" if found is None else found.name
            print(f"kill {done:2d} at step {reached:3d}, {where}: goes on from {kept}")
        digests["killed"] = run.finish(killed)
    for name, digest in digests.items():
        print(f"{name:12s} {digest}")
    equal = digests["undisturbed"] == digests["killed"]
    print(
        f"{args.kills} kills, {3 * args.steps} steps: weights are",
        "equal" if equal else "NOT equal",
    )
    raise SystemExit(not equal)


class Run:
    """One recipe on one corpus, in processes of its own."""

    def __init__(self, store: FeatureStore, encoder: TextEncoder, *, steps: int) -> None:
        self.store, self.encoder = store, encoder
        self.recipe, self.vae = click_recipe(steps=steps), click_autoencoder()

    def train(self, out: Path, on_step: Callable[[int, int], None]) -> Mapping[str, Any]:
        torch.manual_seed(0)
        weights, _ = train(
            DiT(self.recipe.dit),
            self.recipe,
            self.store,
            self.store,
            self.vae,
            TrainOptions(out=out, resume=True, save_steps=SAVE_STEPS),
            prompts=self.encoder,
            on_step=on_step,
        )
        return weights

    def finish(self, out: Path) -> str:
        """Train to the end; the digest of the weights."""
        weights = self.train(out, lambda step, total: None)
        path = out / "final.safetensors"
        save_file(dict(weights), path)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def until_killed(self, out: Path, where: str, after: int, wait: float) -> int | None:
        """Start or resume in a child and kill it; the step it had reached, None if it ended."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            self._in_child(out, where, after, writer)
        os.close(writer)
        steps: list[int] = []
        with os.fdopen(reader, "rb") as lines:
            for line in lines:
                steps.append(int(line))
                if where == "in a step" and len(steps) == after:
                    time.sleep(wait * 0.05)  # somewhere within the next steps
                    os.kill(child, signal.SIGKILL)
                    break
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            return None
        return steps[-1] if steps else 0

    def _in_child(self, out: Path, where: str, after: int, writer: int) -> None:
        told = 0

        def on_step(step: int, total: int) -> None:
            nonlocal told
            told += 1
            os.write(writer, b"%d\n" % step)

        def die(*_: object, **__: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        def when_due(fatal: Callable[..., Any], harmless: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *a, **k: (fatal if told >= after else harmless)(*a, **k)

        def half(path: Path, tensors: Any, metadata: Any) -> None:
            write(path, tensors, metadata=metadata)
            os.truncate(path, path.stat().st_size // 2)
            die()

        def rename_and_die(*paths: Path) -> None:
            rename(*paths)
            die()

        write, flush, rename = state.save_tensors, state.flush_to_disk, state._rename
        if where == "half written":
            state.save_tensors = when_due(half, write)
        elif where == "written, not flushed":
            state.flush_to_disk = when_due(die, flush)
        elif where == "flushed, not renamed":
            state._rename = when_due(die, rename)
        elif where == "renamed":
            state._rename = when_due(rename_and_die, rename)
        self.train(out, on_step)
        os._exit(0)


if __name__ == "__main__":
    main()
