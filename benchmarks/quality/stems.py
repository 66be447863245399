"""Is each of two sounds heard in its stem, and not in the other one?

Run:  python benchmarks/quality/stems.py [--pairs 20] [--seconds 4]

For each of --pairs pairs of the model's kinds, two cues over the whole of --seconds seconds are
made with stems. A kind is heard by YAMNet's class hit of `stage-v1`. Printed, with 95 % intervals
over pairs: the share of stems in which their own kind is heard (and is, in the mix), the share in
which the other one's is, and how many pairs do not add up to the mix sample for sample.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from omni2sound import Omni2SoundPipeline
from omni2sound.bench.metrics.tagging import CatalogueTagger
from omni2sound.bench.stats.bootstrap import bootstrap_mean
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.generate.request import GenerationRequest
from omni2sound.generate.words.cues import Cue
from omni2sound.generate.words.kinds import all_kinds, example_of
from omni2sound.generate.words.notes import for_tagger
from omni2sound.media.samples import Audio
from omni2sound.scenes.material.catalogue import Catalogue


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=4.0)
    args = parser.parse_args()
    pipeline, ears = (
        Omni2SoundPipeline.from_pretrained("embedded"),
        CatalogueTagger(YamNet.load(), Catalogue.load()),
    )

    def heard(audio: Audio) -> frozenset[str]:
        return frozenset(ears.tag(for_tagger(audio), YamNet.sample_rate_hz).classes)

    kinds = all_kinds()
    rng = np.random.default_rng(0)
    own, others, mixed, num_wrong = [], [], [], 0
    for number in range(args.pairs):
        pair = [kinds[k] for k in rng.choice(len(kinds), 2, replace=False)]
        cues = tuple(Cue(start_s=0, end_s=args.seconds, text=example_of(kind)) for kind in pair)
        asked = GenerationRequest(cues=cues, duration_s=args.seconds, seed=number, stems=True)
        (made,) = pipeline.run(asked)
        total_CN = np.sum([s.audio.samples_CN.astype(np.float64) for s in made.stems], axis=0)
        num_wrong += int((total_CN != made.audio.samples_CN).any())
        tags = [heard(stem.audio) for stem in made.stems]
        ids = [kind.class_id for kind in pair]
        own.append(np.mean([ids[k] in tags[k] for k in (0, 1)]))
        others.append(np.mean([ids[1 - k] in tags[k] for k in (0, 1)]))
        together = heard(replace(made.audio, samples_CN=total_CN.astype(np.float32)))
        mixed.append(np.mean([name in together for name in ids]))
        print(f"{ids[0]:10} {ids[1]:10} own {own[-1]:.1f} other {others[-1]:.1f}", flush=True)
    for label, values in (("own", own), ("in the mix", mixed), ("other one's", others)):
        print(f"{label:12} {bootstrap_mean(np.array(values))}")
    print(f"{num_wrong} of {args.pairs} do not add up to the mix")


if __name__ == "__main__":
    main()
