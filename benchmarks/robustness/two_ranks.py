"""Do two processes learn what one does? Batches, losses, gradient norms, checkpoints.

    python benchmarks/robustness/two_ranks.py

A small transformer goes through all three stages on a corpus made in code, in float32: on one
process, and on two (`torchrun`, gloo, FSDP2). Compared are every sample of every batch (exactly),
and the loss and the gradient norm of every step (to 1e-4). Then a checkpoint of two ranks is
finished by one, and one of one rank by two, and compared with the undisturbed run. Then the same
in bfloat16 with two micro-batches on each of two replicas (a mesh of 2 x 1, blocks gathered in
bfloat16) beside four micro-batches of one process, which may differ by twice as much as one process
does from itself with other micro-batches; how often gradients are reduced in a step is
counted. Exit code 1 if anything differs by more. The first two ranks are `torchrun`'s; the others
are forked, with the variables that it would set, so that their starts cost nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from click_corpus import click_autoencoder, click_recipe, click_store

from omni2sound.config import override
from omni2sound.data.batches.batch import Batch, build_batch
from omni2sound.data.store.rows import FeatureStore
from omni2sound.encoders.text import TextEncoder
from omni2sound.models.dit import DiT
from omni2sound.train import batches, loop
from omni2sound.train.parallel import joined_world
from omni2sound.train.step import StepOutcome

TOLERANCE = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--set", action="append", default=[], help="change the recipe, NAME=VALUE")
    parser.add_argument(
        "--optimizers", nargs="+", default=["adamw"], help="one comparison each (adamw)"
    )
    parser.add_argument(
        "--replicas-only", action="store_true", help="only what has replicas and accumulation"
    )
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--stop", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        train_as_rank(args.child, args.steps, args.set, args.stop, TextEncoder.load())
        return

    torch.set_num_threads(1)  # with more, a process may not fork
    encoder, middle, fine = TextEncoder.load(), args.steps // 2, True
    for optimizer in args.optimizers:
        print(f"{optimizer}:")
        changes = [f"optimizer={optimizer}", *args.set]
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            click_store(root / "features", encoder)

            def fork(name: str, ranks: int, stop: int | None = None) -> None:
                fork_ranks(ranks, root / name, args.steps, changes, stop, encoder)  # noqa: B023

            two, one = ["accumulate=2", "replicas=2"], ["accumulate=4"]
            half = [f"optimizer={optimizer}", "precision=bfloat16", *args.set]
            if args.replicas_only:
                fine &= same_replicas(root, args.steps, [*half, *one], [*half, *two], encoder)
                continue
            fork("one", 1)
            if optimizer == args.optimizers[0]:
                launch(root / "two", args.steps, [f"--set={change}" for change in changes])
            else:
                fork("two", 2)
            fork("two-then-one", 2, middle)
            fork("two-then-one", 1)
            fork("one-then-two", 1, middle)
            fork("one-then-two", 2)
            fine &= same_batches(root / "one", root / "two")
            for name in ("two", "two-then-one", "one-then-two"):
                fine &= same_numbers(root / "one", root / name, name)
            if optimizer == args.optimizers[0]:
                fine &= same_replicas(root, args.steps, [*half, *one], [*half, *two], encoder)
    raise SystemExit(not fine)


def same_replicas(
    root: Path, steps: int, alone: list[str], shared: list[str], encoder: TextEncoder
) -> bool:
    """Two replicas beside one process that computes the same micro-batches.

    In bfloat16 a last bit of a float32 weight now and then rounds it to another bfloat16, and the
    difference grows. How fast is seen on one process that adds the same samples up otherwise: two
    replicas may not be twice as far from it.
    """
    precision = [change for change in alone if change.startswith("precision")][-1]
    print(f"{precision}, two replicas, accumulation:")
    fork_ranks(1, root / "alone", steps, alone, None, encoder)
    fork_ranks(1, root / "otherwise", steps, [*alone, "accumulate=2"], None, encoder)
    fork_ranks(2, root / "replicas", steps, shared, None, encoder)
    fork_ranks(2, root / "replicas-then-one", steps, shared, steps // 2, encoder)
    fork_ranks(1, root / "replicas-then-one", steps, alone, None, encoder)
    fine = same_batches(root / "alone", root / "replicas")
    drift = differences(root / "alone", root / "otherwise")
    print(
        "one process with two micro-batches instead of four: "
        f"loss {drift['loss']:.1e}, gradient norm {drift['grad_norm']:.1e}"
    )
    limits = {key: max(TOLERANCE, 2 * value) for key, value in drift.items()}
    for name in ("replicas", "replicas-then-one"):
        fine &= same_numbers(root / "alone", root / name, name, limits)
    counts = set(json.loads((root / "replicas" / "reduced.json").read_text()))
    expected = 2 * click_recipe().dit.depth + 2  # keys and values, blocks, the rest, vectors
    print(f"messages of gradients in a step: {sorted(counts)}, expected {expected}")
    return fine and counts == {expected}


def fork_ranks(
    ranks: int, out: Path, steps: int, changes: list[str], stop: int | None, encoder: TextEncoder
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_PORT": port}
            os.environ |= {name: str(value) for name, value in variables.items()}
            os.environ["MASTER_ADDR"] = "127.0.0.1"
            code = 1
            try:
                train_as_rank(out, steps, changes, stop, encoder)
                code = 0
            except Exception:
                traceback.print_exc()
            os._exit(code)
        children.append(child)
    for _ in range(ranks):
        ended, status = os.wait()
        children.remove(ended)
        if status:
            for child in children:
                os.kill(child, signal.SIGKILL)  # it would wait for the other for half an hour
            raise SystemExit(f"{out.name}: a rank has failed")


def launch(out: Path, steps: int, extra: list[str]) -> None:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc_per_node=2", __file__, f"--child={out}", f"--steps={steps}", *extra),
    ]
    environment = {"OMP_NUM_THREADS": "1"} | dict(os.environ)
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def train_as_rank(
    out: Path, steps: int, changes: list[str], stop: int | None, encoder: TextEncoder
) -> None:
    """What each process does."""
    each = -(-steps // 3)
    recipe = click_recipe(steps=each)
    for change in changes:
        name, _, value = change.partition("=")
        try:
            recipe = override(recipe, name, json.loads(value))
        except ValueError:
            recipe = override(recipe, name, value)
    store = FeatureStore([out.parent / "features"])
    torch.manual_seed(0)
    with joined_world(torch.device("cpu")) as (world, device):
        out.mkdir(exist_ok=True)
        record = (out / f"batches-{world.rank}of{world.size}.jsonl").open("a")

        def recorded(*args: object, **options: object) -> Batch:
            batch = build_batch(*args, **options)  # type: ignore[arg-type]
            if options["seed"] == recipe.seed:
                for line in described(batch, int(options["step"])):  # type: ignore[call-overload]
                    record.write(json.dumps(line) + "\n")
            return batch

        batches.build_batch = recorded  # type: ignore[attr-defined]
        reduced = count_reductions() if recipe.replicas > 1 else []
        loop.train(
            DiT(recipe.dit),
            recipe,
            store,
            store,
            click_autoencoder(),
            loop.TrainOptions(
                out=out,
                resume=True,
                max_steps=stop or steps,
                device=str(device),
                log_every=1,
                save_steps=2,
                allow=("accumulate",),
            ),
            prompts=encoder,
            world=world,
        )
        record.close()
        if world.is_first and reduced:
            (out / "reduced.json").write_text(json.dumps(reduced))


def count_reductions() -> list[int]:
    """A list that gets, for each step from now on, the number of sums of gradients over ranks."""
    counts: list[int] = []
    sums = 0
    reduce, step = dist.all_reduce, loop.optimizer_step

    def counted_reduce(*args: Any, **options: Any) -> Any:
        nonlocal sums
        sums += 1
        return reduce(*args, **options)

    def counted_step(*args: Any, **options: Any) -> StepOutcome:
        before = sums
        outcome = step(*args, **options)
        counts.append(sums - before)
        return outcome

    dist.all_reduce = counted_reduce
    loop.optimizer_step = counted_step  # type: ignore[assignment]
    return counts


def described(batch: Batch, step: int) -> list[list[object]]:
    """One line a sample: everything that it consists of."""
    lines = []
    for i, clip_id in enumerate(batch.clip_ids):
        parts = [batch.waveform_BN[i]]
        if batch.conditions.text_BTE is not None:
            parts.append(batch.conditions.text_BTE[i][batch.conditions.text_mask_BT[i]])
        if batch.conditions.sync_BLS is not None:
            parts += [batch.conditions.sync_BLS[i], batch.conditions.vision_BTV[i]]
        digest = hashlib.sha256(b"".join(p.numpy().tobytes() for p in parts)).hexdigest()
        drawn = [batch.noise_seeds_B[i], bool(batch.drop_B[i])]
        lines.append([step, batch.task, clip_id, *drawn, batch.texts[i], digest])
    return lines


def same_batches(one: Path, two: Path) -> bool:
    samples = {}
    for out in (one, two):
        lines = [
            line for path in out.glob("batches-*.jsonl") for line in path.read_text().splitlines()
        ]
        samples[out] = sorted(lines)
    apart = [set(p.read_text().splitlines()) for p in two.glob("batches-*.jsonl")]
    shared = len(set.intersection(*apart))
    equal = samples[one] == samples[two]
    print(
        f"batches: {len(samples[one])} samples by one process, {len(samples[two])} by two; "
        f"{'equal' if equal else 'NOT equal'}; computed by both ranks: {shared}"
    )
    return equal and shared == 0 and len(apart) == 2


def differences(one: Path, other: Path) -> dict[str, float]:
    """The largest relative difference of any step, by name."""
    lines = []
    for out in (one, other):
        read = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        lines.append([line for line in read if "loss" in line])
    pairs = list(zip(*lines, strict=True))
    return {
        key: max(abs(a[key] - b[key]) / abs(a[key]) for a, b in pairs)
        for key in ("loss", "grad_norm")
    }


def same_numbers(
    one: Path, other: Path, name: str, limits: Mapping[str, float] | None = None
) -> bool:
    worst = differences(one, other)
    fine = all(value <= (limits or {}).get(key, TOLERANCE) for key, value in worst.items())
    print(
        f"{name:13s} largest relative difference to one process: "
        f"loss {worst['loss']:.1e}, gradient norm {worst['grad_norm']:.1e}"
        f"{'' if fine else '   TOO MUCH'}"
    )
    return fine


if __name__ == "__main__":
    main()
