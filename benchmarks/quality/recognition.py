"""How well pictures and scenes of the catalogue are named without any training picture.

Run:  python benchmarks/quality/recognition.py --corpus DIR [--split train]
      python benchmarks/quality/recognition.py --corpus DIR --scenes DIR

Pictures: each cut-out fills most of a grey picture and is named as a crop is, by ImageNet
probabilities, summed by thing. Prints, for several thresholds, the share of sounding things that
are given the right sound and a wrong one, and the share of silent things that are given any.

Scenes, a folder of `omni2sound scenes build`: whole videos are recognised, and three crops of each
thing that sounds are named that are cut at its true box. Counted are at most three sounds a clip,
beside those of the things that are in the picture and sound.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from omni2sound.media.video import iter_frames
from omni2sound.recognise.labeller import Labeller
from omni2sound.recognise.observe import Recogniser
from omni2sound.recognise.things import load_things
from omni2sound.recognise.tracks import crop
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import DISTRACTOR
from omni2sound.scenes.render.motion import view_of
from omni2sound.scenes.render.sprites import Sprite, Window
from omni2sound.scenes.scene import Scene

FPS = 4
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.65)
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
    parser.add_argument("--corpus", type=Path, required=True, help="folder of `scenes fetch`")
    parser.add_argument("--scenes", type=Path, help="folder of `scenes build`. Default: pictures")
    parser.add_argument("--split", choices=("train", "val", "test"), default="test")
    args = parser.parse_args()
    if args.scenes:
        print_scenes(args.scenes, SceneAssets.open(args.corpus))
    else:
        print_pictures(args.corpus, args.split)


def print_scenes(folder: Path, assets: SceneAssets) -> None:
    recogniser = Recogniser.load()
    counts = {boxes: Counter[str]() for boxes in ("true boxes of what sounds", "own boxes")}
    lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    for line in lines:
        files = json.loads(line)
        scene = Scene.from_json((folder / files["events"]).read_text(encoding="utf-8"))
        video = folder / files["video"]
        truth = {e.class_id for e in scene.events if e.on_screen and e.picture_id}
        names = [recogniser.name(crops)[0] for crops in true_crops(scene, video, assets)]
        given = [name.sound for name in names if name is not None]
        count(counts["true boxes of what sounds"], given, truth)
        things = recogniser.observe(video, scene.duration_s).things
        count(counts["own boxes"], [t.sound for t in things if t.sounding], truth)
    print(f"{f'{len(lines)} scenes':28}  found  wrong a clip  clips without")
    for title, found in counts.items():
        print(
            f"{title:28} {found['right'] / (found['right'] + found['missed']):6.2f}"
            f" {found['wrong'] / len(lines):13.2f} {found['without'] / len(lines):14.2f}"
        )


def count(counts: Counter[str], sounds: list[str | None], truth: set[str]) -> None:
    given = set(list(dict.fromkeys(sound for sound in sounds if sound is not None))[:3])
    counts["right"] += len(truth & given)
    counts["wrong"] += len(given - truth)
    counts["missed"] += len(truth - given)
    counts["without"] += not given


def true_crops(scene: Scene, video: Path, assets: SceneAssets) -> list[list[NDArray[np.uint8]]]:
    """Three crops of each thing that sounds, from the middle of thirds of the time it is seen."""
    frames = list(iter_frames(video, fps=FPS, duration_s=scene.duration_s))
    times_T = np.arange(len(frames)) / FPS
    height_px, width_px = frames[0].shape[:2]
    x, y, zoom = view_of(scene, times_T)
    found = []
    for thing in scene.objects:
        if thing.role != "source" or thing.picture_id is None:
            continue
        sprite = Sprite.of(scene, thing, times_T, assets, height_px=height_px, width_px=width_px)
        boxes = []
        for i in range(len(frames)):
            window = Window(
                x=float(x[i]),
                y=float(y[i]),
                zoom=float(zoom[i]),
                aspect=scene.aspect,
                width_px=width_px,
                height_px=height_px,
            )
            left, top, right, bottom = np.clip(sprite.edges(window, i), 0, 1)
            if sprite.poses.alpha[i] > 0.6 and right - left > 0.05 and bottom - top > 0.05:
                boxes.append((i, (float(left), float(top), float(right), float(bottom))))
        chosen = [boxes[(2 * k + 1) * len(boxes) // 6] for k in range(3)] if boxes else []
        if chosen:
            found.append([crop(frames[i], edges) for i, edges in chosen])
    return found


def print_pictures(corpus: Path, split: str) -> None:
    assets, things, labeller = SceneAssets.open(corpus), load_things(), Labeller.load()
    pictures = [p for p in assets.catalogue.pictures if p.split == split]
    frames = np.stack([on_grey(assets.rgba(p.picture_id)) for p in pictures])
    labels_TK = labeller.classify(frames)
    posterior_TR = things.posterior(labels_TK.numpy())
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
