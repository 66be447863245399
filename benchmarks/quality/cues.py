"""Where the sounds of cues lie: onsets of points, what is heard inside and outside of spans.

Run:  python benchmarks/quality/cues.py [--points 100] [--clips 25] [--bound 43] [--bed rain]

Point cues: --points clips of 4 s with one cue between 0.5 and 2.5 s, impulsive kinds of the model
in turn. Printed: the share whose strongest onset (that of `stage-v1`) lies within 60 ms of the
cue, the share with no onset, the median distance of the others, and the share in which the kind is
heard (YAMNet's class hit of `stage-v1`) from the cue on. With --bed, the same beside a sound that
goes on under it.

Spans: --clips clips of 8 s with two cues of two kinds, 0.5-3.5 and 4.5-7.5 s. Printed: the share of
cues whose kind is heard in their span, and in that of the other one. Intervals are 95 %.

Bound: the model's kinds in turn, as a prompt over a whole clip of 8 s. Printed: the share that is
heard in it, which spans can hardly exceed.

Everything is heard twice: by YAMNet, and by the tagger that was trained on the model's own kinds.
With --rows, clips that a run before has measured are not made again.

Must show: within 60 ms in at least .8, inside at least .7, outside at most .15.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from omni2sound import Omni2SoundPipeline
from omni2sound.bench.metrics.onset import strongest_onset_s
from omni2sound.bench.metrics.tagging import CatalogueTagger, load_tagger
from omni2sound.bench.stats.bootstrap import bootstrap_mean
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.generate.words.cues import Cue
from omni2sound.generate.words.kinds import all_kinds, example_of
from omni2sound.generate.words.notes import for_tagger
from omni2sound.media.samples import Audio
from omni2sound.scenes.material.catalogue import Catalogue, SoundClass

NEAR_S = 0.06
SPANS_S = ((0.5, 3.5), (4.5, 7.5))


class Ears:
    """Which kinds are heard in a part of a sound, by each tagger."""

    names = ("yamnet", "tagger")

    def __init__(self) -> None:
        catalogue = Catalogue.load()
        self.taggers = [CatalogueTagger(load_tagger(name), catalogue) for name in self.names]

    def heard(self, audio: Audio, start_s: float, end_s: float) -> list[frozenset[str]]:
        rate_hz = YamNet.sample_rate_hz
        part_N = for_tagger(audio)[round(start_s * rate_hz) : round(end_s * rate_hz)]
        return [frozenset(tagger.tag(part_N, rate_hz).classes) for tagger in self.taggers]

    def show(self, what: str, heard_NT: list[list[float]]) -> None:
        """Print the share of each tagger."""
        for name, heard_N in zip(self.names, np.array(heard_NT, float).T, strict=True):
            print(f"{what:15} {bootstrap_mean(heard_N)} by {name}")


class Rows:
    """What was measured of each clip, in a file of JSON lines."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.done = path, dict[str, Any]()
        if path is not None and path.exists():
            self.done = dict(json.loads(line) for line in path.read_text().splitlines())

    def get(self, key: str, measure: Callable[[], Any]) -> Any:
        if key not in self.done:
            self.done[key] = measure()
            if self.path is not None:
                with self.path.open("a") as rows:
                    print(json.dumps([key, self.done[key]]), file=rows)
        print(key, self.done[key], flush=True)
        return self.done[key]


def points(
    pipeline: Omni2SoundPipeline, ears: Ears, rows: Rows, count: int, bed: str | None
) -> None:
    """Measure point cues, alone or beside a bed."""
    kinds = [kind for kind in all_kinds() if kind.kind == "impulsive"]
    rng = np.random.default_rng(0)

    def measure(number: int, kind: SoundClass, at_s: float) -> tuple[float | None, list[bool]]:
        cue = Cue(start_s=at_s, text=example_of(kind))
        audio = pipeline(prompt=bed, cues=[cue], duration_s=4, seed=number).audio
        onset_s = strongest_onset_s(audio.samples_CN[0], audio.sample_rate_hz)
        heard = [kind.class_id in found for found in ears.heard(audio, at_s, 4)]
        return (None if onset_s is None else abs(onset_s - at_s)), heard

    made = []
    for number in range(count):
        kind, at_s = kinds[number % len(kinds)], float(rng.uniform(0.5, 2.5))
        key = f"point {number} {kind.class_id} {bed}"
        made.append(rows.get(key, partial(measure, number, kind, at_s)))
    distances = np.array([np.inf if away_s is None else away_s for away_s, _ in made])
    print(f"{len(kinds)} impulsive kinds, {count} cues")
    print(f"within {NEAR_S * 1000:.0f} ms    {bootstrap_mean(distances <= NEAR_S)}")
    print(f"no onset        {bootstrap_mean(~np.isfinite(distances))}")
    print(f"median distance {np.median(distances[np.isfinite(distances)]):.3f} s")
    ears.show("heard", [heard for _, heard in made])


def spans(pipeline: Omni2SoundPipeline, ears: Ears, rows: Rows, count: int) -> None:
    """Measure cues with an end."""
    kinds, rng = all_kinds(), np.random.default_rng(1)

    def measure(number: int, pair: Sequence[SoundClass]) -> list[list[list[bool]]]:
        cues = [
            Cue(start_s=s, end_s=e, text=example_of(kind))
            for kind, (s, e) in zip(pair, SPANS_S, strict=True)
        ]
        audio = pipeline(cues=cues, duration_s=8, seed=number).audio
        found = [ears.heard(audio, *span) for span in SPANS_S]
        return [[[k.class_id in one for one in by] for by in found] for k in pair]

    made = []
    for number in range(count):
        pair = [kinds[k] for k in rng.choice(len(kinds), 2, replace=False)]
        key = f"span {number} {' '.join(kind.class_id for kind in pair)}"
        made.append(rows.get(key, partial(measure, number, pair)))
    heard_NKST = np.array(made, float)  # clips, kinds, spans, taggers
    ears.show("heard inside", heard_NKST[:, (0, 1), (0, 1)].mean(axis=1).tolist())
    ears.show("heard outside", heard_NKST[:, (0, 1), (1, 0)].mean(axis=1).tolist())


def bound(pipeline: Omni2SoundPipeline, ears: Ears, rows: Rows, count: int) -> None:
    """Measure prompts over a whole clip."""
    kinds = all_kinds()

    def measure(number: int, kind: SoundClass) -> list[bool]:
        audio = pipeline(prompt=example_of(kind), duration_s=8, seed=number).audio
        return [kind.class_id in found for found in ears.heard(audio, 0, 8)]

    made = []
    for number in range(count):
        kind = kinds[number % len(kinds)]
        key = f"whole {number} {kind.class_id}"
        made.append(rows.get(key, partial(measure, number, kind)))
    ears.show("heard in 8 s", made)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--clips", type=int, default=25)
    parser.add_argument("--bound", type=int, default=43, help="Clips of a prompt. Default: 43.")
    parser.add_argument("--bed", help="Prompt under point cues. Default: none.")
    parser.add_argument("--rows", type=Path, help="File that resumes. Default: none.")
    args = parser.parse_args()
    pipeline, ears = Omni2SoundPipeline.from_pretrained("embedded"), Ears()
    rows = Rows(args.rows)
    if args.points:
        points(pipeline, ears, rows, args.points, args.bed)
    if args.clips:
        spans(pipeline, ears, rows, args.clips)
    if args.bound:
        bound(pipeline, ears, rows, args.bound)


if __name__ == "__main__":
    main()
