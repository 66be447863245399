"""Do the distances rise when real recordings are damaged?

    python benchmarks/checks/distances.py --corpus CORPUS [--tagger yamnet|tagger|aisfx]

In:   the folder of `scenes fetch`; a tagger.
Out:  a Markdown table: test recordings of every second class, compared with themselves after a
      low-pass filter and with noise, and with recordings of the classes between ("wrong class");
      for a tagger above 16 kHz they are compared at their own rate, and with a cut at 8 kHz too;
      FD, KID and KL of `yamnet-8s-v1` (or `tagger-8s-v1`) with 95 % intervals. Exit code 1 if one
      does not rise. KID is unbiased, so that of a set with itself lies below zero.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from omni2sound.bench.metrics.tagger_8s import as_scores, embed_clip
from omni2sound.bench.metrics.tagging import at_rate, load_tagger
from omni2sound.bench.stats.distances import kl_divergences
from omni2sound.bench.stats.frechet_sets import SetOfSounds, groups_of, set_values
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.scenes.material.catalogue import Recording

Damage = Callable[[NDArray[np.float32], int], NDArray[np.float32]]
NAMES = ("FD", "KID", "KL")


def low_pass(hertz: float, rate_hz: int) -> Damage:
    def damage(sound_N: NDArray[np.float32], k: int) -> NDArray[np.float32]:
        sections = butter(4, hertz, fs=rate_hz, output="sos")
        return np.asarray(sosfilt(sections, sound_N), np.float32)

    return damage


def sound_of(assets: SceneAssets, recording: Recording, rate_hz: int) -> NDArray[np.float32]:
    """A recording at a tagger's rate, from its own rate if that is above 16 kHz."""
    if rate_hz == SAMPLE_RATE_HZ:
        return assets.waveform(recording.recording_id)
    own_N, own_hz = assets.full_band(recording.recording_id)
    return at_rate(own_N, own_hz, rate_hz)


def with_noise(snr_db: float) -> Damage:
    def damage(sound_N: NDArray[np.float32], k: int) -> NDArray[np.float32]:
        noise_N = np.random.default_rng(k).standard_normal(len(sound_N))
        level = np.sqrt(np.square(sound_N).mean()) * 10 ** (-snr_db / 20)
        return (sound_N + level * noise_N).astype(np.float32)

    return damage


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--tagger", choices=("yamnet", "tagger", "aisfx"), default="yamnet")
    parser.add_argument("--clips", type=int, default=96)
    given = parser.parse_args()
    tagger = load_tagger(given.tagger)
    rate_hz = tagger.sample_rate_hz
    assets = SceneAssets.open(given.corpus)
    catalogue = assets.catalogue
    sides = [
        [catalogue.recordings_of(c, "test") for c in catalogue.class_ids[first::2]]
        for first in (0, 1)
    ]
    # Every second class is damaged, and the classes between stand for wrong ones.
    right, wrong = (
        [r for turn in zip_longest(*side) for r in turn if r is not None] for side in sides
    )
    count = min(given.clips, len(right), len(wrong))
    sounds, others = (
        [sound_of(assets, r, rate_hz) for r in side[:count]] for side in (right, wrong)
    )
    real = [embed_clip(sound, tagger) for sound in sounds]
    made = {
        name: [embed_clip(damage(sound, k), tagger) for k, sound in enumerate(sounds)]
        for name, damage in (
            ("low-pass 1 kHz", low_pass(1000, rate_hz)),
            *([("low-pass 8 kHz", low_pass(8000, rate_hz))] if rate_hz > SAMPLE_RATE_HZ else []),
            ("noise at 20 dB", with_noise(20)),
            ("noise at 6 dB", with_noise(6)),
        )
    }
    wrong_class = [embed_clip(sound, tagger) for sound in others]
    made = {"as they are": real, **made, "wrong class": wrong_class}
    print(f"{count} test recordings of {len({r.class_id for r in right[:count]})} classes")
    print("| damage | FD | KID | KL |\n|---|---:|---:|---:|")
    values: dict[str, dict[str, float]] = {}
    group_N = groups_of(count)
    real_set = SetOfSounds(real, group_N)
    for name, clips in made.items():
        made_set = SetOfSounds(clips, group_N)
        kl_N = kl_divergences(real_set.logits_NK, made_set.logits_NK)
        found = as_scores(
            set_values(real_set, made_set), kl_N, tagger_name=given.tagger, num_clips=count
        )
        scores = {s.name: s.estimate for s in found}
        values[name] = {n: scores[n].value for n in NAMES}
        cells = " | ".join(
            f"{e.value:.3g} [{e.low:.3g}, {e.high:.3g}]" for e in (scores[n] for n in NAMES)
        )
        print(f"| {name} | {cells} |")
    clean = values.pop("as they are")
    failed = [
        f"{n} of {name}" for name, of in values.items() for n in NAMES if of[n] <= clean[n] + 1e-6
    ]
    failed += [
        f"{n} from 20 to 6 dB"
        for n in NAMES
        if values["noise at 6 dB"][n] <= values["noise at 20 dB"][n]
    ]
    print(f"does not rise: {', '.join(failed)}" if failed else "all rise")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
