"""Making stems: each source from its own text, noise and span, and the mix as their sum.

In:   a request.
Out:  `GenerationResult`s whose `stems` add up to `audio` to the last bit.

Why not one sound that is taken apart: masks leave a part of each source in the others, and what is
taken apart can't be made anew alone (decision 87).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from omni2sound.generate.finish import finish
from omni2sound.generate.request import GenerationRequest, GenerationResult, Timings
from omni2sound.generate.stems.exact import with_stems
from omni2sound.generate.stems.sources import Source, Stem, plan_of, sources_of
from omni2sound.generate.words import notes
from omni2sound.generate.words.plan import Plan, clip_duration, make_plan, said_prompt
from omni2sound.media.samples import Audio

if TYPE_CHECKING:
    from omni2sound.diffusion.settings import OnStep
    from omni2sound.generate.pipeline import Omni2SoundPipeline


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """One source, ready to be sampled for each take."""

    source: Source
    plan: Plan
    layers: Sequence[Any]


@dataclass(slots=True)
class _Clock:
    """Seconds spent on sampling and on decoding."""

    sample_s: float = 0.0
    decode_s: float = 0.0


def make_stems(
    pipeline: Omni2SoundPipeline,
    request: GenerationRequest,
    *,
    only: Collection[str] | None = None,
    on_step: OnStep | None = None,
) -> Iterator[GenerationResult]:
    """Make the takes of a request with stems, one after another.

    Args:
        pipeline: The model.
        request: What is asked.
        only: Names of the sources to make; a result has these alone. Default: all.
        on_step: Called with (steps done, steps in all), over all sources and takes.

    Raises:
        MediaError: The video can't be read.
        UserError: The request asks for what this model can't do.
    """
    defaults = pipeline.facts.defaults
    scale = defaults.guidance if request.guidance_scale is None else request.guidance_scale
    request.check_negative_prompt(scale)
    steps = request.num_inference_steps
    num_steps = defaults.steps if steps is None else steps
    duration = clip_duration(request, pipeline.facts)
    begin = time.perf_counter()
    plan = make_plan(request, duration, pipeline.facts, pipeline.encoder)
    encode_s = time.perf_counter() - begin
    parts = []
    for source in sources_of(plan, said_prompt(request, pipeline.facts)):
        if only is None or source.name in only:
            own = plan_of(plan, source, duration, pipeline.facts.timebase)
            layers, more_s = pipeline._layers(request, own, duration, scale)
            encode_s += more_s
            parts.append(_Part(source=source, plan=own, layers=layers))
    num_layers = sum(len(part.layers) for part in parts) * request.takes
    done_layers = 0

    def step(done: int, total: int) -> None:
        if on_step is not None:
            on_step(done_layers * total + done, num_layers * total)

    for take in range(request.takes):
        clock = _Clock()
        stems: list[Stem] = []
        audible: list[Audio] = []
        for part in parts:
            seed = part.source.seed(request.seed + take)
            audio, heard = _sound(pipeline, request, part, duration, seed, num_steps, step, clock)
            done_layers += len(part.layers)
            stems.append(Stem(source=part.source, seed=seed, audio=audio))
            audible += heard
        timings = Timings(
            load_s=pipeline.pending_load_s,
            encode_s=encode_s,
            sample_s=clock.sample_s,
            decode_s=clock.decode_s,
        )
        pipeline.pending_load_s = encode_s = 0.0
        result = GenerationResult(
            audio=stems[0].audio,
            request=request,
            seed=request.seed + take,
            num_inference_steps=num_steps,
            guidance_scale=scale,
            model=pipeline.facts.name,
            model_sha256=pipeline.sha256,
            dtype=pipeline.dtype_name,
            timings=timings,
            seen=plan.seen,
            text=plan.words.text,
            cues=plan.cues,
            ambience=plan.words.ambience,
            notes=(
                *plan.notes,
                *_silent_ones(stems),
                *plan.notes_on(audible, pipeline.encoder),
            ),
        )
        yield with_stems(result, stems)


def _sound(
    pipeline: Omni2SoundPipeline,
    request: GenerationRequest,
    part: _Part,
    duration: Fraction,
    seed: int,
    num_steps: int,
    on_step: OnStep,
    clock: _Clock,
) -> tuple[Audio, Sequence[Audio]]:
    """The finished sound of one source, and its layers as they were decoded."""
    begin = time.perf_counter()
    latents = [pipeline._sample(x, duration, [seed], num_steps, on_step) for x in part.layers]
    sampled = time.perf_counter()
    sounds = [pipeline._decoded(x, duration) for x in latents]
    layers = part.plan.layers(sounds, duration, pipeline.facts.timebase)
    audio = finish(pipeline.facts, request, layers, part.plan.placed, pipeline.added_band)
    clock.sample_s += sampled - begin
    clock.decode_s += time.perf_counter() - sampled
    return audio, layers


def _silent_ones(stems: Sequence[Stem]) -> list[str]:
    """What to say of stems that nobody will hear, beside others."""
    if len(stems) < 2:
        return []
    return [
        f"stem {stem.source.name!r} is nearly silent; try another seed"
        for stem in stems
        if notes.of_level(stem.audio.samples_CN.mean(axis=0), stem.audio.sample_rate_hz)
    ]
