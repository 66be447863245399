"""The engine without torch beside another source tree: cold processes, parts, and their sounds.

    python -m benchmarks.speed.light --before TREE --exported FOLDER [--video V] [--pairs 3]
    python -m benchmarks.speed.light --before TREE --same-work [--video V] [--pairs 3]

TREE is a checkout of the release to compare with, as `git worktree add --detach TREE COMMIT` makes
it; FOLDER is what `omni2sound export --to FOLDER` wrote. Each pair runs a command once by TREE and
once from FOLDER by this tree, first with one and then with the other in turns: `generate` of 8 s of
the video to a file, of a prompt, of `--long` seconds of the video. Printed are medians of user and
system seconds and of wall seconds, the largest memory, and the median of the ratios of pairs; then
sampling and decoding of 8 s in one process by both engines, and the largest difference of their
sounds over the peak. Wall times mean something on an idle machine only. With `--same-work` both
trees compute by torch, and this one does no more than a release did that neither recognised nor
placed sounds nor added a band; that is for how the handling of files and times costs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
PROMPT = "a dog barks"
CLIP_S = 8
SAME_WORK: list[object] = [
    *("--engine", "torch", "--no-recognise", "--rate", 16000, "--channels", 1),
]


class Run:
    """One process: its processor and wall seconds, and its memory.

    A tree with an environment of its own (`TREE/.venv`) runs in that: early releases kept the
    networks there.
    """

    def __init__(self, tree: Path, *arguments: object) -> None:
        environment = os.environ | {"PYTHONPATH": str(tree / "src")}
        own = tree / ".venv" / "bin" / "python"
        python = own if own.exists() else Path(sys.executable)
        command = [str(python), "-m", "omni2sound", "-q", *map(str, arguments)]
        begin = time.perf_counter()
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{command} failed with {process.returncode}")
        self.wall_s = time.perf_counter() - begin
        self.cpu_s = usage.ru_utime + usage.ru_stime
        self.memory_gb = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def compare(
    name: str, before: Path, only_now: list[object], arguments: list[object], pairs: int
) -> None:
    """Print one line of a command by both trees; `only_now` are further arguments of this one."""
    runs: dict[bool, list[Run]] = {False: [], True: []}
    for pair in range(pairs):
        for now in (False, True) if pair % 2 == 0 else (True, False):
            tree, more = (ROOT, only_now) if now else (before, [])
            runs[now].append(Run(tree, "generate", *arguments, *more, "--overwrite"))
    columns = []
    for field in ("cpu_s", "wall_s", "memory_gb"):
        old, new = ([getattr(run, field) for run in runs[now]] for now in (False, True))
        ratio = statistics.median(b / a for a, b in zip(old, new, strict=True))
        columns.append(
            f"{statistics.median(old):6.2f} {statistics.median(new):6.2f} {ratio:5.2f} x"
        )
    print(f"  {name:26}" + "   ".join(columns), flush=True)


def compare_parts(exported: Path, repeat: int) -> None:
    """Print sampling and decoding of 8 s by both engines of this tree, and their difference."""
    from omni2sound.generate.onnx.pipeline import OnnxPipeline
    from omni2sound.generate.request import GenerationRequest
    from omni2sound.generate.torch_pipeline import TorchPipeline

    request = GenerationRequest(prompt=PROMPT, duration_s=CLIP_S)
    engines = {
        "onnx float32": OnnxPipeline.load(exported),
        "torch float32": TorchPipeline.load(device="cpu", dtype="float32"),
        "torch auto": TorchPipeline.load(device="cpu"),
    }
    sounds = {}
    print(f"\n  {CLIP_S} s of a prompt, loaded   cpu s  sample s  decode s")
    for name, pipeline in engines.items():
        taken = []
        for _ in range(repeat):
            begin = time.process_time()
            result = next(pipeline.run(request))
            took = result.timings
            taken.append((time.process_time() - begin, took.sample_s, took.decode_s))
        sounds[name] = result.audio.samples_CN
        print(f"  {name:24}" + "".join(f"{min(x):9.2f}" for x in zip(*taken, strict=True)))
    expected = sounds["torch float32"]
    for name in ("onnx float32", "torch auto"):
        error = np.abs(sounds[name] - expected).max() / np.abs(expected).max()
        print(f"  largest difference of {name} from torch float32, of the peak: {error:.1e}")


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description="The engine without torch, beside another tree.")
    parser.add_argument("--before", type=Path, required=True, help="another checkout")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--exported", type=Path, help="folder of `export`")
    way.add_argument("--same-work", action="store_true", help="both trees by torch")
    parser.add_argument("--video", type=Path, help="a video of 8 s or more; default: made here")
    parser.add_argument("--long", type=int, default=60, help="seconds of the long video; 0: none")
    parser.add_argument("--pairs", type=int, default=3)
    given = parser.parse_args()
    before = given.before.resolve()
    only_now = SAME_WORK if given.same_work else ["--model", given.exported.resolve()]
    print(f"  {'':26}{'cpu s, before, now':24}{'wall s':24}memory GB")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = given.video
        if video is None:
            from benchmarks.speed.generate import make_video

            video = folder / "made.mp4"
            make_video(video, max(CLIP_S, given.long))
        seed: list[object] = ["--seed", 1]
        text: list[object] = ["--prompt", PROMPT, "-o", folder / "a.wav", *seed]
        compare(f"{CLIP_S} s of a prompt", before, only_now, text, given.pairs)
        for seconds in (CLIP_S, given.long):
            if seconds:
                more: list[object] = [video, "--duration", seconds, "-o", folder / "a.mp4", *seed]
                compare(f"{seconds} s of video", before, only_now, more, given.pairs)
    if not given.same_work:
        compare_parts(given.exported, given.pairs)


if __name__ == "__main__":
    main()
