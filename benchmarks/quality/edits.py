"""Laws of `omni2sound edit`: what survives, how loud seams are, what an edit costs.

Run:  python benchmarks/quality/edits.py [--sounds 100] [--seconds 8] [--costs 5] [--log FILE]

For each of --sounds sounds (examples of the model's kinds in turn, generated from a prompt), two
ranges of 1 s are made anew with the same prompt and another seed, which gives four joins. Printed:

    outside     samples farther than 0.08 s from a range that differ (should be 0)
    energy      step of the level over 20 ms at a range's end, and at as many random places of the
                given sound, in dB: mean and 95 % interval over sounds (bootstrap)
    transition  the largest step from 60 ms before a range's end to 300 ms inside it, wherever the
                fade lies, and in as long stretches of the given sound
    flux        the largest rise of the spectrum (rises in dB over 20 ms, mean of 64 mel bands) in
                the same stretches
    cost        seconds of CPU (all threads) of an edit of one range of 2 s, and of a whole sound of
                --seconds s, both without loading, of --costs sounds; neither slows down when
                other work runs beside

Levels below -70 dBFS count as -70, and places where both sides are don't count at all: nobody hears
a fade from there to nothing. --log keeps what was measured of each sound, so that a run that was
stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omni2sound.generate.edit.asked import Edit
from omni2sound.generate.edit.edit import edit
from omni2sound.generate.edit.ranges import Range
from omni2sound.generate.edit.seams import EDGE_S
from omni2sound.generate.load import PipelineOptions
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.generate.words.kinds import all_kinds, example_of

SIDE_S, FLOOR_DB = 0.02, -70.0
OUTSIDE_S, INSIDE_S = 0.06, 0.3
NUM_BANDS = 64
NAMES = ("energy", "transition", "flux")

Samples = NDArray[np.float32]


def level_db(samples_N: Samples) -> float:
    return max(FLOOR_DB, float(10 * np.log10(np.mean(samples_N.astype(np.float64) ** 2) + 1e-12)))


def bands_db(samples_N: Samples, rate_hz: int) -> NDArray[np.float64]:
    power_K = np.abs(np.fft.rfft(samples_N * np.hanning(len(samples_N)))) ** 2
    edges = np.geomspace(50, rate_hz / 2, NUM_BANDS + 1) * len(samples_N) / rate_hz
    parts = [power_K[int(a) : max(int(a) + 1, int(b))] for a, b in pairwise(edges)]
    return np.array([10 * np.log10(part.mean() + 1e-9) for part in parts])


def step_at(samples_N: Samples, rate_hz: int, at: int) -> tuple[float, float] | None:
    """Step of the level over a sample in dB, and the rise of the spectrum; None in silence."""
    side = round(SIDE_S * rate_hz)
    before_N, after_N = samples_N[at - side : at], samples_N[at : at + side]
    if min(len(before_N), len(after_N)) < side:
        return None
    levels = level_db(before_N), level_db(after_N)
    if max(levels) <= FLOOR_DB:
        return None
    rises = bands_db(after_N, rate_hz) - bands_db(before_N, rate_hz)
    return abs(levels[1] - levels[0]), float(np.maximum(rises, 0).mean())


def measured(
    samples_N: Samples, rate_hz: int, places: Sequence[tuple[float, float]]
) -> dict[str, list[float]]:
    """Steps and rises at places, given as second and direction of the inside (1 or -1)."""
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    for at_s, inward in places:
        if (here := step_at(samples_N, rate_hz, round(at_s * rate_hz))) is not None:
            found["energy"].append(here[0])
        ends = sorted((at_s - inward * OUTSIDE_S, at_s + inward * INSIDE_S))
        grid = np.arange(ends[0], ends[1], SIDE_S / 2)
        near = [v for t in grid if (v := step_at(samples_N, rate_hz, round(t * rate_hz)))]
        if near:
            found["transition"].append(max(step for step, _ in near))
            found["flux"].append(max(rise for _, rise in near))
    return found


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


def one_sound(pipeline: TorchPipeline, number: int, seconds: float) -> dict[str, Any]:
    """Edit one sound and measure it."""
    prompts = [example_of(kind) for kind in all_kinds()]
    prompt, rng = prompts[number % len(prompts)], np.random.default_rng(number)
    given = pipeline(prompt=prompt, duration_s=seconds, seed=number).audio
    half = seconds / 2
    starts = (rng.uniform(0.3, half - 1.3), rng.uniform(half + 0.3, seconds - 1.3))
    ranges = tuple(Range(start_s=float(s), end_s=float(s) + 1) for s in starts)
    asked = Edit(ranges=ranges, prompt=prompt, seed=10_000 + number)
    made = next(iter(edit(pipeline, given, asked))).audio
    rate_hz = given.sample_rate_hz
    time_s = np.arange(given.num_samples) / rate_hz
    far = np.all([(time_s < r.start_s - EDGE_S) | (time_s > r.end_s + EDGE_S) for r in ranges], 0)
    num_changed = int((made.samples_CN != given.samples_CN)[:, far].sum())
    joins = [place for r in ranges for place in ((r.start_s, 1.0), (r.end_s, -1.0))]
    at_random = [(float(t), w) for t, w in zip(
        rng.uniform(0.4, seconds - 0.4, len(joins)), (1.0, -1.0) * 2, strict=True)]  # fmt: skip
    return {
        "number": number,
        "changed": num_changed,
        "joins": measured(made.samples_CN[0], rate_hz, joins),
        "elsewhere": measured(given.samples_CN[0], rate_hz, at_random),
    }


def costs(pipeline: TorchPipeline, count: int, seconds: float) -> tuple[float, float]:
    """Seconds of CPU of an edit of 2 s, and of a whole sound: medians."""
    middle = seconds / 2
    two = Range(start_s=middle - 1, end_s=middle + 1)
    spent = []
    for number in range(-1, count):  # the first one loads what is loaded at the first call
        begin = time.process_time()
        given = pipeline(prompt="rain", duration_s=seconds, seed=abs(number)).audio
        whole = time.process_time()
        next(iter(edit(pipeline, given, Edit(ranges=(two,), prompt="rain", seed=abs(number)))))
        spent.append((time.process_time() - whole, whole - begin))
    edit_s, whole_s = np.median(spent[1:], axis=0)
    return float(edit_s), float(whole_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sounds", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--costs", type=int, default=5)
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if args.log is not None and args.log.exists():
        rows = [json.loads(line) for line in args.log.read_text(encoding="utf-8").splitlines()]
    pipeline = PipelineOptions(model="embedded").load_torch()
    for number in range(len(rows), args.sounds):
        rows.append(one_sound(pipeline, number, args.seconds))
        if args.log is not None:
            with args.log.open("a", encoding="utf-8") as log:
                log.write(json.dumps(rows[-1]) + "\n")
    print(f"outside     {sum(row['changed'] for row in rows)} samples differ")
    for name in NAMES if rows else ():
        for label in ("joins", "elsewhere"):
            values = [row[label][name] for row in rows]
            mean, low, high = interval(values)
            count = sum(map(len, values))
            print(f"{name:11} {label:9} {mean:.2f} dB [{low:.2f}, {high:.2f}] at {count} places")
    if args.costs:
        edit_s, whole_s = costs(pipeline, args.costs, args.seconds)
        print(
            f"cost        2 s anew {edit_s:.2f} s, whole of {Fraction(args.seconds)} s "
            f"{whole_s:.2f} s (medians): ratio {edit_s / whole_s:.2f}"
        )


if __name__ == "__main__":
    main()
