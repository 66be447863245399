"""Processor time of commands with instant models, by two source trees in turns.

    python -m benchmarks.speed.paired --before TREE [--pairs 7]

TREE is another checkout, as `git worktree add --detach TREE COMMIT` makes it. Each pair runs
`generate` (30 copies of a video with sound, by a tiny model on random weights), `data features` (40
clips) and `annotate run` (100 clips, by a script) once with either tree, first with one and then
with the other in turns; start and imports are part of it, and measured by `--help`. Printed are
medians of user and system seconds, and the median of the ratios of pairs. One thread.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
NUM_TAKES, NUM_CLIPS, NUM_ANNOTATED = 30, 40, 100


def cpu_s(tree: Path, folder: Path, *arguments: object) -> float:
    """Processor time of a command by a tree, in seconds."""
    environment = os.environ | {"PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "omni2sound", "-q", *map(str, arguments)],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


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


def commands(folder: Path, trees: Sequence[Path]) -> dict[str, Callable[[Path, str], float]]:
    """What is measured, by name: a function of a tree and the name of a new folder."""

    def start(tree: Path, _: str) -> float:
        return cpu_s(tree, folder, "generate", "--help")

    def generate(tree: Path, out: str) -> float:
        (folder / out).mkdir()
        model = f"model{trees.index(tree)}"
        options = ("--model", model, "--device", "cpu", "--steps", 1, "--seed", 1)
        takes = ("--takes", NUM_TAKES, "-o", f"{out}/out.mp4")
        return cpu_s(tree, folder, "generate", "clip.mp4", *options, *takes)

    def features(tree: Path, out: str) -> float:
        options = ("--parts", f"model{trees.index(tree)}", "--seconds", 1, "--workers", 1)
        return cpu_s(tree, folder, "data", "features", "seen.jsonl", "-o", out, *options)

    def annotate(tree: Path, out: str) -> float:
        crew = [part for role in ("junior", "senior", "vision")
                for part in (f"--{role}", "scripted:script.json")]  # fmt: skip
        options = ("--workers", 1)
        return cpu_s(tree, folder, "annotate", "run", "heard.jsonl", out, *crew, *options)

    return {"start": start, "generate": generate, "features": features, "annotate": annotate}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="checkout to compare with")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--only", default="", help="part of a command's name")
    args = parser.parse_args()
    trees = {"before": args.before.resolve(), "now": ROOT}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, [*trees.values()])
        for command, run in commands(folder, [*trees.values()]).items():
            if args.only not in command:
                continue
            taken: dict[str, list[float]] = {"before": [], "now": []}
            for pair in range(args.pairs):
                for which in sorted(trees, reverse=pair % 2 == 1):
                    taken[which].append(run(trees[which], f"{command}-{pair}-{which}"))
            ratios = [now / old for old, now in zip(taken["before"], taken["now"], strict=True)]
            print(
                f"{command:9} before {statistics.median(taken['before']):6.2f} s, now "
                f"{statistics.median(taken['now']):6.2f} s; ratio {statistics.median(ratios):.3f} "
                f"({min(ratios):.3f} to {max(ratios):.3f}), {args.pairs} pairs",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
