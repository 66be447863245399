"""Prompts in wordings that training never saw, and whether what comes out is heard as asked.

In:   the stage corpus, a function that makes sound for prompts, and a judge.
Out:  `PromptResult`: for each sound, the classes it is heard as; and the classes left out.

The oracle is the real test recordings of the same classes, through the same judge. A class
that the judge does not know even in real recordings (hit rate below 0.7) is not asked for:
that rule looks at recordings only, never at a model.

Shape suffixes: N samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.protocols import Judge, class_hit, class_scores, scorable_classes
from omni2sound.bench.spine import PromptResult
from omni2sound.data.stage.assets import SAMPLE_RATE_HZ, StageAssets
from omni2sound.data.stage.captions import class_prompt
from omni2sound.data.stage.catalogue import Catalogue
from omni2sound.errors import ConfigError

__all__ = ["NamedJudge", "PromptRun", "SoundForPrompts", "run_prompts"]


class NamedJudge(Judge, Protocol):
    """A judge that says what its scores are of."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per score."""


SoundForPrompts = Callable[[Sequence[str], int], Sequence[NDArray[np.float32]]]
"""(prompts, index of the first, for seeds) -> one mono waveform per prompt, at 16 kHz."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptRun:
    """The result, and what it rests on."""

    result: PromptResult
    prompts: tuple[str, ...]
    oracle_rates: dict[str, float]
    """Of every class with test recordings, the ones left out included."""
    left_out: tuple[str, ...]
    """Classes that the judge does not know well enough."""


def run_prompts(
    assets: StageAssets,
    generate: SoundForPrompts,
    judge: NamedJudge,
    *,
    num_prompts: int,
    seed: int,
    batch_size: int = 8,
    on_prompts: Callable[[int, int], None] | None = None,
) -> PromptRun:
    """Generate for held-out wordings and have the judge name what is heard.

    Args:
        assets: The stage corpus.
        generate: The model.
        judge: YAMNet, or a stand-in.
        num_prompts: How many prompts, spread evenly over the classes that are scored.
        seed: Of wordings and of the real recordings beside them.
        batch_size: Prompts given to the model at once.
        on_prompts: Called with (prompts done, prompts in all).

    Raises:
        ConfigError: If the judge knows fewer than two classes of the corpus.
    """
    catalogue = assets.catalogue
    ears = _Ears(judge, catalogue)
    real = {
        c: [ears.heard(assets.waveform(r.recording_id)) for r in recordings]
        for c in catalogue.class_ids
        if (recordings := catalogue.recordings_of(c, "test"))
    }
    oracle_hits = {c: [c in heard for heard in all_heard] for c, all_heard in real.items()}
    scored = scorable_classes(oracle_hits)
    if len(scored) < 2:
        raise ConfigError(f"the judge knows {len(scored)} classes of the test split; it needs 2")
    rng = np.random.default_rng([seed, num_prompts])
    class_ids = [scored[i % len(scored)] for i in range(num_prompts)]
    prompts = [class_prompt(catalogue.sound_class(c), rng=rng, held_out=True) for c in class_ids]
    oracle = [real[c][int(rng.integers(len(real[c])))] for c in class_ids]
    generated: list[frozenset[str]] = []
    for first in range(0, num_prompts, batch_size):
        waveforms = generate(prompts[first : first + batch_size], first)
        generated += [ears.heard(waveform) for waveform in waveforms]
        if on_prompts is not None:
            on_prompts(len(generated), num_prompts)
    silence = [ears.heard(np.zeros(SAMPLE_RATE_HZ, np.float32))] * num_prompts
    return PromptRun(
        result=PromptResult(
            class_ids=class_ids,
            heard={"generated": generated, "oracle": oracle, "silence": silence},
        ),
        prompts=tuple(prompts),
        oracle_rates={c: float(np.mean(hits)) for c, hits in oracle_hits.items()},
        left_out=tuple(c for c in oracle_hits if c not in scored),
    )


class _Ears:
    """Names the catalogue's classes that a sound is heard as."""

    def __init__(self, judge: NamedJudge, catalogue: Catalogue) -> None:
        self._judge = judge
        self._groups = {c.class_id: c.yamnet_classes for c in catalogue.classes}

    def heard(self, waveform_N: NDArray[np.float32]) -> frozenset[str]:
        scores = class_scores(waveform_N, SAMPLE_RATE_HZ, self._judge)
        names = self._judge.class_names
        return frozenset(c for c, group in self._groups.items() if class_hit(scores, names, group))
