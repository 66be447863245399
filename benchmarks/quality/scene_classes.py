"""Which kinds of sound does a model make, and which not? By class, from a scored run.

Run:  omni2sound bench run stage-omni --model embedded --gates --out RUN
      python benchmarks/quality/scene_classes.py --run RUN

How often each class is heard in the clips that contain it, by both taggers: *seen* in clips of the
part "main", in which everything that sounds is seen, and *named, not seen* in those of
"offscreen". Real sound stands beside it; classes of few clips have rates as coarse as that.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from omni2sound.bench.report.results import read_run
from omni2sound.bench.scoring.evaluate import ClipRecord
from omni2sound.bench.systems.system import ORACLE
from omni2sound.bench.tracks.scenes import read_truth
from omni2sound.bench.tracks.track import Part, read_track

TASKS: dict[Part, tuple[str, ...]] = {"main": ("V2A", "T2A", "VT2A"), "offscreen": ("VT2A",)}
TITLES: dict[Part, str] = {"main": "seen", "offscreen": "named, not seen"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    run = read_run(parser.parse_args().run)
    facts = run.evaluation.facts
    taggers = facts["judges"][:2]
    if "model" not in facts or len(taggers) != 2:
        raise SystemExit(f"{run.folder}: needs a run of a model with two taggers")
    model = facts["model"]["model"]
    scored = [
        set(facts[f"oracle_rates{end}"]) - set(facts[f"classes_left_out{end}"])
        for end in ("", "_2nd")
    ]
    track = read_track(run.track).limited(run.limit)
    for part, tasks in TASKS.items():
        asked = {
            c.clip_id: {
                e.class_id
                for e in read_truth(track.path(c.truth))[1]
                if e.on_screen == (part == "main")
            }
            for c in track.clips
            if c.part == part and c.truth is not None
        }
        systems = {"oracle": (ORACLE, None), **{task: (model, task) for task in tasks}}
        records = {
            title: {r.clip_id: r for r in run.evaluation.clips if (r.system, r.task) == key}
            for title, key in systems.items()
        }
        print(f"\n{TITLES[part]}: {len(asked)} clips, {model}")
        _print_table(asked, records, taggers, scored)
    print("\n* not scored by this tagger, which hears less than 0.7 of this class' real recordings")


def _print_table(
    asked: Mapping[str, set[str]],
    records: Mapping[str, Mapping[str, ClipRecord]],
    taggers: Sequence[str],
    scored: Sequence[set[str]],
) -> None:
    columns = [(at, tagger, system) for at, tagger in enumerate(taggers) for system in records]
    heads = [f"{('YAMNet', '2nd')[at]} {system}" for at, _, system in columns]
    print(f"{'class':12}  {'clips':>5}  " + "  ".join(f"{head} " for head in heads))
    rows = []
    for class_id in sorted(set().union(*asked.values())):
        where = [clip_id for clip_id, classes in asked.items() if class_id in classes]
        rates = [
            float(np.mean([class_id in records[system][i].heard[tagger] for i in where]))
            for _, tagger, system in columns
        ]
        rows.append((class_id, len(where), rates))
    # By the first tagger's rate of the last system, worst first.
    for class_id, count, rates in sorted(rows, key=lambda row: (row[2][len(records) - 1], row[0])):
        marks = [" " if class_id in scored[at] else "*" for at, _, _ in columns]
        cells = "  ".join(
            f"{r:{len(h)}.2f}{m}" for r, h, m in zip(rates, heads, marks, strict=True)
        )
        print(f"{class_id:12}  {count:5}  {cells}")


if __name__ == "__main__":
    main()
