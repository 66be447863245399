"""How many of the tagger's best classes should count as heard, and from which score on?

    python benchmarks/checks/tagger_limits.py --corpus CORPUS [--test]

On real recordings of the validation split (17 of the 43 classes; nothing may be chosen on the
test split, `--test` only looks): the mean over classes of the share of recordings that are heard
as what they are, and how many other classes are heard in a recording, and in coloured noise, in
which all are wrong. The rows are the choice of docs/decisions/0037: the fewest best classes that
hear .8, then the highest least score that costs no hit.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.metrics.tagging import patch_scores
from omni2sound.encoders.metric.tagger import Tagger
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets

BEST = (1, 2, 3, 4)
LEAST = (0.0, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2)
NUM_NOISES = 60


def scores_of(tagger: Tagger, sounds: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(sounds, classes): the best score of each class; 0 where nothing is heard."""
    rows = []
    for sound in sounds:
        scores_PK = patch_scores(sound, SAMPLE_RATE_HZ, tagger)
        none = np.zeros(len(tagger.class_names), dtype=np.float32)
        rows.append(none if scores_PK is None else scores_PK.max(axis=0))
    return np.stack(rows)


def noises() -> list[NDArray[np.float32]]:
    """2 s of noise each, from white to brown."""
    rng = np.random.default_rng(0)
    made = []
    for tilt in np.linspace(0, 2, NUM_NOISES):
        spectrum = np.fft.rfft(rng.standard_normal(2 * SAMPLE_RATE_HZ))
        spectrum *= (np.arange(len(spectrum)) + 1.0) ** (-tilt / 2)
        sound = np.fft.irfft(spectrum)
        made.append((0.3 * sound / np.abs(sound).max()).astype(np.float32))
    return made


def heard(scores_NK: NDArray[np.float32], best: int, least: float) -> NDArray[np.bool_]:
    """(sounds, classes): among the best, and not below the least score."""
    places = np.argsort(np.argsort(-scores_NK, axis=1, kind="stable"), axis=1)
    among: NDArray[np.bool_] = (places < best) & (scores_NK >= least)
    return among


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--tagger", default="tagger")
    parser.add_argument("--test", action="store_true")
    given = parser.parse_args()
    assets, tagger = SceneAssets.open(given.corpus), Tagger.load(given.tagger)
    split = "test" if given.test else "val"
    recordings = [r for r in assets.catalogue.recordings if r.split == split]
    names = list(tagger.class_names)
    own = np.array([names.index(r.class_id) for r in recordings])
    real = scores_of(tagger, [assets.waveform(r.recording_id) for r in recordings])
    noise = scores_of(tagger, noises())
    print(f"{len(recordings)} recordings of {len(set(own))} classes ({split}), {NUM_NOISES} noises")
    print("best  least score  own class heard  others heard  heard in noise")
    for best, least in [(b, 0.0) for b in BEST] + [(tagger.top_k, s) for s in LEAST[1:]]:
        found = heard(real, best, least)
        hits = found[np.arange(len(own)), own]
        rate = np.mean([hits[own == k].mean() for k in sorted(set(own))])
        others = (found.sum(axis=1) - hits).mean()
        in_noise = heard(noise, best, least).sum(axis=1).mean()
        print(f"{best:4d}  {least:11.2f}  {rate:15.3f}  {others:12.2f}  {in_noise:14.2f}")
    print(f"as it is shipped: best {tagger.top_k}, least score {tagger.least_score:g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
