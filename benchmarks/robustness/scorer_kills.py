"""Do published scorers survive kills, and does the engine matter? Compares exports byte for byte.

    python -m benchmarks.robustness.scorer_kills [--clips 40] [--kills 20] [--manifest CLIPS]
        [--scorers pe-av imagebind+clap]

The networks of `--scorer pe-av` (with PE-A-Frame) and `imagebind+clap` are the real classes at tiny
sizes with random weights; captions are scripted. Each scorer annotates the clips undisturbed,
killed (SIGKILL) at random moments and resumed, and on Ray with two workers. Prints one line a run;
exit code 1 if an export differs.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.robustness.annotate_kills import write_clips
from omni2sound.annotate import STEPS_FILE, StepStore, Thresholds, annotate
from omni2sound.annotate.executor import Executor
from omni2sound.annotate.local.pe_av import PeScorer, PeSource
from omni2sound.annotate.local.published import PublishedScorer
from omni2sound.annotate.report.export import export
from omni2sound.annotate.roles import Scorer
from omni2sound.annotate.runs import RunSettings, source_clips
from omni2sound.data.corpora.manifest import read_manifest
from omni2sound.data.workers import Workers, kept_workers
from tests.annotate.crews import DOG, SCRIPT, crew
from tests.annotate.test_pe_scorer import tiny as tiny_pe
from tests.annotate.test_published import tiny as tiny_published

THRESHOLDS = Thresholds(
    scorer="random",
    route_audio_visual=0.0,
    route_drop=-1.0,
    hand_off=0.0,
    hand_off_music=0.0,
    hand_off_event=-1.0,
    drop=-0.5,
    drop_music=-0.5,
    drop_event=-1.0,
    source="random networks: about half of the clips take each way",
)
CAPTIONS = ("A dog barks.", "A bird sings.", "Rain falls loud.", "A loud dog barks, a bird sings.")

Build = Callable[[Executor], Scorer]


def pe_av(executor: Executor) -> Scorer:
    return PeScorer(source=PeSource(av="-", frames="-", load=tiny_pe), executor=executor)


def imagebind_clap(executor: Executor) -> Scorer:
    return PublishedScorer(folder=Path(), executor=executor, load=tiny_published)


SCORERS: dict[str, Build] = {"pe-av": pe_av, "imagebind+clap": imagebind_clap}


def run(manifest: Path, folder: Path, build: Build, workers: Workers) -> None:
    """Annotate, or go on."""
    folder.mkdir(exist_ok=True)
    clips = source_clips(read_manifest(manifest))
    RunSettings(
        manifest=str(manifest),
        junior="scripted",
        senior="scripted",
        vision="scripted",
        scorer="scripted",
        pictures="text",
        num_clips=len(clips),
        thresholds=THRESHOLDS,
    ).write(folder)
    junior = {c.name: {**DOG, "caption": CAPTIONS[i % 4]} for i, c in enumerate(clips)}

    async def go() -> None:
        with StepStore.open(folder / STEPS_FILE) as store, kept_workers():
            scorer = build(Executor(workers=workers))
            team = crew({**SCRIPT, "junior": junior}, scorer=scorer, thresholds=THRESHOLDS)
            async for _ in annotate(clips, team, store):
                pass

    asyncio.run(go())


def digest(folder: Path, out: Path) -> tuple[str, str]:
    """Digest of an export, and what it counts."""
    counted = export(folder, out)
    total = hashlib.sha256()
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        total.update(path.relative_to(out).as_posix().encode() + path.read_bytes())
    ends = {name: counted[name] for name in ("kept", "dropped", "failed", "escalated")}
    return total.hexdigest()[:16], str(ends)


def until_killed(manifest: Path, folder: Path, build: Build, after_s: float) -> bool:
    """Annotate in a child that is killed after `after_s`; False if it was over before."""
    child = os.fork()
    if child == 0:
        timer = threading.Timer(after_s, os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()
        run(manifest, folder, build, Workers())
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def compare(name: str, build: Build, manifest: Path, warm: Path, root: Path, kills: int) -> bool:
    """Print a line for each way; whether all exports are equal."""
    rng = random.Random(0)
    run(warm, root / f"{name}-warm", build, Workers())  # imports what children then share
    began = time.monotonic()
    run(manifest, root / f"{name}-whole", build, Workers())
    took_s = time.monotonic() - began
    killed = root / f"{name}-killed"
    done, tries = 0, 0
    while done < kills and tries < 5 * kills:
        tries += 1
        # Half of the time goes into work that is lost, and no kill should come after the end.
        done += until_killed(manifest, killed, build, rng.uniform(0.1, 1.9) * took_s / kills)
    found = set()
    for way, workers in (
        ("whole", Workers()),
        ("killed", Workers()),
        ("ray", Workers(engine="ray", count=2)),
    ):
        run(manifest, root / f"{name}-{way}", build, workers)  # what is whole stays as it is
        content, ends = digest(root / f"{name}-{way}", root / f"{name}-{way}-export")
        found.add(content)
        told = f", {done} kills" if way == "killed" else ""
        print(f"{name:15s} {way:7s} {content} {ends}{told}", flush=True)
    return len(found) == 1 and done == kills


def main() -> None:
    """Print a line for each scorer and way."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--manifest", type=Path, help="clips of one's own. Default: made clips")
    parser.add_argument("--scorers", nargs="+", choices=[*SCORERS], default=[*SCORERS])
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)  # runs are forked, so that a start costs nothing
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("warm", "clips"):
            (root / name).mkdir()
        warm = write_clips(root / "warm", 1)
        manifest = options.manifest or write_clips(root / "clips", options.clips, pictured=2)
        equal = [
            compare(name, SCORERS[name], manifest, warm, root, options.kills)
            for name in options.scorers
        ]
    print("all exports are equal" if all(equal) else "EXPORTS DIFFER, or too few kills")
    sys.exit(not all(equal))


if __name__ == "__main__":
    main()
