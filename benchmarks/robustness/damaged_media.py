"""Damaged or odd media files: each must end in a result or in one line, never worse.

Run:    python benchmarks/robustness/damaged_media.py
            the media modules, 2,000 files; every second one with --keep-audio, every third with
            --reencode
        python benchmarks/robustness/damaged_media.py --through cli --count 100
            `omni2sound generate` on each file
Prints: a table of kinds of damage, results, refusals, seconds; then the violations.
Exits:  1 if any file made a traceback, a crash, a hang, output on the terminal, a refusal
        that is not one line with exit code 2, a result that cannot be read back, or a file
        left behind.

`damaged_files` makes all files from `--seed`. The work happens in processes that are reused
from file to file, and killed and replaced when they crash or pass the limit.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import math
import os
import selectors
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from damaged_files import KINDS, Kitchen, Rng

# --- the worker: one process, many files ----------------------------------------------


def through_media(path: Path, out: Path, options: dict[str, bool]) -> None:
    """Everything that the media modules can do to one file."""
    from omni2sound import media
    from omni2sound.generate.request import GenerationRequest

    info = media.probe(path)
    if info.video is not None:  # hours, by header and timestamps, are refused before any work
        GenerationRequest(
            video=path, duration_s=2 if info.video.is_still else None
        ).resolve_duration(2)
    if info.video is not None:
        still = info.video.is_still
        duration_s = Fraction(2) if still else info.duration_s
        pictures = media.iter_frames(
            path, fps=8, size_px=(32, 40), duration_s=duration_s if still else None
        )
        num_pictures = sum(1 for _ in pictures)
        assert num_pictures == math.ceil(duration_s * 8), (num_pictures, duration_s)
        half = float(duration_s) / 2
        next(media.iter_frames(path, fps=25, start_s=half, duration_s=duration_s / 2), None)
    audio = None
    if info.audio is not None:
        with contextlib.suppress(media_error()):  # damaged sound must not spoil the picture
            audio = media.read_audio(path, sample_rate_hz=16_000, mono=True)
        media.read_audio(path, start_s=0.5, duration_s=0.25)
    if audio is None:
        audio = media.Audio(samples_CN=np.zeros((1, 16_000), np.float32), sample_rate_hz=16_000)
    if info.video is not None and not info.video.is_still:
        media.mux(path, audio, out, metadata={"title": "a test"}, **options)
        found = media.probe(out)
        assert found.audio is not None
        difference_s = abs(found.audio.duration_s - info.duration_s)
        assert difference_s <= Fraction(1024, 16_000) + Fraction(1, 500), float(difference_s)
    else:
        media.write_audio(out.with_suffix(".wav"), audio)


def media_error() -> type[Exception]:
    from omni2sound.errors import MediaError

    return MediaError


def run_media(path: Path, out: Path, options: dict[str, bool]) -> int:
    """As the command line would end it: 0, or one line on stderr and 2."""
    from omni2sound.errors import UserError

    try:
        through_media(path, out, options)
    except UserError as error:
        print(f"omni2sound: {error}", file=sys.stderr)
        return 2
    return 0


def run_cli(path: Path, out: Path, model: str, options: dict[str, bool]) -> int:
    from omni2sound.cli import main as cli

    sys.argv = ["omni2sound", "-q", "generate", str(path), "-o", str(out), "--prompt", "rain",
                "--steps", "2", "--seed", "0", "--model", model,
                *(f"--{name.replace('_', '-')}" for name, on in options.items() if on)]  # fmt: skip
    try:
        cli.main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1


def work(through: str, model: str) -> None:
    """Read jobs from stdin, one JSON object a line; answer each with one line.

    File descriptors 1 and 2 point to a file during a job, so that what C libraries print
    is caught as well.
    """
    answers = os.fdopen(os.dup(1), "w")
    logging.getLogger("omni2sound").addHandler(logging.NullHandler())
    for line in sys.stdin:
        job = json.loads(line)
        with Path(job["log"]).open("wb") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        try:
            path, out = Path(job["path"]), Path(job["out"])
            options = {name: job[name] for name in ("keep_audio", "reencode")}
            if through == "cli":
                code = run_cli(path, out, model, options)
            else:
                code = run_media(path, out, options)
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        answers.write(json.dumps({"code": code}) + "\n")
        answers.flush()


class Worker:
    """A worker process that is replaced when it dies or must be killed."""

    def __init__(self, through: str, model: str) -> None:
        self.through = through
        self.model = model
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, job: dict[str, Any], limit_s: float) -> tuple[int | None, str]:
        """Exit code and what went wrong with the process itself, if anything."""
        if self.process is None:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    __file__,
                    "--work",
                    "--through",
                    self.through,
                    "--model",
                    self.model,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            if self.through == "cli":
                limit_s *= 4  # the first file also pays for imports and weights
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job).encode() + b"\n")
        self.process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            ready = selector.select(limit_s)
        if not ready:
            self.stop()
            return None, f"hung: over {limit_s:.0f} s"
        answer = self.process.stdout.readline()
        if not answer:
            code = self.process.wait()
            self.stop()
            return None, f"crashed: the process ended with {code}"
        return int(json.loads(answer)["code"]), ""

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            self.process = None


# --- the verdict ----------------------------------------------------------------------


@dataclass
class Tally:
    """What became of the files of one kind."""

    codes: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)


def violations(code: int | None, trouble: str, log: str, left: list[str]) -> Iterator[str]:
    if trouble:
        yield trouble
        return
    if code not in (0, 2):
        last = log.strip().splitlines()[-1:] or [""]
        yield f"exit code {code}: {last[0]}"
    if "Traceback (most recent call last)" in log and code in (0, 2):
        yield "a traceback on the terminal"
    if code == 2:
        errors = [line for line in log.splitlines() if line.startswith("omni2sound: ")]
        if len(errors) != 1:
            yield f"{len(errors)} error lines: {log.strip()[-200:]!r}"
        if left:
            yield f"left behind: {left}"
    if code == 0:
        if partial := [name for name in left if name.startswith(".") or ".part" in name]:
            yield f"left behind: {partial}"
        if not left:
            yield "success without a file"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--through", choices=("media", "cli"), default="media")
    parser.add_argument("--model", default="embedded", help="for --through cli")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit-s", type=float, default=20.0)
    parser.add_argument("--only", help="one kind of damage, by name")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.through, options.model)
        return 0
    kinds = [kind for kind in KINDS if options.only in (None, kind.__name__)]
    if not kinds:
        parser.error(f"--only: choose from {', '.join(kind.__name__ for kind in KINDS)}")
    tallies: defaultdict[str, Tally] = defaultdict(Tally)
    found: list[str] = []
    worker = Worker(options.through, options.model)
    with tempfile.TemporaryDirectory(prefix="damaged-media-") as temporary:
        root = Path(temporary)
        kitchen = Kitchen(root)
        try:
            for number in range(options.count):
                kind = kinds[number % len(kinds)]
                rng = Rng(f"{options.seed}/{number}")
                name, data = kind(rng, kitchen)
                suffix = rng.choice((".mp4", ".mp4", ".mkv", ".mov", ".webm"))
                folder = root / "case"
                (folder / "out").mkdir(parents=True)
                (folder / name).write_bytes(data)
                job = {
                    "path": str(folder / name),
                    "out": str(folder / "out" / f"clip{suffix}"),
                    "log": str(root / "log"),
                    "keep_audio": number % 2 == 1,
                    "reencode": number % 3 == 2,
                }
                started = time.perf_counter()
                code, trouble = worker.run(job, options.limit_s)
                seconds = time.perf_counter() - started
                log = (root / "log").read_text(errors="replace")
                left = [path.name for path in (folder / "out").iterdir()]
                tally = tallies[kind.__name__]
                tally.seconds.append(seconds)
                outcome = "result" if code == 0 else "refused" if code == 2 else "broken"
                tally.codes[outcome] += 1
                found += [
                    f"#{number} {kind.__name__} {name!r} -> {suffix}: {problem}"
                    for problem in violations(code, trouble, log, left)
                ]
                _remove(folder)
        finally:
            worker.stop()
    _print_table(tallies, found)
    return 1 if found else 0


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def _print_table(tallies: dict[str, Tally], found: list[str]) -> None:
    table = io.StringIO()
    print(
        f"{'kind':26}{'files':>7}{'result':>8}{'refused':>9}{'broken':>8}{'slowest':>9}", file=table
    )
    total: Counter[str] = Counter()
    for name, tally in tallies.items():
        total += tally.codes
        row = "".join(
            f"{tally.codes[key]:>{width}}"
            for key, width in (("result", 8), ("refused", 9), ("broken", 8))
        )
        print(f"{name:26}{len(tally.seconds):>7}{row}{max(tally.seconds):>8.2f}s", file=table)
    print(
        f"{'all':26}{total.total():>7}{total['result']:>8}{total['refused']:>9}{total['broken']:>8}",
        file=table,
    )
    print(table.getvalue())
    for problem in found:
        print(problem)
    print(f"{len(found)} violations")


if __name__ == "__main__":
    sys.exit(main())
