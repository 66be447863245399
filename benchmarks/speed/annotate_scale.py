"""What annotation takes as clips grow: rate, memory, store, resume, status and export.

    python -m benchmarks.speed.annotate_scale [--clips 2000 10000] [--target 470000] [--copies 0]

The commands themselves, each in a process of its own, over clips of one short sound without
pictures. Models are scripted, so what is measured is everything but networks and servers: every
fifth clip fails the sentence rule, goes to the senior and is dropped. Stores of real scorers are
larger by their embeddings (joint, CLAP and PE-AV: 1 to 3 kB a clip). Each clip has a file of its
own name; names share files, since a resumed run asks for each name's size and time. The last row is
a straight line through the two largest sizes, up to --target clips; it is a calculation, not a run.
With --copies the rows of the smallest run are copied so often inside of its store, under other
names and with the stamps of their own clips. On that store are measured: status, a resumed run that
has notes of no clip (as after a change of the manifest), one that has them all, and one where
every hundredth clip is left to do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from omni2sound.data.corpora.manifest import Clip, read_manifest, write_manifest

LINKS = 30_000

SCRIPT: dict[str, Any] = {
    "junior": {
        "*": {
            "caption": "A dog barks, then a bell rings.",
            "events": [
                {"what": w, "start_s": s, "end_s": s + 0.1, "on_screen": None, "confidence": 0.9}
                for w, s in (("a dog", 0.0), ("a bell", 0.1))
            ],
            "is_music": False,
        }
    },
}
SCRIPT["senior"] = {
    "reasoning": "clear",
    "listen_again": None,
    "answer": SCRIPT["junior"]["*"],
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One number of clips."""

    clips: int
    run_s: float
    run_cpu_s: float
    run_peak_mib: float
    store_mb: float
    kb_a_step: float
    resume_s: float
    resume_cpu_s: float
    resume_peak_mib: float
    status_s: float
    status_cpu_s: float
    export_s: float
    export_cpu_s: float
    export_peak_mib: float
    export_mb: float


def prepare(folder: Path, count: int) -> list[str]:
    """Write manifest and script; return the command of the run."""
    rng = np.random.default_rng(0)
    soundfile.write(folder / "s.wav", 0.2 * rng.standard_normal(4_000), 16_000, subtype="PCM_16")
    names = [f"{number:07d}" for number in range(count)]
    write_clips(folder, names)
    low = {f"made/{name}": {"similarity": None, "score": 0.3} for name in names[::5]}
    scores = {"*": {"similarity": None, "score": 0.5}, **low}
    (folder / "script.json").write_text(json.dumps({**SCRIPT, "scorer": scores}))
    model = f"scripted:{folder / 'script.json'}"
    return [
        *("annotate", "run", str(folder / "clips.jsonl"), str(folder / "run")),
        *("--junior", model, "--senior", model, "--pictures", "none", "--workers", "1"),
    ]


def write_clips(folder: Path, names: Sequence[str]) -> None:
    """Write a manifest of these clips, each with a file of its own name."""
    for number, name in enumerate(names):
        target = folder / "media" / name[:4] / f"{name}.wav"
        target.parent.mkdir(parents=True, exist_ok=True)
        if number % LINKS == 0:  # file systems limit the names of a file
            source = target.with_suffix(".source")
            source.write_bytes((folder / "s.wav").read_bytes())
        if not target.exists():
            target.hardlink_to(source)
    clips = (
        Clip(
            clip_id=name,
            corpus="made",
            split="train",
            audio=f"{name[:4]}/{name}.wav",
            duration_s=0.25,
        )
        for name in names
    )
    write_manifest(folder / "clips.jsonl", clips, media=folder / "media")


def timed(*argv: str) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak MiB of a command."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "omni2sound", "-q", *argv]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(argv)}: exit code {process.returncode}")
    return time.perf_counter() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def size_mb(folder: Path, pattern: str = "*") -> float:
    return sum(p.stat().st_size for p in folder.rglob(pattern) if p.is_file()) / 1e6


