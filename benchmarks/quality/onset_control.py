"""Does a model's sound follow the video? Onset errors beside those with shuffled videos.

    omni2sound train tiny --data FEATURES --validation FEATURES --out runs/tiny
    python benchmarks/quality/onset_control.py --model runs/tiny/model --corpus CORPUS
    python benchmarks/quality/onset_control.py --model runs/tiny/model --corpus CORPUS --zero-sync

Sound is made for strike scenes of the test split. The error of a scene is the distance of the
strongest onset to the strike, a silent sound counts as wrong by the clip's length. With shuffled
videos each sound is held against every other scene's strike. The check: the mean error is at
most 0.6 of that, and the 95 % interval of the ratio (paired bootstrap) lies below 1.
`--zero-sync` takes the sync features away, which a working check must notice: exit code 1. The
share of silent sounds is printed, for a control that fails by silence says little about timing.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch

from omni2sound.bench.quick.impacts import run_impacts
from omni2sound.bench.stats.bootstrap import bootstrap_ratio
from omni2sound.bench.tracks.scene_clips import ScenePictures
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.scenes.material.assets import SceneAssets

DURATION_S = 4.0
MOST = 0.6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", required=True, help="a model's name or folder")
    parser.add_argument("--corpus", required=True, help="folder of `scenes fetch`")
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--zero-sync", action="store_true", help="the control")
    args = parser.parse_args()

    pipeline = TorchPipeline.load(args.model)
    sync = pipeline.model.config.sync

    def generate(pictures: ScenePictures) -> list[np.ndarray]:
        conditions = pipeline.encoder.encode_arrays(
            pictures.vision_frames_BTHWK,
            pictures.sync_frames_BTHWK,
            None,
            duration_s=pictures.duration_s,
        )
        if args.zero_sync:
            conditions = replace(conditions, sync_BLS=torch.zeros_like(conditions.sync_BLS))
        first = args.seed + pictures.first_index
        samples_BN = pipeline.generate_batch(
            conditions,
            duration_s=pictures.duration_s,
            seeds=[first + i for i in range(conditions.batch_size)],
            num_steps=None,
            guidance=None,
        )
        return list(samples_BN.numpy())

    result = run_impacts(
        SceneAssets.open(args.corpus),
        generate,
        num_scenes=args.scenes,
        seed=args.seed,
        duration_s=DURATION_S,
        sync_px=sync.frame_px,
        sync_fps=sync.fps,
    )
    truths = np.array(result.truths_s)
    fine = False
    print(f"{args.model}{', sync features zeroed' if args.zero_sync else ''}: mean onset error")
    for system, onsets in result.onsets_s.items():
        found = np.array([np.nan if onset is None else onset for onset in onsets])
        error_NN = np.abs(found[:, None] - truths[None])
        error_NN[np.isnan(found)] = DURATION_S
        own = np.diagonal(error_NN)
        shuffled = (error_NN.sum(axis=1) - own) / (len(truths) - 1)
        ratio = bootstrap_ratio(own, shuffled)
        print(
            f"  {system:14s} {own.mean():.3f} s, shuffled videos {shuffled.mean():.3f} s, "
            f"ratio {ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}], "
            f"{np.isnan(found).mean():.0%} silent"
        )
        if system == "generated":
            fine = ratio.value <= MOST and ratio.high < 1
    print(f"ratio of generated sounds at most {MOST}, interval below 1: {'yes' if fine else 'NO'}")
    raise SystemExit(not fine)


if __name__ == "__main__":
    main()
