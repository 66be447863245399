"""Are stores whole and the same, whoever made them and however often they were killed?

    python benchmarks/robustness/feature_store.py [--clips 500] [--workers 2] [--stage STORE]

Makes tiny clips (0.4 s, one in 25 with pictures) and their manifest, and runs
`omni2sound data features` on them; or, with scene material, `omni2sound scenes features` on
as many scenes of 4 s, one in five with pictures. Undisturbed in processes; then in processes and
on Ray, each with a SIGKILL to the whole process group when about half of the shards are there,
followed by a second run. Prints what was compared; the exit code is 1 if two stores differ or
a shard was made twice.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from omni2sound.data.corpora.manifest import Clip, write_manifest
from omni2sound.data.store.index import verify_store
from omni2sound.data.store.rows import FeatureStore
from omni2sound.media import Audio, write_audio

CLIP_S = 0.4
RATE_HZ = 16_000
ORPHANS_S = 5
"""Workers that outlive what started them may still give a shard its name."""
COMMAND = Path(sys.executable).with_name("omni2sound")


def make_corpus(folder: Path, num_clips: int) -> Path:
    clips = []
    for number in range(num_clips):
        rng = np.random.default_rng(number)
        noise = 0.2 * rng.standard_normal((1, int(CLIP_S * RATE_HZ))).astype(np.float32)
        write_audio(folder / f"{number}.wav", Audio(samples_CN=noise, sample_rate_hz=RATE_HZ))
        video = f"{number}.mp4" if number % 25 == 0 else None
        if video is not None:
            make_video(folder / video, rng)
        clips.append(
            Clip(
                clip_id=f"clip-{number:06d}",
                corpus="made",
                split="train",
                audio=f"{number}.wav",
                video=video,
                captions=(f"noise number {number}",),
            )
        )
    write_manifest(folder / "manifest.jsonl", clips, media=folder)
    return folder / "manifest.jsonl"


def make_video(path: Path, rng: np.random.Generator) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(int(CLIP_S * 25)):
            picture = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def on_clips(manifest: Path) -> list[str]:
    return [str(COMMAND), "data", "features", str(manifest), "--seconds", str(CLIP_S)]


def on_scenes(store: Path, count: int) -> list[str]:
    kinds = ["--scenes", f"audio:{count - count // 5}:4", "--scenes", f"main:{count // 5}:4"]
    return [str(COMMAND), "scenes", "features", "--corpus", str(store), *kinds]


def shards(store: Path) -> dict[str, int]:
    """Shards that are there, with the time at which each got its name."""
    return {p.name: p.stat().st_mtime_ns for p in store.glob("[!.]*.arrow")}


def run_and_kill(arguments: list[str], store: Path, num_shards: int) -> int:
    """Start, wait for half of the shards, kill everything that was started."""
    process = subprocess.Popen(arguments, start_new_session=True)
    while process.poll() is None and len(shards(store)) < num_shards // 2:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    time.sleep(ORPHANS_S)
    return code


def contents(store: Path) -> dict[str, str]:
    return {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(store.iterdir())
        if p.name != ".building"
    }


def timed(arguments: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--stage", type=Path, help="The folder of recordings and pictures.")
    given = parser.parse_args()
    engines = ["local"] + (["ray"] if importlib.util.find_spec("ray") else [])
    folder = Path(tempfile.mkdtemp(prefix="omni2sound-store-"))
    try:
        if given.stage is None:
            start = on_clips(make_corpus(folder, given.clips))
        else:
            start = on_scenes(given.stage, given.clips)

        def command(out: Path, engine: str) -> list[str]:
            how = ["--engine", engine, "--workers", str(given.workers)]
            return [*start, "--out", str(out), *how]

        reference = folder / "local"
        seconds = timed(command(reference, "local"))
        num_shards = len(shards(reference))
        rows = len(FeatureStore([reference]))
        print(f"local: {rows} rows of {given.clips} clips, {num_shards} shards, {seconds:.0f} s")
        wrong = rows != given.clips or bool(verify_store(reference))
        for engine in engines:
            store = folder / f"killed-{engine}"
            arguments = command(store, engine)
            code = run_and_kill(arguments, store, num_shards)
            before = shards(store)
            timed(arguments)
            after = shards(store)
            again = [n for n, made in before.items() if after[n] != made]
            missing = num_shards - len(after)
            same = contents(store) == contents(reference)
            print(
                f"{engine}, killed (exit code {code}) with {len(before)} of {num_shards} shards, "
                f"run again: {len(after) - len(before)} made, {len(again)} made twice, "
                f"{missing} missing, {'the same bytes' if same else 'OTHER BYTES'}"
            )
            wrong |= bool(again) or missing > 0 or not same
    finally:
        shutil.rmtree(folder)
    sys.exit(int(wrong))


if __name__ == "__main__":
    main()