def measure(count: int) -> Measured:
    """Run every command over so many clips."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = prepare(folder, count)
        run_s, run_cpu_s, run_peak = timed(*command)
        resume_s, resume_cpu_s, resume_peak = timed(*command)
        status_s, status_cpu_s, _ = timed("annotate", "status", str(folder / "run"))
        export_s, export_cpu_s, export_peak = timed(
            "annotate", "export", str(folder / "run"), "--out", str(folder / "export")
        )
        store = folder / "run" / "steps.sqlite"
        with sqlite3.connect(store) as db:
            ((steps,),) = db.execute("SELECT count(*) FROM steps")
        store_mb = size_mb(folder / "run", "steps.sqlite*")
        return Measured(
            clips=count,
            run_s=run_s,
            run_cpu_s=run_cpu_s,
            run_peak_mib=run_peak,
            store_mb=store_mb,
            kb_a_step=1000 * store_mb / steps,
            resume_s=resume_s,
            resume_cpu_s=resume_cpu_s,
            resume_peak_mib=resume_peak,
            status_s=status_s,
            status_cpu_s=status_cpu_s,
            export_s=export_s,
            export_cpu_s=export_cpu_s,
            export_peak_mib=export_peak,
            export_mb=size_mb(folder / "export"),
        )


def copy_rows(folder: Path, count: int, copies: int) -> None:
    """Make the run one of `copies` times as many clips, with the ends that they would have."""
    names = [f"{number:07d}" for number in range(count * copies)]
    write_clips(folder, names)
    store = folder / "run" / "steps.sqlite"
    columns = "step, key, record, made_at, outcome, stamp"
    with sqlite3.connect(store) as db:
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            f" INSERT INTO steps (clip, {columns}) SELECT"
            f" printf('made/%07d', substr(clip, 6) + i * ?), {columns} FROM n, steps",
            (copies - 1, count),
        )
        db.execute("DELETE FROM memo")
        db.executemany("UPDATE steps SET stamp = ? WHERE clip = ? AND step = 'end'", _ends(folder))
    settings = json.loads((folder / "run" / "run.json").read_text())
    settings["num_clips"] = count * copies
    (folder / "run" / "run.json").write_text(json.dumps(settings))


def _ends(folder: Path) -> list[tuple[str, str]]:
    """Stamp and name of each clip."""
    from omni2sound.annotate.build import CrewSettings, open_crew
    from omni2sound.annotate.executor import Executor
    from omni2sound.annotate.runs import source_clips
    from omni2sound.annotate.workflow import stamps
    from omni2sound.llm import CallStore

    model = f"scripted:{folder / 'script.json'}"
    settings = CrewSettings(junior=model, senior=model, pictures="none")

    async def stamp_all() -> list[tuple[str, str]]:
        with CallStore.open(folder / "calls.sqlite") as calls:
            async with open_crew(settings, calls=calls, executor=Executor()) as crew:
                _, stamp = stamps(crew)
                clips = source_clips(read_manifest(folder / "clips.jsonl"))
                return [(stamp(clip), clip.name) for clip in clips]

    return asyncio.run(stamp_all())


def measure_copies(count: int, copies: int) -> None:
    """Print what status and resumed runs take on a store with so many copies of a run's rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = prepare(folder, count)
        timed(*command)
        # In a process of its own: those that are measured inherit the peak of this one.
        module = ("-m", "benchmarks.speed.annotate_scale", "--copy-in", str(folder))
        sizes = ("--clips", str(count), "--copies", str(copies))
        subprocess.run([sys.executable, *module, *sizes], check=True)
        print(f"\n{count * copies} clips, store of {size_mb(folder / 'run'):.0f} MB")
        status = ("annotate", "status", str(folder / "run"))
        for what, argv in (
            ("status, the first time", status),
            ("status", status),
            ("resumed without notes", command),
            ("resumed", command),
        ):
            print(f"{what}: {spent(*argv)}", flush=True)
        with sqlite3.connect(folder / "run" / "steps.sqlite") as db:
            db.execute("DELETE FROM steps WHERE clip LIKE '%00'")
        print(f"resumed, every hundredth clip left: {spent(*command)}")


def spent(*argv: str) -> str:
    """Time and memory of a command in words."""
    wall_s, cpu_s, peak_mib = timed(*argv)
    return f"{wall_s:.1f} s, {cpu_s:.1f} s of CPU, peak {peak_mib:.0f} MiB"


def line(small: Measured, large: Measured, target: int) -> dict[str, float]:
    """Each number at `target` clips on the straight line through two sizes."""
    found = {}
    for field in fields(Measured):
        a, b = getattr(small, field.name), getattr(large, field.name)
        found[field.name] = b + (b - a) / (large.clips - small.clips) * (target - large.clips)
    return {**found, "clips": target, "kb_a_step": large.kb_a_step}


def main() -> None:
    """Print a line for each size, then the calculation."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, nargs="+", default=[2_000, 10_000])
    parser.add_argument("--target", type=int, default=470_000)
    parser.add_argument("--copies", type=int, default=0)
    parser.add_argument("--copy-in", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.copy_in is not None:
        copy_rows(options.copy_in, options.clips[0], options.copies)
        return
    names = [field.name for field in fields(Measured)]
    print("| " + " | ".join([*names, "clips a second"]) + " |")
    print("|" + "---|" * (len(names) + 1), flush=True)
    found = []
    for count in sorted(options.clips):
        found.append(measure(count))
        cells = [f"{getattr(found[-1], name):.4g}" for name in names]
        print("| " + " | ".join([*cells, f"{count / found[-1].run_s:.0f}"]) + " |", flush=True)
    if len(found) > 1:
        reckoned = line(found[-2], found[-1], options.target)
        cells = [f"{reckoned[name]:.6g}" for name in names]
        print("| " + " | ".join([*cells, "calculated"]) + " |")
    if options.copies > 1:
        measure_copies(min(options.clips), options.copies)


if __name__ == "__main__":
    main()
