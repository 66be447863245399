"""Which kinds of sound does a model make, and which not? By class, from a run that is there.

Run:  omni2sound bench stage --corpus CORPUS --model embedded --clips 500 --out RUN
      python benchmarks/quality/stage_classes.py --corpus CORPUS --run RUN

How often each class is heard in the clips that it is in, by both judges: *seen* in clips of the
track "main", in which all that sounds is seen, and *named, not seen* in those of "offscreen".
What real sound scores stands beside it; classes of few clips have rates as coarse as that.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from omni2sound.bench.metrics.tagging import CatalogueTagger, tag_recordings
from omni2sound.bench.stage_table.kept import SETTINGS, KeptSound, StageParts
from omni2sound.bench.tracks.scene_clips import Track, draw_clips
from omni2sound.encoders.metric.tagger import Tagger
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.scenes.material.assets import SceneAssets

SYSTEMS: dict[Track, tuple[str, ...]] = {
    "main": ("oracle", "V2A", "T2A", "VT2A"),
    "offscreen": ("oracle", "VT2A"),
}
TITLES: dict[Track, str] = {"main": "seen", "offscreen": "named, not seen"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    args = parser.parse_args()
    if not (args.run / SETTINGS).is_file():
        raise SystemExit(f"{args.run}: no run of `bench stage --out` (no {SETTINGS})")
    settings = json.loads((args.run / SETTINGS).read_text(encoding="utf-8"))
    names = [judge["name"] for judge in settings["judges"]]
    if settings["model"] is None or names != ["yamnet", "tagger"]:
        raise SystemExit(f"{args.run}: needs a run with --model and both judges")
    assets = SceneAssets.open(args.corpus)
    scorable = [
        set(tag_recordings(assets, CatalogueTagger(judge, assets.catalogue)).scorable)
        for judge in (YamNet.load(), Tagger.load())
    ]
    parts = StageParts(args.run, settings)
    for track, systems in SYSTEMS.items():
        count, batch_size = settings["num_clips"], settings["batch_size"]
        # Up to the first gap: clips are matched by their order.
        firsts = list(itertools.takewhile(partial(parts.has, track), range(0, count, batch_size)))
        if not firsts:
            continue
        kept = parts.sounds(track, firsts)
        clips = draw_clips(
            assets,
            track,
            split="test",
            seed=settings["seed"],
            num_clips=len(kept["oracle"]),
            duration_s=settings["duration_s"],
        )
        asked = [
            {e.class_id for e in clip.events if e.on_screen == (track == "main")} for clip in clips
        ]
        print(f"\n{TITLES[track]}: {len(asked)} clips of {count}, {settings['model']['name']}")
        _print_table(asked, {system: kept[system] for system in systems}, scorable)
    print("\n* not scored by this judge, which hears less than 0.7 of this class' real recordings")


def _print_table(
    asked: Sequence[set[str]],
    kept: dict[str, list[KeptSound]],
    scorable: Sequence[set[str]],
) -> None:
    columns = [(judge, system) for judge in (0, 1) for system in kept]
    heads = [f"{('YAMNet', '2nd')[judge]} {system}" for judge, system in columns]
    print(f"{'class':12}  {'clips':>5}  " + "  ".join(f"{head} " for head in heads))
    rows = []
    for class_id in sorted(set().union(*asked)):
        where = [i for i, classes in enumerate(asked) if class_id in classes]
        rates = []
        for judge, system in columns:
            sounds = [kept[system][i] for i in where]
            heard = [s.heard_2nd if judge else s.heard for s in sounds]
            rates.append(float(np.mean([class_id in h for h in heard])))
        rows.append((class_id, len(where), rates))
    # By YAMNet's rate of the last system, worst first: what fails, beside what real sound gets.
    for class_id, count, rates in sorted(rows, key=lambda row: (row[2][len(kept) - 1], row[0])):
        marks = [" " if class_id in scorable[judge] else "*" for judge, _ in columns]
        cells = "  ".join(
            f"{r:{len(h)}.2f}{m}" for r, h, m in zip(rates, heads, marks, strict=True)
        )
        print(f"{class_id:12}  {count:5}  {cells}")


if __name__ == "__main__":
    main()
