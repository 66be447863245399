"""How many scenes a second does the stage make, as arrays and as files?

    python benchmarks/speed/scene_speed.py --corpus CORPUS [--arrays 60] [--files 12]

Arrays are what training reads: 4 s, 25 frames of 96 pixels a second, and the waveform. Files
are what `omni2sound scenes build` writes: 5 s of H.264, mix, stems and truth. Each is timed
with one process and with two; then the first files are made again and their bytes compared.
Limits on two cores: 10 scenes a second as arrays, 1 as files. On a machine that others use too the
second figure counts: scenes a second of processor time. The exit code is 1 if the bytes differ; a
busy machine is slow and not wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.export.files import write_scene
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.render.render import render_audio, render_frames

Make = Callable[[int], None]
ARRAY_LIMIT, FILE_LIMIT = 10.0, 1.0


def make_arrays(assets: SceneAssets, index: int) -> None:
    scene = draw_scene(assets, split="train", seed=0, index=index, kind="main", duration_s=4.0)
    render_frames(scene, assets, fps=25, size_px=96)
    render_audio(scene, assets)


def make_files(assets: SceneAssets, out: Path, index: int) -> None:
    scene = draw_scene(assets, split="train", seed=0, index=index, kind="main", duration_s=5.0)
    write_scene(scene, assets, out)


def make_some(make: Make, indices: range) -> None:
    for index in indices:
        make(index)


def processor_s() -> float:
    """Of this process and of its children that have ended."""
    return sum(os.times()[:4])


def scenes_a_second(make: Make, count: int, num_processes: int) -> tuple[float, float]:
    """By the clock, and by processor time."""
    parts = [range(first, count, num_processes) for first in range(num_processes)]
    started, worked = time.perf_counter(), processor_s()
    if num_processes == 1:
        make_some(make, parts[0])
    else:
        # Forked, so that what one process has read and measured is there in all.
        fork = multiprocessing.get_context("fork")
        workers = [fork.Process(target=make_some, args=(make, part)) for part in parts]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if any(worker.exitcode for worker in workers):
            raise SystemExit("a process that made scenes failed; its error is above")
    return count / (time.perf_counter() - started), count / (processor_s() - worked)


def digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        found.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--arrays", type=int, default=60)
    parser.add_argument("--files", type=int, default=12)
    given = parser.parse_args()
    assets = SceneAssets.open(given.corpus)
    make_some(partial(make_arrays, assets), range(given.arrays))  # reads and measures recordings
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f} before the start")
    print("scenes a second        by the clock  of processor time")
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / str(k) for k in (1, 2)]
        for processes, folder in zip((1, 2), folders, strict=True):
            for what, limit, make, count in (
                ("arrays", ARRAY_LIMIT, partial(make_arrays, assets), given.arrays),
                ("files", FILE_LIMIT, partial(make_files, assets, folder), given.files),
            ):
                clock, worked = scenes_a_second(make, count, processes)
                name = f"{what}, {processes} process(es)"
                print(f"{name:22} {clock:12.1f} {worked:18.1f}  (limit {limit:g})", flush=True)
        same = digest(folders[0]) == digest(folders[1])
    print("the same seed gave the same bytes" if same else "FAIL: the same seed gave other bytes")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
