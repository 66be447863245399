"""Single-class prompts in held-out wordings, and the classes found in the generated sounds.

In:   recordings and their catalogue, a function that generates sound for prompts, audio taggers.
Out:  `PromptResult`: for each sound, the classes found in it; and the classes left out.

Ground truth is the real test recordings of the same classes, by the same tagger. A class
that it rarely finds even in real recordings (hit rate below 0.7) gets no prompt: that rule
uses recordings only, never a model.

Shape suffixes: N samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.metrics.tagging import AudioTagger, CatalogueTagger, RealTags, tag_recordings
from omni2sound.bench.quick.score import PromptResult
from omni2sound.errors import ConfigError
from omni2sound.scenes.captions import class_prompt
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets

SoundForPrompts = Callable[[Sequence[str], int], Sequence[NDArray[np.float32]]]
"""(prompts, index of the first, for seeds) -> one mono waveform per prompt at 16 kHz."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptRun:
    """The result, and the classes that it covers."""

    result: PromptResult
    prompts: tuple[str, ...]
    oracle_rates: dict[str, float]
    """Hit rate of every class with test recordings, including those left out."""
    second_oracle_rates: dict[str, float]
    """The same by the in-domain tagger; empty without one."""
    left_out: tuple[str, ...]
    """Classes that the tagger does not find reliably."""
    left_out_2nd: tuple[str, ...]
    """The same for the in-domain tagger; it does not score their prompts."""


def run_prompts(
    assets: SceneAssets,
    generate: SoundForPrompts,
    tagger: AudioTagger,
    *,
    in_domain: AudioTagger | None = None,
    num_prompts: int,
    seed: int,
    batch_size: int = 8,
    on_prompts: Callable[[int, int], None] | None = None,
) -> PromptRun:
    """Generate sound for held-out wordings and find the classes in it.

    Args:
        assets: Recordings and their catalogue.
        generate: The model.
        tagger: YAMNet, or a stand-in; decides which classes get prompts.
        in_domain: A second tagger for the same sounds, except for prompts of classes that it
            does not know. Its rows are named "..., 2nd tagger" and are missing if fewer than two
            prompts are left. Default: none.
        num_prompts: Number of prompts, spread evenly over the classes that are scored.
        seed: Random seed of wordings and of the choice of real recordings.
        batch_size: Number of prompts per batch.
        on_prompts: Called with (prompts done, number of prompts).

    Raises:
        ConfigError: If the tagger knows fewer than two classes of the test split.
    """
    catalogue = assets.catalogue
    first = CatalogueTagger(tagger, catalogue)
    real = tag_recordings(assets, first)
    scored = real.scorable
    if len(scored) < 2:
        raise ConfigError(f"the tagger knows {len(scored)} classes of the test split; it needs 2")
    rng = np.random.default_rng([seed, num_prompts])
    class_ids = [scored[i % len(scored)] for i in range(num_prompts)]
    prompts = [class_prompt(catalogue.sound_class(c), rng=rng, held_out=True) for c in class_ids]
    taken = [int(rng.integers(len(real.tags[c]))) for c in class_ids]
    second = None if in_domain is None else CatalogueTagger(in_domain, catalogue)
    real_2nd = RealTags(tags={}) if second is None else tag_recordings(assets, second)
    known_2nd = [c in real_2nd.scorable for c in class_ids]
    generated: list[frozenset[str]] = []
    generated_2nd: list[frozenset[str] | None] = []
    for start in range(0, num_prompts, batch_size):
        waveforms = generate(prompts[start : start + batch_size], start)
        generated += [first.tag(waveform).classes for waveform in waveforms]
        if second is not None:
            generated_2nd += [
                second.tag(waveform).classes if known else None
                for waveform, known in zip(waveforms, known_2nd[start:], strict=False)
            ]
        if on_prompts is not None:
            on_prompts(len(generated), num_prompts)
    silence = first.tag(np.zeros(SAMPLE_RATE_HZ, np.float32)).classes
    found: dict[str, Sequence[frozenset[str] | None]] = {
        "generated": generated,
        "oracle": [real.tags[c][i].classes for c, i in zip(class_ids, taken, strict=True)],
        "silence": [silence] * num_prompts,
    }
    if sum(known_2nd) >= 2:
        found["generated, 2nd tagger"] = generated_2nd
        found["oracle, 2nd tagger"] = [
            real_2nd.tags[c][i].classes if known else None
            for c, i, known in zip(class_ids, taken, known_2nd, strict=True)
        ]
    return PromptRun(
        result=PromptResult(class_ids=class_ids, found=found),
        prompts=tuple(prompts),
        oracle_rates=real.rates,
        second_oracle_rates=real_2nd.rates,
        left_out=tuple(c for c in real.tags if c not in scored),
        left_out_2nd=tuple(c for c in real_2nd.tags if c not in real_2nd.scorable),
    )
