"""Making stems: each source from its own text, noise and span, and the mix as their sum.

In:   a request.
Out:  `GenerationResult`s whose `stems` add up to `audio` to the last bit.

Why not one sound that is taken apart: masks leave a part of each source in the others, and what is
taken apart can't be made anew alone (decision 87).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from omni2sound import stages
from omni2sound.errors import UserError
from omni2sound.generate.finish import finish
from omni2sound.generate.request import GenerationRequest, GenerationResult, Timings
from omni2sound.generate.stems.exact import with_stems
from omni2sound.generate.stems.hits import WINDOW_S, placed_at
from omni2sound.generate.stems.sources import (
    REST,
    Source,
    Stem,
    hit_plan,
    hits_of,
    plan_of,
    sources_of,
)
from omni2sound.generate.words import notes
from omni2sound.generate.words.plan import Plan, clip_duration, make_plan, said_prompt
from omni2sound.media.samples import Audio

if TYPE_CHECKING:
    from omni2sound.diffusion.settings import OnStep
    from omni2sound.generate.pipeline import Omni2SoundPipeline


TRIES = 3
"""Seeds that are tried for a cue or recognised sound that is not nearly silent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """One source, ready to be sampled for each take."""

    source: Source
    plan: Plan
    duration: Fraction
    """Of the clip, or of the window of a hit."""
    layers: Sequence[Any]


@dataclass(slots=True)
class _Clock:
    """Seconds spent on encoding, sampling and decoding."""

    encode_s: float = 0.0
    sample_s: float = 0.0
    decode_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Maker:
    """What the sources of one request share."""

    pipeline: Omni2SoundPipeline
    request: GenerationRequest
    plan: Plan
    duration: Fraction
    num_steps: int
    scale: float
    clock: _Clock

    def parts(self, only: Collection[str] | None) -> list[_Part]:
        """Prepare the sources; those that last come before hits, and there is one of them."""
        timebase = self.pipeline.facts.timebase
        said = said_prompt(self.request, self.pipeline.facts)
        sources = sources_of(self.plan, said)
        hits = hits_of(self.plan, sources)
        if not self.request.stems:
            sources = [Source(name=REST, text=said)]
        if only is not None:
            names = {s.name for s in (*sources, *hits)} or {REST}
            if missing := sorted(set(only) - names):
                known = ", ".join(sorted(names))
                raise UserError(
                    f"the request has no {missing[0]!r} any more; it has {known}", field="anew"
                )
            sources, hits = ([s for s in found if s.name in only] for found in (sources, hits))
        parts = []
        for source in sources or [Source(name=REST, text=None)]:
            own = self.plan
            if self.request.stems or not sources:
                own = plan_of(self.plan, source, self.duration, timebase)
            if not sources:
                own = replace(own, words=replace(own.words, ambience=None), silent=True)
            parts.append(self._part(source, own, self.request, self.duration))
        asked = replace(
            self.request, video=None, seen=None, recognise=None, leave_out=(), cues=(),
            prompt="a hit", duration_s=WINDOW_S, text_guidance_scale=None,
        )  # fmt: skip
        window = Fraction(WINDOW_S)
        for source in hits:
            own = hit_plan(self.plan, source, window, timebase)
            parts.append(self._part(source, own, asked, window))
        return parts

    def _part(
        self, source: Source, plan: Plan, request: GenerationRequest, duration: Fraction
    ) -> _Part:
        layers, encode_s = self.pipeline._layers(request, plan, duration, self.scale)
        self.clock.encode_s += encode_s
        return _Part(source=source, plan=plan, duration=duration, layers=layers)

    def sound(self, part: _Part, seed: int, on_step: OnStep) -> tuple[Audio, Sequence[Audio]]:
        """The finished sound of one source, and its layers as they were decoded."""
        pipeline, begin = self.pipeline, time.perf_counter()
        latents = [
            pipeline._sample(x, part.duration, [seed], self.num_steps, on_step) for x in part.layers
        ]
        sampled = time.perf_counter()
        sounds = [pipeline._decoded(x, part.duration) for x in latents]
        layers = part.plan.layers(sounds, part.duration, pipeline.facts.timebase)
        audio = finish(pipeline.facts, self.request, layers, part.plan.placed, pipeline.added_band)
        self.clock.sample_s += sampled - begin
        self.clock.decode_s += time.perf_counter() - sampled
        return audio, layers

    def take(
        self, parts: Sequence[_Part], seed: int, on_step: OnStep
    ) -> tuple[list[Stem], list[Audio]]:
        """Stems of one take, and what a tagger hears of them."""
        stems: list[Stem] = []
        audible: list[Audio] = []
        for number, part in enumerate(parts):
            with stages.part(number, len(parts)):
                for attempt in range(1 if part.source.name == REST else TRIES):
                    own = part.source.seed(seed, attempt)
                    audio, layers = self.sound(part, own, on_step)
                    if not _is_silent(audio):
                        break
            if part.source.at_s is not None:
                audio = placed_at(audio, part.source.at_s, stems[0].audio.num_samples)
                num_samples = audible[0].num_samples
                layers = [placed_at(layers[0], part.source.at_s, num_samples)]
            stems.append(Stem(source=part.source, seed=own, audio=audio))
            audible += layers
        return stems, audible


