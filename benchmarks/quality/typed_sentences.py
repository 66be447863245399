"""Does a model sound as typed sentences ask, in words that training never had?

    python benchmarks/quality/typed_sentences.py --model embedded [--limit 24] [--log FILE]
    python benchmarks/quality/typed_sentences.py --nearest minilm bge-small
    python benchmarks/quality/typed_sentences.py --real CORPUS

Reads the 120 sentences of `typed_sentences.tsv`: 60 for kinds of the benchmark scenes, 60 for kinds
that `more_kinds.json` adds. None holds a training name of its kind (a test checks it); they were
written by someone who knows the list of kinds. For each, one sound of 8 s at the model's own
settings, seed = its number. Heard: a YAMNet label of one of its kinds is among the five best (the
class hit of `stage-v1`). Silent: no second above -50 dBFS. Speech and music are counted where the
sentence asks for neither. Intervals are 95 %, over sentences.

`--log` keeps each sentence's outcome, so that a measurement that was stopped goes on.

`--nearest` makes no sound: it asks text encoders alone for the kind whose training phrases (each
name with a verb) are nearest in the mean, for the sentences and for the catalogue's held-out names
with held-out verbs; of two encoders it prints the paired difference.

`--real` prints the ceiling: for each sentence, how often real recordings of its kinds (at most 12 a
kind, of all splits) are heard as what they are, the best of its kinds.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omni2sound.bench.metrics.tagging import CatalogueTagger
from omni2sound.bench.stats.bootstrap import bootstrap_difference, bootstrap_mean
from omni2sound.encoders.base import TextEncoderBase
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.encoders.registry import TEXT_ENCODERS
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.generate.words.kinds import MUSICAL, mean_states
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import Catalogue
from omni2sound.scenes.material.synthesis import SYNTHESIS

FILE = Path(__file__).with_suffix(".tsv")
DURATION_S = 8.0
SILENT_DBFS = -50.0
MOST_REAL = 12
SPOKEN = frozenset({"applause", "crowd"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Sentence:
    """One typed sentence."""

    prompt: str
    kinds: tuple[str, ...]
    """Kinds of which one should be heard."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What one sentence's sound holds."""

    heard: bool
    silent: bool
    unasked: bool
    """Whether there is speech or music that the sentence does not ask for."""


def load_sentences() -> tuple[Sentence, ...]:
    """Read the sentences, in file order."""
    with FILE.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return tuple(
            Sentence(prompt=row["prompt"], kinds=tuple(row["kinds"].split(","))) for row in rows
        )


def is_silent(sound_N: NDArray[np.float32], rate_hz: int) -> bool:
    """Whether no second of a sound is louder than `SILENT_DBFS`."""
    seconds = [sound_N[i : i + rate_hz] for i in range(0, len(sound_N), rate_hz)]
    loudest = max(float(np.square(s, dtype=np.float64).mean()) for s in seconds)
    return 10 * math.log10(max(loudest, 1e-12)) < SILENT_DBFS


def measure(sentence: Sentence, sound_N: NDArray[np.float32], ears: CatalogueTagger) -> Outcome:
    """Listen to the sound (N,) at 16 kHz of one sentence."""
    silent = is_silent(sound_N, YamNet.sample_rate_hz)
    tags = ears.tag(sound_N, YamNet.sample_rate_hz)
    kinds = set(sentence.kinds)
    music = bool(tags.music) and not kinds & MUSICAL
    speech = bool(tags.speech) and not kinds & SPOKEN
    return Outcome(heard=bool(tags.classes & kinds), silent=silent, unasked=music or speech)


def nearest_kinds(encoder: TextEncoderBase, sentences: Sequence[Sentence]) -> list[int]:
    """Place of the nearest right kind among all kinds, 0 for the nearest, for each sentence."""
    kinds = Catalogue.load_all().classes

    def mean_of(texts: Sequence[str]) -> Tensor:
        tokens = encoder(texts)
        means = mean_states(tokens.states_BTD.numpy(), tokens.mask_BT.numpy())
        return torch.nn.functional.normalize(torch.from_numpy(means), dim=-1)

    phrases = [
        [f"{name} {kind.verbs[i % len(kind.verbs)]}" for i, name in enumerate(kind.names)]
        for kind in kinds
    ]
    means_KD = torch.stack([mean_of(of_kind).mean(dim=0) for of_kind in phrases])
    similarity_NK = mean_of([s.prompt for s in sentences]) @ means_KD.T
    places = []
    for sentence, order in zip(
        sentences, similarity_NK.argsort(dim=1, descending=True).tolist(), strict=True
    ):
        right = {i for i, kind in enumerate(kinds) if kind.class_id in sentence.kinds}
        places.append(min(order.index(i) for i in right))
    return places


