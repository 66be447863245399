"""What does the default model follow when the text contradicts the picture?

    python -m benchmarks.quality.contradictions --corpus CORPUS [--clips 48] [--scales 3 6 9]

Main scenes of the test split, where everything that sounds is seen. Each is given the caption of
another scene that shares no class with it, as VGGSound-TVC's farthest level does, and beside it its
own caption. The same noise for all. A class counts as heard by the judge's rule of `stage-v1`;
classes whose recordings the judge misses are left out. Printed for each guidance scale of the text
(the picture's stays at 3) and each judge: the share of clips in which only classes of the text are
heard, only classes of the picture, both, and neither, with 95 % intervals over clips; below them
what a scale changes in the share that follows the text, and the picture, on the same clips.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.text_guidance import _pictures as pictures_of
from omni2sound.bench.metrics.tagging import CatalogueTagger, tag_recordings
from omni2sound.bench.quick.model import PipelineSounds
from omni2sound.bench.stats.bootstrap import bootstrap_difference, bootstrap_mean
from omni2sound.bench.stats.estimate import Estimate
from omni2sound.bench.tracks.scene_clips import SceneClip, draw_clips
from omni2sound.encoders.metric.tagger import Tagger
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.scenes.material.assets import SceneAssets

DURATION_S, BATCH, SCENE_SEED, NOISE_SEED, PICTURE_SCALE = 8.0, 8, 911, 5, 3.0
KINDS = ("text only", "picture only", "both", "neither")


def classes_of(clip: SceneClip) -> frozenset[str]:
    """Classes that sound in a scene."""
    return frozenset(event.class_id for event in clip.scene.events)


def contradicting(clips: list[SceneClip]) -> list[SceneClip]:
    """For each clip the next one that shares no class with it."""
    found = []
    for place, clip in enumerate(clips):
        others = (*clips[place + 1 :], *clips[:place])
        found.append(next(o for o in others if not classes_of(o) & classes_of(clip)))
    return found


def kind_of(heard: frozenset[str], text: frozenset[str], picture: frozenset[str]) -> str:
    """Say which of the two is heard."""
    follows = bool(heard & text), bool(heard & picture)
    return {
        (True, False): "text only",
        (False, True): "picture only",
        (True, True): "both",
        (False, False): "neither",
    }[follows]


def shown(found: Estimate) -> str:
    """One cell of the table."""
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def report(kinds: dict[tuple[str, str], list[str]], scales: list[float]) -> None:
    """Print shares, then what the higher scales change."""
    print("| prompt | judge | clips | " + " | ".join(KINDS) + " |")
    print("|" + "---|" * (3 + len(KINDS)))
    for (row, name), found in kinds.items():
        shares = [shown(bootstrap_mean([float(k == kind) for k in found])) for kind in KINDS]
        print("| " + " | ".join([row, name, str(len(found)), *shares]) + " |")
    first, *others = (f"contradicted, text {scale:g}" for scale in scales)
    print(
        f"\n| minus {first} | judge | follows the text | follows the picture |\n|---|---|---|---|"
    )
    for row in others:
        for name in dict.fromkeys(name for _, name in kinds):
            cells = []
            for kind in ("text only", "picture only"):
                a, b = ([float(k in (kind, "both")) for k in kinds[r, name]] for r in (row, first))
                cells.append(shown(bootstrap_difference(a, b)))
            print("| " + " | ".join([row, name, *cells]) + " |")


def main() -> None:
    """Print a line for each scale and judge."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--scales", type=float, nargs="+", default=[3.0, 6.0, 9.0])
    options = parser.parse_args()
    assets = SceneAssets.open(options.corpus)
    judges = {
        name: CatalogueTagger(network, assets.catalogue)
        for name, network in (("yamnet", YamNet.load()), ("tagger", Tagger.load()))
    }
    scorable = {n: frozenset(tag_recordings(assets, j).scorable) for n, j in judges.items()}
    clips = list(
        draw_clips(
            assets,
            "main",
            split="test",
            seed=SCENE_SEED,
            num_clips=options.clips,
            duration_s=DURATION_S,
        )
    )
    others = contradicting(clips)
    pipeline = TorchPipeline.load("embedded", device="cpu")
    kinds: dict[tuple[str, str], list[str]] = {}

    def count(row: str, sounds: list[NDArray[np.float32]], first: int) -> None:
        for place, sound_N in enumerate(sounds, start=first):
            for name, judge in judges.items():
                known = scorable[name]
                text, picture = (classes_of(c) & known for c in (others[place], clips[place]))
                if text and picture:
                    heard = judge.tag(sound_N).classes
                    kind = kind_of(heard, text, picture)
                    kinds.setdefault((row, name), []).append(kind)

    for first in range(0, len(clips), BATCH):
        some = clips[first : first + BATCH]
        count("real sound", [clip.sound_N for clip in some], first)
        pictures = pictures_of(some, pipeline.model.config)
        own = [clip.caption for clip in some]
        against = [clip.caption for clip in others[first : first + BATCH]]
        asked = [("its own caption", PICTURE_SCALE, own)]
        asked += [(f"contradicted, text {scale:g}", scale, against) for scale in options.scales]
        for row, scale, texts in asked:
            model = PipelineSounds(
                pipeline=pipeline,
                seed=NOISE_SEED,
                duration_s=DURATION_S,
                guidance=PICTURE_SCALE,
                text_guidance=scale,
            )
            count(row, list(model.for_pictures(pictures, texts)), first)
    report(kinds, options.scales)


if __name__ == "__main__":
    main()