def make_stems(
    pipeline: Omni2SoundPipeline,
    request: GenerationRequest,
    *,
    only: Collection[str] | None = None,
    on_step: OnStep | None = None,
) -> Iterator[GenerationResult]:
    """Make the takes of a request with stems or point cues, one after another.

    Without stems, what is no point cue is made as one sound, that of the request without them.

    Args:
        pipeline: The model.
        request: What is asked.
        only: Names of the sources to make; a result has these alone. Default: all.
        on_step: Called with (steps done, steps in all), over all sources and takes.

    Raises:
        MediaError: The video can't be read.
        UserError: The request asks for what this model can't do, or has no source of a name.
    """
    defaults = pipeline.facts.defaults
    scale = defaults.guidance if request.guidance_scale is None else request.guidance_scale
    request.check_negative_prompt(scale)
    steps = request.num_inference_steps
    num_steps = defaults.steps if steps is None else steps
    duration = clip_duration(request, pipeline.facts)
    clock, begin = _Clock(), time.perf_counter()
    plan = make_plan(request, duration, pipeline.facts, pipeline.encoder)
    clock.encode_s = time.perf_counter() - begin
    maker = _Maker(pipeline=pipeline, request=request, plan=plan, duration=duration,
                   num_steps=num_steps, scale=scale, clock=clock)  # fmt: skip
    with pipeline.encoder.each_video_once():
        parts = maker.parts(only)
    num_layers = sum(len(part.layers) for part in parts) * request.takes
    for take in range(request.takes):
        calls = iter(range(take * num_layers // request.takes, num_layers))
        step = _steps(on_step, calls, num_layers)
        stems, audible = maker.take(parts, request.seed + take, step)
        wanted = [s for s, part in zip(stems, parts, strict=True) if part.layers or len(parts) == 1]
        timings = Timings(
            load_s=pipeline.pending_load_s,
            encode_s=clock.encode_s,
            sample_s=clock.sample_s,
            decode_s=clock.decode_s,
        )
        pipeline.pending_load_s = clock.encode_s = clock.sample_s = clock.decode_s = 0.0
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
            cues=(*plan.cues, *plan.points),
            ambience=plan.words.ambience,
            notes=(*plan.notes, *_silent_ones(wanted), *plan.notes_on(audible, pipeline.encoder)),
        )
        made = with_stems(result, wanted)
        yield made if request.stems else replace(made, stems=())


def _steps(on_step: OnStep | None, calls: Iterator[int], num_calls: int) -> OnStep:
    """Count steps over several calls of the sampler; more calls than expected are the last one."""
    now = next(calls, num_calls - 1)

    def step(done: int, total: int) -> None:
        nonlocal now
        if on_step is not None:
            on_step(now * total + done, num_calls * total)
        if done == total:
            now = next(calls, num_calls - 1)

    return step


def _is_silent(audio: Audio) -> bool:
    return bool(notes.of_level(audio.samples_CN.mean(axis=0), audio.sample_rate_hz))


def _silent_ones(stems: Sequence[Stem]) -> list[str]:
    """What to say of stems that nobody will hear, beside others."""
    if len(stems) < 2:
        return []
    return [
        f"{stem.source.text or stem.source.name!r} is nearly silent; try another seed"
        for stem in stems
        if _is_silent(stem.audio)
    ]