def real_rates(corpus: Path, ears: CatalogueTagger) -> dict[str, float]:
    """Share of each kind's real recordings that are heard as it."""
    assets = SceneAssets.open(corpus, kinds="all")
    tried: dict[str, list[bool]] = {}
    for recording in assets.catalogue.recordings:
        found = tried.setdefault(recording.class_id, [])
        if recording.package != SYNTHESIS and len(found) < MOST_REAL:
            tags = ears.tag(assets.waveform(recording.recording_id))
            found.append(recording.class_id in tags.classes)
    return {kind: float(np.mean(found)) for kind, found in tried.items() if found}


def _sound(pipeline: TorchPipeline, prompt: str, seed: int) -> NDArray[np.float32]:
    rate_hz = YamNet.sample_rate_hz
    audio = pipeline(prompt=prompt, duration_s=DURATION_S, seed=seed, sample_rate_hz=rate_hz).audio
    samples_N: NDArray[np.float32] = audio.samples_CN.mean(axis=0)
    return samples_N


def _read_log(path: Path | None) -> dict[str, Outcome]:
    if path is None or not path.is_file():
        return {}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {prompt: Outcome(**outcome) for prompt, outcome in rows}


def _line(name: str, values: Sequence[float] | NDArray[np.bool_]) -> str:
    found = bootstrap_mean(np.array(values, dtype=np.float64))
    return f"  {name:24} {found.value:.3f} [{found.low:.3f}, {found.high:.3f}] ({len(values)})"


def _print_nearest(names: Sequence[str]) -> None:
    held_out = [
        Sentence(prompt=f"{name} {verb}", kinds=(kind.class_id,))
        for kind in Catalogue.load_all().classes
        for name, verb in zip(kind.held_out_names, kind.held_out_verbs, strict=False)
    ]
    for what, asked in (("typed", load_sentences()), ("held out", held_out)):
        found = []
        for name in names:
            encoder = TEXT_ENCODERS.find(name).load("cpu", published=None)
            found.append(np.array(nearest_kinds(encoder, asked)))
            for most in (1, 3, 5):
                print(_line(f"{what}, {name}, of {most}", found[-1] < most))
        for most in (1, 3) if len(found) == 2 else ():
            pair = [(f < most).astype(np.float64) for f in (found[1], found[0])]
            difference = bootstrap_difference(*pair)
            values = f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
            print(f"  {what}, second less first, of {most}: {values}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--limit", type=int, help="only every so many sentences as to have these")
    parser.add_argument("--log", type=Path)
    parser.add_argument("--nearest", metavar="TEXT_ENCODER", nargs="+")
    parser.add_argument("--real", type=Path, metavar="CORPUS")
    given = parser.parse_args()
    if given.real:
        known, whole = set(Catalogue.load().class_ids), Catalogue.load_all()
        rates = real_rates(given.real, CatalogueTagger(YamNet.load(), whole))
        print("  ".join(f"{kind} {rate:.2f}" for kind, rate in rates.items()))
        best = {s: max(rates.get(k, 0.0) for k in s.kinds) for s in load_sentences()}
        print(_line("real, benchmark's kinds", [r for s, r in best.items() if known & {*s.kinds}]))
        print(_line("real, other kinds", [r for s, r in best.items() if not known & {*s.kinds}]))
        print(_line("real, all", list(best.values())))
        return
    if given.nearest:
        _print_nearest(given.nearest)
        return
    pipeline, whole = TorchPipeline.load(given.model), Catalogue.load_all()
    ears, known = CatalogueTagger(YamNet.load(), whole), set(Catalogue.load().class_ids)
    sentences = load_sentences()
    chosen = sentences[:: max(1, len(sentences) // (given.limit or len(sentences)))]
    outcomes: dict[bool, list[Outcome]] = {True: [], False: []}
    kept = _read_log(given.log)
    for seed, sentence in enumerate(chosen):
        outcome = kept.get(sentence.prompt)
        if outcome is None:
            outcome = measure(sentence, _sound(pipeline, sentence.prompt, seed), ears)
            if given.log:
                with given.log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([sentence.prompt, asdict(outcome)]) + "\n")
        outcomes[bool(known & set(sentence.kinds))].append(outcome)
        mark = "heard" if outcome.heard else "silent" if outcome.silent else "-"
        print(f"{mark:7} {'+' if outcome.unasked else ' '} {sentence.prompt}", flush=True)
    everything = outcomes[True] + outcomes[False]
    print(_line("heard, benchmark's kinds", [o.heard for o in outcomes[True]]))
    print(_line("heard, other kinds", [o.heard for o in outcomes[False]]))
    print(_line("heard, all", [o.heard for o in everything]))
    print(_line("silent", [o.silent for o in everything]))
    print(_line("speech or music unasked", [o.unasked for o in everything]))


if __name__ == "__main__":
    main()
