"""Does scoring hold its clips? Peak memory of judging and counting 500, 3,000 and 15,000 sounds.

    python benchmarks/speed/bench_memory.py [--clips 500 3000 15000] [--engine local|ray]
        [--workers 1]
        [--tagger cheap|tagger|yamnet]

In:   nothing; a tenth of a second of noise per clip, in files, real and made.
Out:  for each number of clips: seconds, peak memory of the process that counts (its workers are
      others, but for one local worker), and what it grew by per clip; the scores' digest, which no
      engine changes. Exit code 1 if memory grows by more than 12 kB a clip.

The path is the real one: files checked, tagged by jobs through the executor, entries on disk,
FD, KID, KL and IS with intervals from entries that are read one at a time. What must not be
held are waveforms (8 s after padding: 512 kB) and patch embeddings (17 kB, twice; of YAMNet four
times that); what is held of each clip are two mean embeddings and two rows of logits (4.6 kB),
names and numbers. The cheap tagger makes spectra instead of asking a network, and is known to
this process alone: no tagger for Ray.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from omni2sound.bench.metrics import tagging
from omni2sound.bench.scoring.evaluate import evaluate
from omni2sound.bench.scoring.options import ScoringOptions
from omni2sound.bench.systems.folder import check_folder
from omni2sound.bench.systems.system import System
from omni2sound.bench.tracks.track import TrackClip, TrackInfo, read_track, write_track
from omni2sound.data.workers import EngineName, Workers

RATE_HZ = 16_000
CLIP_S = 0.1
MOST_BYTES = 16_000
"""A clip: KID and KL need its mean embedding (1,024 numbers of 8 bytes) and logits (521): 12.4 kB
Its waveform and patches would be 35 kB more."""


class CheapTagger:
    """Spectra as embeddings: no network, but as many numbers."""

    name = "cheap"
    class_names = tuple(f"band {k}" for k in range(64))
    sample_rate_hz, patch_samples, patch_hop_samples = RATE_HZ, 15_360, 7_680
    top_k, least_score = 3, 0.0
    vocabulary: Literal["catalogue"] = "catalogue"

    def scores_and_embeddings(
        self, waveform_N: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        padded = np.pad(waveform_N, (0, -len(waveform_N) % self.patch_hop_samples))
        patches = padded.reshape(-1, self.patch_hop_samples)
        spectra = np.abs(np.fft.rfft(patches, axis=1))[:, : 256 * 15].reshape(len(patches), 256, 15)
        bands = np.log(spectra.mean(axis=2) + 1e-3).astype(np.float32)
        scores = 1 / (1 + np.exp(-bands.reshape(len(patches), 64, 4).mean(axis=2)))
        return scores.astype(np.float32), bands


tagging.TAGGERS.register("cheap", CheapTagger)


def make(folder: Path, count: int, seed: int) -> None:
    """Noise of another colour for every clip."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for k in range(count):
        noise = rng.standard_normal(round(CLIP_S * RATE_HZ))
        colour = rng.standard_normal(8) + seed
        sound = np.convolve(noise, colour / np.abs(colour).sum(), "same")
        soundfile.write(folder / f"c{k:05d}.wav", 0.1 * sound, RATE_HZ)


def measure(folder: Path, count: int, tagger: str, engine: EngineName, num_workers: int) -> None:
    """In a process of its own, so that its peak is of this number of clips alone."""
    workers = Workers(engine=engine, count=num_workers)
    begin = time.perf_counter()
    make(folder / "audio", count, 0)
    make(folder / "made", count, 1)
    clips = [
        TrackClip(
            clip_id=f"c{k:05d}",
            part="main",
            caption="noise",
            duration_s=CLIP_S,
            audio=f"own:audio/c{k:05d}.wav",
        )
        for k in range(count)
    ]
    write_track(folder, TrackInfo(name="noise", version="1"), clips)
    ready = time.perf_counter()
    track = read_track(folder)
    check = check_folder(folder / "made", track.clips, workers=workers)
    assert not check.problems
    made = System(name="made", sounds={s.clip_id: s for s in check.sounds})
    options = ScoringOptions(taggers=(tagger,), cache_folder=folder / "cache", workers=workers)
    evaluation = evaluate(track, [made], options, on_step=lambda step: lambda done, total: None)
    scores = {s.name: s.estimate for r in evaluation.rows if r.system == "made" for s in r.scores}
    digest = hashlib.sha256(repr(sorted(scores.items())).encode()).hexdigest()
    told = ", ".join(f"{n} {e.value:.4g}" for n, e in scores.items())
    seconds = time.perf_counter() - ready
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    cpu = sum(
        r.ru_utime + r.ru_stime
        for r in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
    print(
        f"{count} clips: {seconds:.0f} s (files written in {ready - begin:.0f} s before), "
        f"{cpu:.0f} s of CPU in all, peak {peak / 2**20:.0f} MiB; {told}; {digest[:12]}",
        flush=True,
    )
    (folder / "peak").write_text(str(peak))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, nargs="+", default=[500, 3000, 15_000])
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tagger", choices=("cheap", "tagger", "yamnet"), default="cheap")
    given = parser.parse_args(arguments)
    if (given.engine, given.tagger) == ("ray", "cheap"):
        parser.error("workers of Ray do not know the cheap tagger; give --tagger tagger")
    context = multiprocessing.get_context("spawn")
    peaks = []
    with tempfile.TemporaryDirectory() as scratch:
        for count in given.clips:
            folder = Path(scratch) / str(count)
            process = context.Process(
                target=measure, args=(folder, count, given.tagger, given.engine, given.workers)
            )
            process.start()
            process.join()
            if process.exitcode:
                return 2
            peaks.append(int((folder / "peak").read_text()))
    if len(peaks) < 2:
        return 0
    growth = (peaks[-1] - peaks[0]) / (given.clips[-1] - given.clips[0])
    load = os.getloadavg()[0]
    print(
        f"{growth / 1000:.1f} kB for each more clip (most: {MOST_BYTES / 1000:g}), load {load:.1f}"
    )
    return 0 if growth <= MOST_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
