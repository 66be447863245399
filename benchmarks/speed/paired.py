"""Processor time of commands with instant models, by two source trees in turns.

    python -m benchmarks.speed.paired --before TREE [--blocks 12] [--only NAME]

TREE is another checkout, as `git worktree add --detach TREE COMMIT` makes it. Each block runs
`generate` (ten takes for a video with sound, by a tiny model on random weights), `data features`
(ten clips) and `annotate run` (forty clips, by a script) four times: with one tree, twice with the
other, and with the first again (ABBA), so that a drift of the machine cancels; the next block
begins with the other tree. Each tree has a process that has imported all that its commands need
and is forked for each of them, so that start and imports are no part of it; those are measured
apart, by `--help`. Printed are medians of user and system seconds, and the geometric mean of the
ratios of blocks with its 95 % interval (Student's t of their logarithms). One thread.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
NUM_TAKES, NUM_CLIPS, NUM_ANNOTATED = 10, 10, 40


class Tree:
    """A process with the modules of a source tree, which is forked for each command."""

    def __init__(self, tree: Path, folder: Path, python: Path | None = None) -> None:
        self.tree = tree
        self.environment = os.environ | {"PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"}
        self.folder = folder
        self.process = subprocess.Popen(
            [python or sys.executable, __file__, "--serve", "--before", "."],
            cwd=folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def cpu_s(self, *arguments: object, is_first: bool = False) -> float:
        """Run a command; returns its processor time. The first one of its kind is not measured."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        asked = {"arguments": ["-q", *map(str, arguments)], "is_first": is_first}
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline())
        if answer["code"]:
            raise RuntimeError(f"{self.tree}: {arguments[0]}: exit code {answer['code']}")
        return float(answer["cpu_s"])

    def start_s(self) -> float:
        """Return the processor time of a new process that says how a command is used."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "omni2sound", "generate", "--help"],
            cwd=self.folder,
            env=self.environment,
            check=True,
            capture_output=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def serve() -> None:
    """Run commands in forked processes, as `Tree` asks; never computes itself."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        asked = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                code = _run(asked["arguments"])
                os.write(writer, "\n".join(sys.modules).encode() if asked["is_first"] else b"")
            os._exit(code)
        os.close(writer)
        with os.fdopen(reader) as names:
            modules = names.read().split("\n")
        _, status, usage = os.wait4(child, 0)
        for name in modules:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        answer = {"code": os.waitstatus_to_exitcode(status)}
        print(json.dumps(answer | {"cpu_s": usage.ru_utime + usage.ru_stime}), file=answers)
        answers.flush()


def _run(arguments: list[str]) -> int:
    from omni2sound.cli.main import main as command

    sys.argv = ["omni2sound", *arguments]
    try:
        command()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def prepare(folder: Path, trees: Sequence[Path]) -> None:
    """Write what the commands read: models, a video, clips with sound and pictures, a script."""
    from tests.annotate.crews import SCRIPT, sound_file
    from tests.build import video_with_square

    code = "from pathlib import Path\nimport sys\nfrom tests.build import tiny_model_folder\n"
    code += "tiny_model_folder(Path(sys.argv[1]))"
    for number, tree in enumerate(trees):  # cards of a later release may have more fields
        subprocess.run(
            [sys.executable, "-c", code, str(folder / f"model{number}")],
            cwd=tree,
            env=os.environ | {"PYTHONPATH": os.pathsep.join((str(tree / "src"), str(tree)))},
            check=True,
        )
    video_with_square(folder / "clip.mp4", duration_s=1.0)
    sound_file(folder / "tone.wav")
    script = {**SCRIPT, "validator": {"*": {"plausible": True, "reason": "fits"}}}
    (folder / "script.json").write_text(json.dumps(script))
    for name, count, video in (("seen", NUM_CLIPS, "clip.mp4"), ("heard", NUM_ANNOTATED, None)):
        rows = [{"omni2sound_manifest": 1, "media": "."}]
        rows += [
            {"clip_id": f"c{n}", "corpus": "made", "split": "train", "audio": "tone.wav"}
            | {"duration_s": 1.0, "captions": ["a dog barks"]}
            | ({} if video is None else {"video": video})
            for n in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def commands(number: int) -> dict[str, Callable[[str], tuple[object, ...]]]:
    """Return the arguments of what is measured, by name: a function of the name of a new folder."""
    crew = [part for role in ("junior", "senior", "vision")
            for part in (f"--{role}", "scripted:script.json")]  # fmt: skip
    return {
        "generate": lambda out: (
            *("generate", "clip.mp4", "--model", f"model{number}", "--device", "cpu"),
            *("--steps", 1, "--seed", 1, "--takes", NUM_TAKES, "-o", f"{out}/out.mp4"),
        ),
        "features": lambda out: (
            *("data", "features", "seen.jsonl", "-o", out, "--parts", f"model{number}"),
            *("--seconds", 1, "--workers", 1),
        ),
        "annotate": lambda out: ("annotate", "run", "heard.jsonl", out, *crew, "--workers", 1),
    }


def mean_ratio(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Return the geometric mean of ratios, and the ends of its 95 % interval."""
    from scipy import stats

    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.fmean(logs)
    error = statistics.stdev(logs) / math.sqrt(len(logs))
    half = float(stats.t.ppf(0.975, len(logs) - 1)) * error
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="checkout to compare with")
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--only", default="", help="part of a command's name")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve()
        return 0
    paths = (args.before.resolve(), ROOT)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, paths)
        trees = [Tree(path, folder) for path in paths]
        for command in ("start", "generate", "features", "annotate"):
            if args.only in command:
                _block(command, trees, "warm", (0, 1), folder)
                orders = [(0, 1, 1, 0), (1, 0, 0, 1)] * args.blocks
                taken = [
                    _block(command, trees, str(n), orders[n], folder) for n in range(args.blocks)
                ]
                _print(command, taken)
        for tree in trees:
            tree.close()
    return 0


def _block(
    command: str, trees: Sequence[Tree], name: str, order: Sequence[int], folder: Path
) -> tuple[float, float]:
    """Seconds of a command by either tree, all runs together; "warm" comes before what counts."""
    taken = [0.0, 0.0]
    for place, number in enumerate(order):
        if command == "start":
            taken[number] += trees[number].start_s()
            continue
        out = f"{command}-{name}-{place}"
        if command == "generate":
            (folder / out).mkdir()
        arguments = commands(number)[command](out)
        taken[number] += trees[number].cpu_s(*arguments, is_first=name == "warm")
    return taken[0], taken[1]


def _print(command: str, taken: Sequence[tuple[float, float]]) -> None:
    ratio, low, high = mean_ratio([now / before for before, now in taken])
    before_s, now_s = (statistics.median(seconds) / 2 for seconds in zip(*taken, strict=True))
    print(
        f"{command:9} before {before_s:6.2f} s, now {now_s:6.2f} s; ratio "
        f"{ratio:.3f} [{low:.3f}, {high:.3f}], {len(taken)} blocks",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
