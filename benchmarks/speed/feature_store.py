"""How fast a feature store of millions of clips opens and serves batches, and what it reads.

    python benchmarks/speed/feature_store.py make FOLDER [--clips 5000000] [--distinct 64]
    python benchmarks/speed/feature_store.py read FOLDER [--seconds 20]
    python benchmarks/speed/feature_store.py amplification FOLDER [--clips 2048]
    python benchmarks/speed/feature_store.py lance FOLDER [--clips 500000]     (pip install pylance)

`make` writes clips of tiny features (160 samples, 3 tokens) by the builder; after `--distinct`
shards of 1220 clips the others are copies of them, which takes a tenth of the time.
`read` opens the store in a process of its own and draws batches of 64 clips of all tasks from
random steps: seconds to open, memory beyond that of the imported libraries, samples a second on one
core, and whether a sampler made anew draws the same. `amplification` writes clips of the full
size's shapes (1 MB each) and counts the bytes that storage delivers for a few batches of each task,
with a cold page cache, over the bytes of the tensors that they hold. `lance` writes the same tiny
clips as a Lance table and takes random rows of the same columns.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from omni2sound.data.batches.batch import Batch, build_batch, sampler_for
from omni2sound.data.batches.hard_samples import Difficulty
from omni2sound.data.store.builder import build_store
from omni2sound.data.store.rows import ClipFeatures, FeatureStore, TextFeatures, write_shard

SHARD_CLIPS = 1220
FULL_SHARD_CLIPS = 512
"""A store of two million clips has as many."""
BATCHES = 8
"""Batches of 16 clips that `amplification` reads: few of 2,048, so that clips share no pages."""
TASKS = {"T2A": 1 / 3, "V2A": 1 / 3, "VT2A": 1 / 3}
DIFFICULTY = Difficulty(augment=False, null_prob=0.1)


@dataclass(frozen=True, kw_only=True)
class Job:
    name: str
    first: int
    last: int
    size: str


def clip_of(number: int, size: str) -> ClipFeatures:
    full = size == "full"
    rng = np.random.default_rng(number)
    tokens, width = (24, 768) if full else (3, 4)

    def half(*shape: int) -> np.ndarray:
        return rng.integers(0, 15_000, shape, dtype=np.uint16).view(np.float16)

    samples = 160_000 if full else 160
    return ClipFeatures(
        clip_id=f"clip-{number:08d}",
        duration_s=samples / 16_000,
        sound_N=rng.integers(-9000, 9000, samples, dtype=np.int16).astype(np.float32) / 32767,
        texts=tuple(
            TextFeatures(role="caption", text=f"caption {k}", states_TE=half(tokens, width))
            for k in range(2 if full else 1)
        ),
        vision_TV=half(80, 1024) if full else half(1, 4) if number % 2 else None,
        sync_LS=half(250, 768) if full else half(1, 4) if number % 2 else None,
        latents_LC=half(250, 64) if full else half(1, 4),
        classes=(f"class {number % 300}",),
        quality=number % 100 / 100,
        source=f"made:{number}",
    )


def rows(job: Job) -> Iterator[ClipFeatures]:
    yield from (clip_of(number, job.size) for number in range(job.first, job.last))


def make(folder: Path, num_clips: int, size: str, *, distinct: int) -> None:
    shard_clips = SHARD_CLIPS if size == "tiny" else FULL_SHARD_CLIPS
    jobs = [
        Job(
            name=f"{f // shard_clips:05d}", first=f, last=min(f + shard_clips, num_clips), size=size
        )
        for f in range(0, num_clips, shard_clips)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    full = [job for job in jobs if job.last - job.first == shard_clips]
    for place, job in enumerate(full[distinct:], start=distinct):
        path = folder / f"{job.name}.arrow"
        if not path.exists():
            original = folder / f"{full[place % distinct].name}.arrow"
            if not original.exists():
                write_shard(original, rows(full[place % distinct]))
            shutil.copyfile(original, path)
    began = time.perf_counter()
    built = build_store(folder, description={"made": size}, jobs=jobs, make=rows)
    size_mb = sum(p.stat().st_size for p in folder.iterdir()) / 1e6
    print(
        f"{built.num_clips} clips in {built.num_shards} shards ({built.num_found} found), "
        f"{size_mb:.0f} MB, {time.perf_counter() - began:.0f} s"
    )


def memory_mb() -> dict[str, float]:
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return {name: int(found[name]) / 1000 for name in ("RssAnon", "RssFile")}


def batch_of(store: FeatureStore, draw: object, step: int) -> Batch:
    return build_batch(
        store, draw, seed=0, step=step, difficulty=DIFFICULTY, text_tokens=4, waveforms=False
    )


def read(folder: Path, seconds: float) -> None:
    before = memory_mb()
    began, used = time.perf_counter(), time.process_time()
    store = FeatureStore([folder])
    batch_seconds = 64 * float(store.durations_s[0])
    sampler = sampler_for(store, seed=0, batch_seconds=batch_seconds)
    print(
        f"opened {len(store)} clips in {time.perf_counter() - began:.2f} s, "
        f"{time.process_time() - used:.2f} s of CPU"
    )
    steps = np.random.default_rng(0).integers(0, 1_000_000, 100_000).tolist()
    began, used, count, drawn = time.perf_counter(), time.process_time(), 0, []
    costs = []
    for step in steps:
        before_batch = time.process_time()
        draw = sampler.draw(step, TASKS)
        batch = batch_of(store, draw, step)
        count += len(batch.clip_ids)
        costs.append((time.process_time() - before_batch) / len(batch.clip_ids))
        drawn.append((step, batch.clip_ids, batch.noise_seeds_B))
        if time.perf_counter() - began > seconds:
            break
    taken, cpu = time.perf_counter() - began, time.process_time() - used
    after = memory_mb()
    quarter = 1 / np.quantile(costs, 0.25)
    print(
        f"{count} samples: {count / taken:.0f} a second, {count / cpu:.0f} a second of CPU, "
        f"more than {quarter:.0f} in the fastest quarter of batches"
    )
    print("memory, MB: " + ", ".join(f"{n} +{after[n] - before[n]:.0f}" for n in after))
    again = FeatureStore([folder])
    resumed = sampler_for(again, seed=0, batch_seconds=batch_seconds)
    for step, clip_ids, seeds in drawn[len(drawn) // 2 :][:50]:
        batch = batch_of(again, resumed.draw(step, TASKS), step)
        assert (batch.clip_ids, batch.noise_seeds_B) == (clip_ids, seeds), step
    print("resumed in the middle: the same clips and seeds")


def storage_bytes() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("read_bytes")).split()[1])


def amplification(folder: Path, num_clips: int) -> None:
    make(folder, num_clips, "full", distinct=num_clips)
    os.sync()
    for task in TASKS:
        for file in folder.glob("*.arrow"):
            descriptor = os.open(file, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
        command = [sys.executable, __file__, "used", str(folder), "--task", task]
        subprocess.run(command, check=True)


def used(folder: Path, task: str) -> None:
    store = FeatureStore([folder])
    sampler = sampler_for(store, seed=0, batch_seconds=160)
    seen: set[tuple[str, str]] = set()  # what a later batch finds in the page cache
    before = wanted = clips = 0
    for step in (10_000, *range(BATCHES)):
        batch = batch_of(store, sampler.draw(step, {task: 1.0}), step)
        for clip, text in zip(batch.clip_ids, batch.texts, strict=True):
            if (clip, "") not in seen:
                clips += 1
                wanted += 250 * 64 * 2 + (80 * 1024 * 2 + 250 * 768 * 2) * (task != "T2A")
            if text and (clip, text) not in seen:  # a clip has two captions, and one is drawn
                wanted += 24 * 768 * 2
            seen |= {(clip, ""), (clip, text)}
        if step == 10_000:  # the first batch reads the program's own pages, too
            before, wanted, clips = storage_bytes(), 0, 0
    read_bytes = storage_bytes() - before
    print(
        f"{task}: {clips} clips, {wanted / 1e6:.1f} MB used, {read_bytes / 1e6:.1f} MB read: "
        f"{read_bytes / wanted:.3f}"
    )


def lance_table(folder: Path, num_clips: int, seconds: float) -> None:
    import lance
    import pyarrow as pa

    if not folder.exists():

        def batches() -> Iterator[pa.RecordBatch]:
            for first in range(0, num_clips, 4096):
                clips = [clip_of(n, "tiny") for n in range(first, min(first + 4096, num_clips))]
                yield pa.RecordBatch.from_pylist([lance_row(c) for c in clips], schema=schema)

        example = lance_row(clip_of(1, "tiny"))
        schema = pa.RecordBatch.from_pylist([example]).schema
        began = time.perf_counter()
        lance.write_dataset(batches(), str(folder), schema=schema)
        print(f"written in {time.perf_counter() - began:.0f} s")
    before, began = memory_mb(), time.perf_counter()
    table = lance.dataset(str(folder))
    print(f"opened {table.count_rows()} clips in {time.perf_counter() - began:.2f} s")
    columns = {
        "T2A": ["clip_id", "text", "states", "latents"],
        "V2A": ["clip_id", "vision", "sync", "latents"],
        "VT2A": ["clip_id", "text", "states", "latents", "vision", "sync"],
    }
    rng = np.random.default_rng(0)
    began, cpu, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < seconds:
        wanted = rng.integers(0, num_clips, 64)
        take = partial(table.take, wanted.tolist())
        found = take(columns=columns[list(columns)[count // 64 % 3]])
        count += found.num_rows
    taken, cpu = time.perf_counter() - began, time.process_time() - cpu
    after = memory_mb()
    print(f"{count} rows: {count / taken:.0f} a second, {count / cpu:.0f} a second of CPU")
    print("memory, MB: " + ", ".join(f"{n} +{after[n] - before[n]:.0f}" for n in after))


def lance_row(clip: ClipFeatures) -> dict[str, object]:
    return {
        "clip_id": clip.clip_id,
        "duration_s": clip.duration_s,
        "quality": clip.quality,
        "text": clip.texts[0].text,
        "states": clip.texts[0].states_TE.tobytes(),
        "latents": b"" if clip.latents_LC is None else clip.latents_LC.tobytes(),
        "vision": b"" if clip.vision_TV is None else clip.vision_TV.tobytes(),
        "sync": b"" if clip.sync_LS is None else clip.sync_LS.tobytes(),
        "sound": (clip.sound_N * 32767).astype("<i2").tobytes(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["make", "read", "amplification", "used", "lance"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int)
    parser.add_argument("--distinct", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--task", default="T2A")
    given = parser.parse_args()
    if given.what == "make":
        make(given.folder, given.clips or 5_000_000, "tiny", distinct=given.distinct)
    elif given.what == "read":
        read(given.folder, given.seconds)
    elif given.what == "amplification":
        amplification(given.folder, given.clips or 2048)
    elif given.what == "used":
        used(given.folder, given.task)
    else:
        lance_table(given.folder, given.clips or 500_000, given.seconds)


if __name__ == "__main__":
    main()
