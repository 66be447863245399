"""Processor time of `data features` on videos of usual sizes, by two source trees in turns.

    python -m benchmarks.speed.features --before TREE [--blocks 4] [--only TEXT]

TREE is another checkout, as `git worktree add --detach TREE COMMIT` makes it, with its environment
in TREE/.venv if it has one. Made videos of 10 s
(H.264, 25 pictures a second, 640 x 360 and 1280 x 720) are encoded with the bundled encoders, and
with a plugin's picture encoder that takes pictures of any size, as CLIP of the full size does, with
a network that costs next to nothing (and a sync encoder of a few channels): what is left is the way
to the encoders. Blocks are ABBA, as those of `paired.py`, whose processes they use. Printed are
median seconds a clip, and the geometric mean of the ratios before / now with its 95 % interval.
One thread.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from benchmarks.speed.paired import ROOT, Tree, mean_ratio

DURATION_S = 10
SIZES = {"360p": (640, 360), "720p": (1280, 720)}
PLUGIN = '''
import torch
from omni2sound.encoders.registry import VISION_ENCODERS, VisionEncoderSpec


class Means:
    """Means over a grid of four by four, resized by itself."""

    def embed(self, frames_THWC):
        x = torch.as_tensor(frames_THWC).permute(0, 3, 1, 2)
        return torch.cat([
            torch.nn.functional.adaptive_avg_pool2d(part.float(), 4).flatten(1)
            for part in torch.split(x, 8)
        ])


VISION_ENCODERS.register(
    "means",
    VisionEncoderSpec(
        dim=48, size_px=(384, 384), load=lambda device, **_: Means(), resizes=True
    ),
)
'''
MAKE_PARTS = """
import sys
from pathlib import Path
from omni2sound.config import to_json
from omni2sound.encoders.sync import SyncConfig, SyncEncoder
from omni2sound.models.oobleck import Oobleck, OobleckConfig
from omni2sound.weights import save_model
sync, oobleck = SyncConfig(channels=(2, 2)), OobleckConfig(channels=1)
save_model(
    Path(sys.argv[1]),
    name="parts",
    parts={
        "sync": to_json(sync), "autoencoder": to_json(oobleck), "vision": {"encoder": "means"},
    },
    tensors={
        "sync": SyncEncoder(sync).state_dict(), "autoencoder": Oobleck(oobleck).state_dict(),
    },
    defaults={},
    training={},
)
"""


def write_video(path: Path, width: int, height: int) -> None:
    """Coarse noise that moves, and noise to hear."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    picture = coarse.repeat(8, axis=0).repeat(8, axis=1)
    with av.open(str(path), "w") as out:
        shown = out.add_stream("libx264", rate=Fraction(25))
        shown.width, shown.height, shown.pix_fmt = width, height, "yuv420p"
        shown.options = {"preset": "veryfast"}
        heard = out.add_stream("aac", rate=16_000, layout="mono")
        for k in range(25 * DURATION_S):
            moved = np.ascontiguousarray(np.roll(picture, 3 * k, axis=1))
            out.mux(shown.encode(av.VideoFrame.from_ndarray(moved, format="rgb24")))
        out.mux(shown.encode(None))
        sound = (0.2 * rng.standard_normal((1, 16_000 * DURATION_S))).astype(np.float32)
        for first in range(0, sound.shape[1], 1024):
            part = np.ascontiguousarray(sound[:, first : first + 1024])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16_000, first
            out.mux(heard.encode(frame))
        out.mux(heard.encode(None))


def prepare(folder: Path, trees: list[Path], num_clips: int) -> None:
    """Write videos, their manifests, and for each tree components of its own release."""
    for size, (width, height) in SIZES.items():
        write_video(folder / f"{size}.mp4", width, height)
        rows: list[dict[str, object]] = [{"omni2sound_manifest": 1, "media": "."}]
        rows += [
            {"clip_id": f"c{n}", "corpus": "made", "split": "train", "video": f"{size}.mp4"}
            | {"duration_s": float(DURATION_S), "captions": ["a dog barks"]}
            for n in range(num_clips)
        ]
        (folder / f"{size}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "means.py").write_text(PLUGIN)
    os.environ["OMNI2SOUND_PLUGINS"] = str(folder / "means.py")
    for number, tree in enumerate(trees):
        subprocess.run(
            [sys.executable, "-c", MAKE_PARTS, str(folder / f"parts{number}")],
            env=os.environ | {"PYTHONPATH": str(tree / "src")},
            check=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--before", type=Path, required=True, help="checkout to compare with")
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--clips", type=int, default=2, help="clips of a run (2)")
    parser.add_argument("--only", default="", help="part of a line's beginning: 720p, any size")
    given = parser.parse_args()
    paths = [given.before.absolute(), ROOT]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, paths, given.clips)
        own = paths[0] / ".venv" / "bin" / "python"  # older releases keep networks there
        trees = [Tree(paths[0], folder, own if own.exists() else None), Tree(ROOT, folder)]
        for size in SIZES:
            for encoders in ("embedded", "any size"):
                if given.only not in f"{size}, {encoders}":
                    continue

                def cpu_s(number: int, out: str, *, is_first: bool = False) -> float:
                    parts = "embedded" if encoders == "embedded" else f"parts{number}"  # noqa: B023
                    words = ("data", "features", f"{size}.jsonl", "--out", out, "--parts", parts)  # noqa: B023
                    return (
                        trees[number].cpu_s(*words, "--workers", 1, is_first=is_first) / given.clips
                    )

                key = f"{size}-{encoders.replace(' ', '-')}"
                for number in (0, 1):
                    cpu_s(number, f"{key}-warm-{number}", is_first=True)
                taken = []
                for block in range(given.blocks):
                    sums = [0.0, 0.0]
                    for place, number in enumerate([(0, 1, 1, 0), (1, 0, 0, 1)][block % 2]):
                        sums[number] += cpu_s(number, f"{key}-{block}-{place}") / 2
                    taken.append(sums)
                ratio, low, high = mean_ratio([before / now for before, now in taken])
                before_s, now_s = (statistics.median(s) for s in zip(*taken, strict=True))
                print(
                    f"{size}, {encoders:8} encoders: before {before_s:5.2f} s a clip, now "
                    f"{now_s:5.2f} s; {ratio:.2f} [{low:.2f}, {high:.2f}] x clips a second, "
                    f"{given.blocks} blocks",
                    flush=True,
                )
        for tree in trees:
            tree.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
