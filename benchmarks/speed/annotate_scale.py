"""What annotation takes as clips grow: rate, memory, store, resume, status and export.

    python -m benchmarks.speed.annotate_scale [--clips 2000 10000] [--target 470000] [--copies 0]

The commands themselves, each in a process of its own, over clips of one short sound without
pictures. Models are scripted, so what is measured is everything but networks and servers: every
fifth clip fails the sentence rule, goes to the senior and is dropped. Stores of real scorers are
larger by their embeddings (joint, CLAP and PE-AV: 1 to 3 kB a clip). The last table is a straight
line through the two largest sizes, up to --target clips; it is a calculation, not a run. With
--copies the rows of the smallest run are copied so often inside of its store, under other names,
and status is measured on that.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from omni2sound.data.corpora.manifest import Clip, write_manifest

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
    clips = (
        Clip(clip_id=name, corpus="made", split="train", audio="s.wav", duration_s=0.25)
        for name in names
    )
    write_manifest(folder / "clips.jsonl", clips, media=folder)
    low = {f"made/{name}": {"similarity": None, "score": 0.3} for name in names[::5]}
    scores = {"*": {"similarity": None, "score": 0.5}, **low}
    (folder / "script.json").write_text(json.dumps({**SCRIPT, "scorer": scores}))
    model = f"scripted:{folder / 'script.json'}"
    return [
        *("annotate", "run", str(folder / "clips.jsonl"), str(folder / "run")),
        *("--junior", model, "--senior", model, "--pictures", "none", "--workers", "1"),
    ]


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


def status_of_copies(count: int, copies: int) -> str:
    """Time `status` on a store with so many copies of a run's rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        timed(*prepare(folder, count))
        store = folder / "run" / "steps.sqlite"
        columns = "step, key, record, made_at, outcome, stamp"
        with sqlite3.connect(store) as db:
            db.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
                f" INSERT INTO steps (clip, {columns})"
                f" SELECT clip || '-' || i, {columns} FROM n, steps",
                (copies - 1,),
            )
        settings = json.loads((folder / "run" / "run.json").read_text())
        settings["num_clips"] = count * copies
        (folder / "run" / "run.json").write_text(json.dumps(settings))
        first_s, first_cpu_s, _ = timed("annotate", "status", str(folder / "run"))
        wall_s, cpu_s, peak_mib = timed("annotate", "status", str(folder / "run"))
        return (
            f"status of {count * copies} clips, store of {size_mb(folder / 'run'):.0f} MB: "
            f"{wall_s:.1f} s ({cpu_s:.1f} s of CPU), the first time {first_s:.1f} s "
            f"({first_cpu_s:.1f} s of CPU), peak {peak_mib:.0f} MiB"
        )


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
    options = parser.parse_args()
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
        print(status_of_copies(min(options.clips), options.copies))


if __name__ == "__main__":
    main()
