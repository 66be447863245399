"""Does the sync encoder find the strike, and how far is it from motion energy alone?

Run:  python benchmarks/sync_encoder.py --model embedded --corpus DIR [--split test] [--scenes 200]

For each "strike" scene (one on-screen strike among moving silent distractors) the frame with
the largest answer is compared with the truth. Motion energy is the mean absolute change
between neighbouring frames; "shuffled" scores each answer against another scene's strike.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from omni2sound.bench.metrics import bootstrap_mean
from omni2sound.config import from_json
from omni2sound.data.stage.assets import StageAssets
from omni2sound.data.stage.render import render_frames
from omni2sound.data.stage.scene import draw_scene
from omni2sound.encoders.sync import SyncConfig, SyncEncoder
from omni2sound.weights import load_card, load_part, resolve_model

TOLERANCE_S = 0.1
DURATION_S = 4.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    card = load_card(resolve_model(args.model))
    encoder = SyncEncoder(from_json(SyncConfig, card.parts["sync"])).eval()
    load_part(card, "sync", encoder)
    assets = StageAssets.open(args.corpus)
    config = encoder.config
    truth_s, found_s, energy_s = [], [], []
    for index in range(args.scenes):
        scene = draw_scene(
            assets,
            split=args.split,
            seed=args.seed,
            index=index,
            kind="strike",
            duration_s=DURATION_S,
        )
        frames = render_frames(scene, assets, fps=config.fps, size_px=config.frame_px)
        truth_s.append(scene.events[0].onset_s)
        found_s.append(float(encoder.embed(frames)[:, -2].argmax() + 0.5) / config.fps)
        change = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))
        energy_s.append(float(change.argmax() + 1.5) / config.fps)
    truth = np.array(truth_s)
    systems = {
        "sync encoder": (np.array(found_s), truth),
        "sync encoder, shuffled": (np.array(found_s), np.roll(truth, 1)),
        "motion energy": (np.array(energy_s), truth),
    }
    print(f"strike within {TOLERANCE_S * 1000:.0f} ms, {args.scenes} {args.split} scenes")
    for name, (found, wanted) in systems.items():
        error = np.abs(found - wanted)
        rate = bootstrap_mean((error <= TOLERANCE_S).astype(np.float64), seed=0)
        print(
            f"  {name:24s} {rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}]"
            f"   median error {np.median(error) * 1000:.0f} ms"
        )


if __name__ == "__main__":
    main()
