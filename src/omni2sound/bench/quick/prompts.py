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

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.metrics.tagging import AudioTagger, CatalogueTagger, tag_recordings
from omni2sound.bench.quick.score import PromptResult
from omni2sound.errors import ConfigError
from omni2sound.scenes.captions import class_prompt
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets

__all__ = ["PromptRun", "SoundForPrompts", "run_prompts"]


SoundForPrompts = Callable[[Sequence[str], int], Sequence[NDArray[np.float32]]]
"""(prompts, index of the first, for seeds) -> one mono waveform per prompt, at 16 kHz."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptRun:
    """The result, and what it rests on."""

    result: PromptResult
    prompts: tuple[str, ...]
    oracle_rates: dict[str, float]
    """Of every class with test recordings, the ones left out included."""
    second_oracle_rates: dict[str, float]
    """The same of the second judge; empty without one."""
    left_out: tuple[str, ...]
    """Classes that the judge does not know well enough."""
    left_out_2nd: tuple[str, ...]
    """The same of the second judge; it is not asked about their prompts."""


def run_prompts(
    assets: SceneAssets,
    generate: SoundForPrompts,
    judge: AudioTagger,
    *,
    second_judge: AudioTagger | None = None,
    num_prompts: int,
    seed: int,
    batch_size: int = 8,
    on_prompts: Callable[[int, int], None] | None = None,
) -> PromptRun:
    """Generate for held-out wordings and have the judge name what is heard.

    Args:
        assets: The stage corpus.
        generate: The model.
        judge: YAMNet, or a stand-in. It decides which classes are asked.
        second_judge: Hears the same sounds, but for prompts of classes that it does not know;
            its systems are named "..., 2nd judge", and missing if fewer than two prompts are left.
        num_prompts: How many prompts, spread evenly over the classes that are scored.
        seed: Of wordings and of the real recordings beside them.
        batch_size: Prompts given to the model at once.
        on_prompts: Called with (prompts done, prompts in all).

    Raises:
        ConfigError: If the judge knows fewer than two classes of the corpus.
    """
    catalogue = assets.catalogue
    ears = CatalogueTagger(judge, catalogue)
    real = tag_recordings(assets, ears)
    scored = real.scorable
    if len(scored) < 2:
        raise ConfigError(f"the judge knows {len(scored)} classes of the test split; it needs 2")
    rng = np.random.default_rng([seed, num_prompts])
    class_ids = [scored[i % len(scored)] for i in range(num_prompts)]
    prompts = [class_prompt(catalogue.sound_class(c), rng=rng, held_out=True) for c in class_ids]
    taken = [int(rng.integers(len(real.tags[c]))) for c in class_ids]
    oracle = [real.tags[c][i].classes for c, i in zip(class_ids, taken, strict=True)]
    second = None if second_judge is None else CatalogueTagger(second_judge, catalogue)
    real_2nd = None if second is None else tag_recordings(assets, second)
    known_2nd = [real_2nd is not None and c in real_2nd.scorable for c in class_ids]
    generated: list[frozenset[str]] = []
    generated_2nd: list[frozenset[str] | None] = []
    for first in range(0, num_prompts, batch_size):
        waveforms = generate(prompts[first : first + batch_size], first)
        generated += [ears.tag(waveform).classes for waveform in waveforms]
        if second is not None:
            generated_2nd += [
                second.tag(waveform).classes if known else None
                for waveform, known in zip(waveforms, known_2nd[first:], strict=False)
            ]
        if on_prompts is not None:
            on_prompts(len(generated), num_prompts)
    silence = [ears.tag(np.zeros(SAMPLE_RATE_HZ, np.float32)).classes] * num_prompts
    heard: dict[str, Sequence[frozenset[str] | None]] = {
        "generated": generated,
        "oracle": oracle,
        "silence": silence,
    }
    if real_2nd is not None and sum(known_2nd) >= 2:
        heard["generated, 2nd judge"] = generated_2nd
        heard["oracle, 2nd judge"] = [
            real_2nd.tags[c][i].classes if known else None
            for c, i, known in zip(class_ids, taken, known_2nd, strict=True)
        ]
    return PromptRun(
        result=PromptResult(class_ids=class_ids, heard=heard),
        prompts=tuple(prompts),
        oracle_rates=real.rates,
        second_oracle_rates={} if real_2nd is None else real_2nd.rates,
        left_out=tuple(c for c in real.tags if c not in scored),
        left_out_2nd=()
        if real_2nd is None
        else tuple(c for c in real_2nd.tags if c not in real_2nd.scorable),
    )
