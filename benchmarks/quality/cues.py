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

Must show: within 60 ms in at least .8, inside at least .7, outside at most .15.
"""

from __future__ import annotations

import argparse

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
from omni2sound.scenes.material.catalogue import Catalogue

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


def points(pipeline: Omni2SoundPipeline, ears: Ears, count: int, bed: str | None) -> None:
    """Measure point cues, alone or beside a bed."""
    kinds = [kind for kind in all_kinds() if kind.kind == "impulsive"]
    rng = np.random.default_rng(0)
    distances, heard = [], []
    for number in range(count):
        kind, at_s = kinds[number % len(kinds)], float(rng.uniform(0.5, 2.5))
        cue = Cue(start_s=at_s, text=example_of(kind))
        audio = pipeline(prompt=bed, cues=[cue], duration_s=4, seed=number).audio
        onset_s = strongest_onset_s(audio.samples_CN[0], audio.sample_rate_hz)
        distances.append(np.inf if onset_s is None else abs(onset_s - at_s))
        heard.append([kind.class_id in found for found in ears.heard(audio, at_s, 4)])
        print(f"{kind.class_id:10} {distances[-1]:.3f} s {heard[-1]}", flush=True)
    near, loud = np.array(distances) <= NEAR_S, np.isfinite(distances)
    print(f"{len(kinds)} impulsive kinds, {count} cues")
    print(f"within {NEAR_S * 1000:.0f} ms    {bootstrap_mean(near)}")
    print(f"no onset        {bootstrap_mean(~loud)}")
    print(f"median distance {np.median(np.array(distances)[loud]):.3f} s")
    ears.show("heard", heard)


def spans(pipeline: Omni2SoundPipeline, ears: Ears, count: int) -> None:
    """Measure cues with an end."""
    kinds, rng = all_kinds(), np.random.default_rng(1)
    inside, outside = [], []
    for number in range(count):
        pair = [kinds[k] for k in rng.choice(len(kinds), 2, replace=False)]
        cues = [
            Cue(start_s=s, end_s=e, text=example_of(kind))
            for kind, (s, e) in zip(pair, SPANS_S, strict=True)
        ]
        audio = pipeline(cues=cues, duration_s=8, seed=number).audio
        found = [ears.heard(audio, *span) for span in SPANS_S]
        ids = [kind.class_id for kind in pair]
        by = range(len(ears.names))
        inside.append([float(np.mean([ids[k] in found[k][t] for k in (0, 1)])) for t in by])
        outside.append([float(np.mean([ids[k] in found[1 - k][t] for k in (0, 1)])) for t in by])
        print(f"{ids[0]:10} {ids[1]:10} {inside[-1]} {outside[-1]}", flush=True)
    ears.show("heard inside", inside)
    ears.show("heard outside", outside)


def bound(pipeline: Omni2SoundPipeline, ears: Ears, count: int) -> None:
    """Measure prompts over a whole clip."""
    kinds, heard = all_kinds(), []
    for number in range(count):
        kind = kinds[number % len(kinds)]
        audio = pipeline(prompt=example_of(kind), duration_s=8, seed=number).audio
        heard.append([kind.class_id in found for found in ears.heard(audio, 0, 8)])
        print(f"{kind.class_id:10} {heard[-1]}", flush=True)
    ears.show("heard in 8 s", heard)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--clips", type=int, default=25)
    parser.add_argument("--bound", type=int, default=43, help="Clips of a prompt. Default: 43.")
    parser.add_argument("--bed", help="Prompt under point cues. Default: none.")
    args = parser.parse_args()
    pipeline, ears = Omni2SoundPipeline.from_pretrained("embedded"), Ears()
    if args.points:
        points(pipeline, ears, args.points, args.bed)
    if args.clips:
        spans(pipeline, ears, args.clips)
    if args.bound:
        bound(pipeline, ears, args.bound)


if __name__ == "__main__":
    main()
