"""Laws of `omni2sound edit`: what survives, how loud seams are, what an edit costs.

Run:  python benchmarks/quality/edits.py [--sounds 100] [--seconds 8]

For each of --sounds sounds (examples of the model's kinds in turn, generated from a prompt), two
ranges of 1 s are made anew with the same prompt and another seed, which gives four joins. Printed:

    outside     samples farther than 0.08 s from a range that differ (should be 0)
    energy      step of the level over 20 ms at joins, and at as many random places of the given
                sound, in dB: mean and 95 % interval over sounds (bootstrap)
    flux        largest rise of the spectrum (sum over bands of rises in dB, mean of 64 mel bands)
                within 20 ms: the same
    cost        seconds of an edit of one range of 2 s, and of a whole sound of --seconds s, both
                without loading

Places where both sides are below -70 dBFS count neither for joins nor elsewhere.
"""

from __future__ import annotations

import argparse
import time
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from omni2sound.generate.edit.asked import Edit
from omni2sound.generate.edit.edit import edit
from omni2sound.generate.edit.ranges import Range
from omni2sound.generate.edit.seams import EDGE_S
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.generate.words.kinds import all_kinds, example_of

SIDE_S, FLOOR_DB = 0.02, -70.0
NUM_BANDS = 64


def level_db(samples_N: NDArray[np.float32]) -> float:
    return float(10 * np.log10(np.mean(samples_N.astype(np.float64) ** 2) + 1e-12))


def bands_db(samples_N: NDArray[np.float32], rate_hz: int) -> NDArray[np.float64]:
    power_K = np.abs(np.fft.rfft(samples_N * np.hanning(len(samples_N)))) ** 2
    edges = np.geomspace(50, rate_hz / 2, NUM_BANDS + 1) * len(samples_N) / rate_hz
    parts = [power_K[int(a) : max(int(a) + 1, int(b))] for a, b in pairwise(edges)]
    return np.array([10 * np.log10(part.mean() + 1e-9) for part in parts])


def steps_at(
    samples_N: NDArray[np.float32], rate_hz: int, at_s: float
) -> tuple[float, float] | None:
    """Step of the level over a place in dB, and the largest flux near it; None in silence."""
    side = round(SIDE_S * rate_hz)
    at = round(at_s * rate_hz)
    before, after = samples_N[at - side : at], samples_N[at : at + side]
    if max(level_db(before), level_db(after)) < FLOOR_DB:
        return None
    frames = [bands_db(samples_N[at + k * side // 2 : at + k * side // 2 + side], rate_hz)
              for k in range(-3, 3)]  # fmt: skip
    rises = [np.maximum(b - a, 0).mean() for a, b in pairwise(frames)]
    return abs(level_db(after) - level_db(before)), float(max(rises))


def interval(values_of_sounds: list[list[float]]) -> tuple[float, float, float]:
    """Mean and 95 % interval, sounds drawn anew with all of their places."""
    rng = np.random.default_rng(0)
    values = [v for v in values_of_sounds if v]
    means = []
    for _ in range(2000):
        drawn = rng.integers(0, len(values), len(values))
        means.append(np.mean(np.concatenate([values[k] for k in drawn])))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(np.mean(np.concatenate(values))), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sounds", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=8.0)
    args = parser.parse_args()
    pipeline = TorchPipeline.load("embedded")
    prompts = [example_of(kind) for kind in all_kinds()]
    rng = np.random.default_rng(1)
    names = ("energy", "flux")
    joins: dict[str, list[list[float]]] = {name: [] for name in names}
    elsewhere: dict[str, list[list[float]]] = {name: [] for name in names}
    num_changed, whole_s, edit_s = 0, [], []
    for number in range(args.sounds):
        prompt = prompts[number % len(prompts)]
        begin = time.perf_counter()
        given = pipeline(prompt=prompt, duration_s=args.seconds, seed=number).audio
        whole_s.append(time.perf_counter() - begin)
        half = args.seconds / 2
        starts = (rng.uniform(0.3, half - 1.3), rng.uniform(half + 0.3, args.seconds - 1.3))
        ranges = tuple(Range(start_s=float(s), end_s=float(s) + 1) for s in starts)
        asked = Edit(ranges=ranges, prompt=prompt, seed=10_000 + number)
        made = next(iter(edit(pipeline, given, asked))).audio
        rate_hz = given.sample_rate_hz
        time_s = np.arange(given.num_samples) / rate_hz
        far = np.all(
            [(time_s < r.start_s - EDGE_S) | (time_s > r.end_s + EDGE_S) for r in ranges], 0
        )
        num_changed += int((made.samples_CN != given.samples_CN)[:, far].sum())
        at_joins = [t for r in ranges for t in (r.start_s, r.end_s)]
        at_random = list(rng.uniform(0.1, args.seconds - 0.1, len(at_joins)))
        for found, sound, places in ((joins, made, at_joins), (elsewhere, given, at_random)):
            values = [v for t in places if (v := steps_at(sound.samples_CN[0], rate_hz, t))]
            for k, name in enumerate(names):
                found[name].append([v[k] for v in values])
        middle = args.seconds / 2
        two = Edit(
            ranges=(Range(start_s=middle - 1, end_s=middle + 1),), prompt=prompt, seed=number
        )
        begin = time.perf_counter()
        next(iter(edit(pipeline, given, two)))
        edit_s.append(time.perf_counter() - begin)
    print(f"outside    {num_changed} samples differ")
    for name in names:
        counts = [sum(map(len, found[name])) for found in (joins, elsewhere)]
        for label, found, count in zip(
            ("joins", "elsewhere"), (joins, elsewhere), counts, strict=True
        ):
            mean, low, high = interval(found[name])
            print(f"{name:10} {label:9} {mean:.2f} dB [{low:.2f}, {high:.2f}] at {count} places")
    ratio = np.median(edit_s) / np.median(whole_s)
    print(
        f"cost       2 s anew {np.median(edit_s):.2f} s, whole of {Fraction(args.seconds)} s "
        f"{np.median(whole_s):.2f} s (medians): ratio {ratio:.2f}"
    )


if __name__ == "__main__":
    main()
