"""How well pictures of the scene catalogue are named without any training picture.

Run:  python benchmarks/quality/recognition.py --corpus DIR [--split train]

Each cut-out fills most of a grey picture and is named as `recognise` names a crop: ImageNet
probabilities, summed by thing. Prints, for several thresholds, the share of sounding things that
are given the right sound and a wrong one, and the share of silent things that are given any. The
threshold in use was chosen on the training split.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from omni2sound.encoders.vision import VisionEncoder
from omni2sound.recognise.things import load_things
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import DISTRACTOR

THRESHOLDS = (0.2, 0.35, 0.5, 0.65)
SIDE_PX = 224
GREY = 170


def on_grey(rgba_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The cut-out in the middle of a square, a fifth larger than its longer side."""
    picture = Image.fromarray(rgba_HWC)
    side = int(max(picture.size) * 1.2)
    square = Image.new("RGBA", (side, side), (GREY, GREY, GREY, 255))
    square.alpha_composite(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return np.asarray(square.convert("RGB").resize((SIDE_PX, SIDE_PX)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder of `scenes fetch`")
    parser.add_argument("--split", choices=("train", "val", "test"), default="test")
    args = parser.parse_args()
    assets, things, encoder = SceneAssets.open(args.corpus), load_things(), VisionEncoder.load()
    pictures = [p for p in assets.catalogue.pictures if p.split == args.split]
    frames = np.stack([on_grey(assets.rgba(p.picture_id)) for p in pictures])
    _, probabilities = encoder.embed_and_classify(frames)
    posterior_TR = things.posterior(probabilities.numpy())
    best_T, score_T = posterior_TR.argmax(1), posterior_TR.max(1)
    given = np.array([things.rows[row].sound or "" for row in best_T])
    truth = np.array([p.class_id for p in pictures])
    sounding = truth != DISTRACTOR
    print(f"{args.split}: {sounding.sum()} sounding things, {(~sounding).sum()} silent ones")
    print("threshold  right  wrong  silent things given a sound")
    for threshold in THRESHOLDS:
        named = (score_T >= threshold) & (given != "")
        right, wrong = named & (given == truth), named & (given != truth)
        print(
            f"{threshold:9.2f}  {right[sounding].mean():5.2f}  {wrong[sounding].mean():5.2f}"
            f"  {named[~sounding].mean():5.2f}"
        )


if __name__ == "__main__":
    main()
