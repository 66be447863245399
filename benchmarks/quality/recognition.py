"""How well pictures of the scene catalogue are named without any training picture.

Run:  python benchmarks/quality/recognition.py --corpus DIR [--split train]
      python benchmarks/quality/recognition.py --scenes DIR   (of `omni2sound scenes build`)

Each cut-out fills most of a grey picture and is named as `recognise` names a crop: ImageNet
probabilities, summed by thing. Prints, for several thresholds, the share of sounding things that
are given the right sound and a wrong one, and the share of silent things that are given any. The
threshold in use was chosen on the training split. Of scenes, whole videos are recognised: at most
three sounds a clip, beside those of the things that are in the picture and sound.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from omni2sound.recognise.labeller import Labeller
from omni2sound.recognise.observe import Recogniser
from omni2sound.recognise.things import load_things
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import DISTRACTOR

THRESHOLDS = (0.2, 0.35, 0.5, 0.65)
SIDE_PX = 280
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
    inputs = parser.add_mutually_exclusive_group(required=True)
    inputs.add_argument("--corpus", type=Path, help="folder of `scenes fetch`")
    inputs.add_argument("--scenes", type=Path, help="folder of `scenes build`")
    parser.add_argument("--split", choices=("train", "val", "test"), default="test")
    args = parser.parse_args()
    if args.scenes:
        print_scenes(args.scenes)
    else:
        print_pictures(args.corpus, args.split)


def print_scenes(folder: Path) -> None:
    recogniser = Recogniser.load()
    right = wrong = missed = silent = 0
    lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    for line in lines:
        scene = json.loads(line)
        events = json.loads((folder / scene["events"]).read_text(encoding="utf-8"))["events"]
        truth = {e["class_id"] for e in events if e["on_screen"] and e["picture_id"]}
        things = recogniser.observe(folder / scene["video"], scene["duration_s"]).things
        given = list(dict.fromkeys(t.sound for t in things if t.sounding))[:3]
        right += len(truth & set(given))
        wrong += len(set(given) - truth)
        missed += len(truth - set(given))
        silent += not given
    print(
        f"{len(lines)} scenes: {right / (right + missed):.2f} of {right + missed} sounds found, "
        f"{wrong / len(lines):.2f} wrong ones a clip, {silent / len(lines):.2f} of clips without"
    )


def print_pictures(corpus: Path, split: str) -> None:
    assets, things, labeller = SceneAssets.open(corpus), load_things(), Labeller.load()
    pictures = [p for p in assets.catalogue.pictures if p.split == split]
    frames = np.stack([on_grey(assets.rgba(p.picture_id)) for p in pictures])
    probabilities = labeller.classify(frames)
    posterior_TR = things.posterior(probabilities.numpy())
    best_T, score_T = posterior_TR.argmax(1), posterior_TR.max(1)
    given = np.array([things.rows[row].sound or "" for row in best_T])
    truth = np.array([p.class_id for p in pictures])
    sounding = truth != DISTRACTOR
    print(f"{split}: {sounding.sum()} sounding things, {(~sounding).sum()} silent ones")
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
