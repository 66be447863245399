"""Which kinds of sound does a model make, and which not? By class, from a run that is there.

Run:  omni2sound bench stage --assets DIR --model embedded --clips 500 --out RUN
      python benchmarks/stage_classes.py --assets DIR --run RUN

How often each class is heard in the clips that it is in, by both judges: *seen* in clips of the
track "main", in which all that sounds is seen, and *named, not seen* in those of "offscreen".
What real sound scores stands beside it; classes of few clips have rates as coarse as that.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from omni2sound.bench.stage_clips import Track, draw_clips
from omni2sound.bench.stage_parts import SETTINGS, KeptSound, StageParts
from omni2sound.data.stage.assets import StageAssets

SYSTEMS: dict[Track, tuple[str, ...]] = {
    "main": ("oracle", "V2A", "T2A", "VT2A"),
    "offscreen": ("oracle", "VT2A"),
}
TITLES: dict[Track, str] = {"main": "seen", "offscreen": "named, not seen"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    args = parser.parse_args()
    assets = StageAssets.open(args.assets)
    settings = json.loads((args.run / SETTINGS).read_text(encoding="utf-8"))
    parts = StageParts(args.run, settings)
    for track, systems in SYSTEMS.items():
        count, batch_size = settings["num_clips"], settings["batch_size"]
        firsts = [f for f in range(0, count, batch_size) if parts.has(track, f)]
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
        _print_table(asked, {system: kept[system] for system in systems})


def _print_table(asked: Sequence[set[str]], kept: dict[str, list[KeptSound]]) -> None:
    columns = [(judge, system) for judge in ("YAMNet", "2nd") for system in kept]
    heads = [f"{judge} {system}" for judge, system in columns]
    print(f"{'class':12}  {'clips':>5}  " + "  ".join(heads))
    rows = []
    for class_id in sorted(set().union(*asked)):
        where = [i for i, classes in enumerate(asked) if class_id in classes]
        rates = []
        for judge, system in columns:
            sounds = [kept[system][i] for i in where]
            heard = [s.heard if judge == "YAMNet" else s.heard_2nd for s in sounds]
            rates.append(float(np.mean([class_id in h for h in heard])))
        rows.append((class_id, len(where), rates))
    # Worst first: what the model fails at, beside what the judge misses in real sound.
    for class_id, count, rates in sorted(rows, key=lambda row: (row[2][len(kept) - 1], row[0])):
        cells = "  ".join(f"{r:{len(h)}.2f}" for r, h in zip(rates, heads, strict=True))
        print(f"{class_id:12}  {count:5}  {cells}")


if __name__ == "__main__":
    main()
