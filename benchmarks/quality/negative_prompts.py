"""Does a negative prompt take its sound out, and only its sound?

Run:  python benchmarks/quality/negative_prompts.py [--prompts 20]

Sentences "A and B" of two classes of the default model, the same seeds three times: without a
negative prompt, with B as the negative one, and with a third class C, which should change nothing.
Prints YAMNet's largest score of each class's group, and how often it is heard; differences are
paired, with 95 % intervals.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.metrics.tagging import CatalogueTagger, patch_scores
from omni2sound.bench.quick.score import QUICK_CLASSES
from omni2sound.bench.stats.bootstrap import bootstrap_difference
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.scenes.captions import class_prompt
from omni2sound.scenes.material.catalogue import Catalogue

DURATION_S = 4.0
BATCH = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=20)
    count = parser.parse_args().prompts
    catalogue, rng, judge = Catalogue.load(), np.random.default_rng(0), YamNet.load()
    ears = CatalogueTagger(judge, catalogue)
    triples = [rng.choice(len(QUICK_CLASSES), 3, replace=False) for _ in range(count)]
    names = [[QUICK_CLASSES[k] for k in triple] for triple in triples]
    texts = [
        [class_prompt(catalogue.sound_class(c), rng=rng, held_out=False) for c in row]
        for row in names
    ]
    prompts = [f"{a} and {b}" for a, b, _ in texts]
    negatives = {"none": None, "B": [b for _, b, _ in texts], "C": [c for _, _, c in texts]}
    groups = {
        c.class_id: [judge.class_names.index(n) for n in c.yamnet_classes]
        for c in catalogue.classes
    }
    pipeline = TorchPipeline.load("embedded", device="cpu")
    scores: dict[str, NDArray[np.float64]] = {}
    for negative, negative_texts in negatives.items():
        sounds = _sounds(pipeline, prompts, negative_texts)
        rows, heard = [], []
        for sound_N, (a, b, _) in zip(sounds, names, strict=True):
            scores_PK = patch_scores(sound_N, 16_000, judge)
            largest = [0.0 if scores_PK is None else scores_PK[:, groups[c]].max() for c in (a, b)]
            rows.append(largest)
            heard.append([c in ears.tag(sound_N).classes for c in (a, b)])
        scores[negative] = np.array(rows, float)
        means = [*scores[negative].mean(axis=0), *np.mean(heard, axis=0)]
        words = ("A's score", "B's score", "A heard", "B heard")
        told = ", ".join(f"{w} {m:.3f}" for w, m in zip(words, means, strict=True))
        print(f"negative prompt {negative}: {told}", flush=True)
    for negative in ("B", "C"):
        for i, which in enumerate("AB"):
            d = bootstrap_difference(scores[negative][:, i], scores["none"][:, i])
            print(f"{which}'s score with {negative}: {d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]")


def _sounds(
    pipeline: TorchPipeline, prompts: list[str], negatives: list[str] | None
) -> list[NDArray[np.float32]]:
    made: list[NDArray[np.float32]] = []

    def encoded(texts: list[str]):
        return pipeline.encoder.encode_arrays(None, None, texts, duration_s=DURATION_S)

    for first in range(0, len(prompts), BATCH):
        part = slice(first, first + BATCH)
        sound_BN = pipeline.generate_batch(
            encoded(prompts[part]),
            duration_s=DURATION_S,
            seeds=range(first, first + len(prompts[part])),
            negative=None if negatives is None else encoded(negatives[part]),
        )
        made += list(sound_BN.numpy())
    return made


if __name__ == "__main__":
    main()
