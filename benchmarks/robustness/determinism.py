"""What changes the bytes of a seed: threads, precision, batch, take, process.

    python -m benchmarks.robustness.determinism [--threads 1 2 4] [--precision ...] [--state DIR]

Each number of threads and precision has a process of its own, which makes 1 s of sound for a
prompt: twice, as the second of two takes, and as one of a batch of three (which `deterministic` and
ONNX Runtime refuse). `onnx` is the second engine, for a folder that `omni2sound export` wrote.
Printed is "equal", or the distance to one thread in the same precision: signal over
difference in dB; and what one sound costs, the least of five: seconds by the clock, and of all
threads together. With `--state` the sounds of each process are kept in a folder, and the next run
goes on from there.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from omni2sound.generate.torch_pipeline import TorchPipeline

DETERMINISTIC = "deterministic"
ONNX = "onnx"
NUM_TIMED = 5
WAYS = ("again", "second take", "in a batch of 3")


def make(model: str, threads: int, dtype: str, out: Path) -> None:
    """Make the sounds of one process and write them as an .npz file."""
    import torch

    torch.set_num_threads(threads)
    from omni2sound.generate.load import PipelineOptions
    from omni2sound.generate.request import GenerationRequest
    from omni2sound.generate.torch_pipeline import TorchPipeline

    deterministic = dtype == DETERMINISTIC
    pipeline = PipelineOptions(
        model=model,
        device="cpu",
        dtype="auto" if dtype == ONNX else "float32" if deterministic else dtype,
        deterministic=deterministic,
        engine="onnx" if dtype == ONNX else "torch",
    ).load()

    def sound(seed: int, takes: int = 1) -> NDArray[np.float32]:
        request = GenerationRequest(
            prompt="a dog barks", duration_s=1, seed=seed, takes=takes, num_inference_steps=4
        )
        *_, last = pipeline.run(request)
        return last.audio.samples_CN

    single = among = np.zeros(0, np.float32)
    if isinstance(pipeline, TorchPipeline) and not deterministic:
        single, among = _batched(pipeline)
    first = sound(7)
    took_s = np.array([_timed_s(lambda: sound(7)) for _ in range(NUM_TIMED)]).min(axis=0)
    half = out.with_suffix(".half.npz")
    np.savez(
        half,
        **{
            "sound": first,
            "seconds": took_s,
            "again": sound(7),
            "second take": sound(6, takes=2),
            "single": single,
            "in a batch of 3": among,
        },
    )
    half.replace(out)


def _batched(pipeline: TorchPipeline) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A sound alone, and the same as one of a batch of three."""

    def sounds(seeds: Sequence[int]) -> NDArray[np.float32]:
        prompts = ["a dog barks"] * len(seeds)
        batch = pipeline.encoder.encode_arrays(None, None, prompts, duration_s=1)
        return pipeline.generate_batch(batch, seeds=seeds, duration_s=1, num_steps=4).numpy()

    return sounds([7])[0], sounds([6, 7, 8])[1]


def _timed_s(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of the process."""
    begin = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - begin[0], time.process_time() - begin[1]


def distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> str:
    """Say "equal", or the signal over the difference in dB."""
    if b.size == 0:
        return "refused"
    if np.array_equal(a, b):
        return "equal"
    a, b = a.astype(np.float64), b.astype(np.float64)
    return f"{10 * np.log10((a**2).sum() / ((a - b) ** 2).sum()):.0f} dB"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4])
    kinds = ("float32", "bfloat16", DETERMINISTIC, ONNX)
    parser.add_argument("--precision", choices=kinds, nargs="+", default=kinds)
    parser.add_argument("--state", type=Path, help="folder of sounds, from which a run goes on")
    parser.add_argument("--make", nargs=3, metavar=("THREADS", "DTYPE", "OUT"))
    args = parser.parse_args()
    if args.make:
        make(args.model, int(args.make[0]), args.make[1], Path(args.make[2]))
        return 0
    with contextlib.ExitStack() as stack:
        folder = args.state or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(exist_ok=True)
        show(args.model, args.precision, args.threads, folder)
    return 0


def show(
    model: str, precisions: Sequence[str], numbers_of_threads: Sequence[int], folder: Path
) -> None:
    """Print the matrix; the sounds of each process are files of the folder."""
    print(f"{'precision':14} {'threads':>7} {'other process':>14} {'to 1 thread':>12} "
          + " ".join(f"{way:>16}" for way in (*WAYS, "cost of one")))  # fmt: skip
    for dtype in precisions:
        first: dict[str, NDArray[np.float32]] = {}
        for threads in numbers_of_threads:
            files = [folder / f"{dtype}-{threads}-{k}.npz" for k in range(2)]
            found = [_process(model, threads, dtype, file) for file in files]
            here = found[0]
            first = first or here
            cells = [
                distance(here["sound"], found[1]["sound"]),
                distance(first["sound"], here["sound"]),
                distance(here["sound"], here["again"]),
                distance(here["sound"], here["second take"]),
                distance(here["single"], here["in a batch of 3"]),
                "{:.2f} s, {:.2f} s".format(*np.minimum(here["seconds"], found[1]["seconds"])),
            ]
            print(f"{dtype:14} {threads:7} {cells[0]:>14} {cells[1]:>12} "
                  + " ".join(f"{cell:>16}" for cell in cells[2:]), flush=True)  # fmt: skip


def _process(model: str, threads: int, dtype: str, out: Path) -> dict[str, NDArray[np.float32]]:
    if not out.exists():
        # ONNX Runtime reads the first, too; threads beyond the cores shall not spin.
        own = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
        what = ["--model", model, "--make", str(threads), dtype, str(out)]
        command = [sys.executable, "-m", "benchmarks.robustness.determinism", *what]
        subprocess.run(command, check=True, env=os.environ | own)
    with np.load(out) as stored:
        return dict(stored)


if __name__ == "__main__":
    sys.exit(main())
