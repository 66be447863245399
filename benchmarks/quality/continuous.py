"""How much of a clip continuous sounds fill, and whether YAMNet still names them.

Run:  python benchmarks/quality/continuous.py [--seeds 3] [--seconds 8]

For each of twelve continuous kinds: the share of half seconds above -55 dBFS and less than 30 dB
below the loudest second, and YAMNet's best of the kind's classes in the loudest patch and on
average over patches, each the mean over seeds. YAMNet plays no part in generation.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.generate.words.kinds import all_kinds, example_of
from omni2sound.generate.words.notes import for_tagger, loudest_second_db

KINDS = (
    "rain", "water", "sea", "fire", "steam", "insect", "car", "train", "siren", "saw", "bird",
    "clock",
)  # fmt: skip
FLOOR_DBFS, RANGE_DB = -55, 30


def sounding(samples_N: NDArray[np.float32], rate_hz: int) -> NDArray[np.bool_]:
    """Whether each half second sounds."""
    half = rate_hz // 2
    parts = samples_N[: len(samples_N) // half * half].reshape(-1, half)
    level_db = 10 * np.log10((parts**2).mean(axis=1) + 1e-12)
    least_db = max(FLOOR_DBFS, loudest_second_db(samples_N, rate_hz) - RANGE_DB)
    heard: NDArray[np.bool_] = level_db > least_db
    return heard


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    args = parser.parse_args()
    pipeline, tagger = TorchPipeline.load("embedded"), YamNet.load()
    kinds = {kind.class_id: kind for kind in all_kinds()}
    rows = []
    for name in KINDS:
        wanted = [tagger.class_names.index(c) for c in kinds[name].yamnet_classes]
        made = []
        for seed in range(1, args.seeds + 1):
            result = pipeline(prompt=example_of(kinds[name]), duration_s=args.seconds, seed=seed)
            samples_N = result.audio.samples_CN[0]
            share = sounding(samples_N, result.audio.sample_rate_hz).mean()
            scores_PK = tagger.scores(for_tagger(result.audio))
            best_P = scores_PK[:, wanted].max(axis=1)
            made.append((share, share >= 0.9, best_P.max(), best_P.mean()))
        rows.append(np.mean(made, axis=0))
        print(f"{name:8}  " + "  ".join(f"{value:.2f}" for value in rows[-1]), flush=True)
    print("all       " + "  ".join(f"{value:.2f}" for value in np.mean(rows, axis=0)))
    print("share that sounds, clips with .9 or more, best patch, mean over patches")


if __name__ == "__main__":
    main()
