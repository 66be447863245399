"""The plan of a result: what the video shows, what the model is told when, and notes.

In:   a request, the model and its encoders.
Out:  `Plan`, from which features are computed; nothing is sampled here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from omni2sound.errors import UserError
from omni2sound.generate.going_on import bed_below
from omni2sound.generate.request import GenerationRequest, ModelFacts
from omni2sound.generate.words import notes
from omni2sound.generate.words.cues import Cue, Score, compose, joined
from omni2sound.generate.words.encoder import RequestEncoder
from omni2sound.generate.words.seen import Words, choose_words
from omni2sound.media.files import shown_name
from omni2sound.media.info import describe, probe
from omni2sound.media.samples import Audio
from omni2sound.recognise.observe import Seen, SeenThing
from omni2sound.recognise.things import load_things
from omni2sound.stages import enter
from omni2sound.timebase import TimeBase

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is to be made of one request, before any feature is computed."""

    seen: Seen | None
    words: Words
    score: Score
    cues: tuple[Cue, ...]
    points: tuple[Cue, ...]
    """Cues without an end, which are made by themselves (`stems.hits`)."""
    silent: bool
    """Whether there is nothing to sound but a bed."""
    notes: tuple[str, ...]
    tagged: bool
    """Whether speech and music that nobody asked for are told."""

    @property
    def texts(self) -> tuple[str, ...]:
        """All that is asked for."""
        points = (cue.text for cue in self.points)
        texts = (*self.score.texts, self.words.ambience, *points)
        return tuple(text for text in texts if text is not None)

    def layers(
        self, sounds_1N: Sequence[NDArray[np.float32]], duration: Fraction, timebase: TimeBase
    ) -> tuple[Audio, ...]:
        """The sound, muted where nothing is asked for, and its bed if there is one.

        Args:
            sounds_1N: The sound unless the plan is silent, and the bed if there is one.
            duration: Seconds of sound.
            timebase: The model's time base.
        """
        made = [Audio(samples_CN=x, sample_rate_hz=timebase.sample_rate_hz) for x in sounds_1N]
        num_samples = timebase.num_samples(duration)
        if self.silent:
            empty = np.zeros((1, num_samples), np.float32)
            made.insert(0, Audio(samples_CN=empty, sample_rate_hz=timebase.sample_rate_hz))
        elif not self.score.is_plain:
            gate_N = self.score.gate(num_samples, timebase.hop_samples)
            made[0] = replace(made[0], samples_CN=made[0].samples_CN * gate_N)
        return (made[0], *(bed_below(made[0], bed) for bed in made[1:]))

    @property
    def placed(self) -> tuple[SeenThing, ...]:
        """Seen things that are in the sound, not in its bed."""
        if self.seen is None:
            return ()
        prompts = load_things().prompts
        return tuple(
            thing
            for thing in self.seen.things
            if thing.sound is not None and prompts[thing.sound] in self.words.placed
        )

    def notes_on(self, layers: Sequence[Audio], encoder: RequestEncoder) -> tuple[str, ...]:
        """Notes on the sound that came out, with its bed."""
        if self.silent and self.words.ambience is None:
            return ()
        samples_1N = sum((layer.samples_CN for layer in layers[1:]), start=layers[0].samples_CN)
        audio = replace(layers[0], samples_CN=samples_1N)
        quiet = notes.of_level(audio.samples_CN[0], audio.sample_rate_hz)
        if quiet or not self.tagged:
            return quiet
        with encoder.tagger() as tagger:
            scores_PK = tagger.scores(notes.for_tagger(audio))
        return notes.of_strangers(scores_PK, tagger.class_names, self.texts)


def clip_duration(request: GenerationRequest, model: ModelFacts) -> Fraction:
    """Seconds of sound to make.

    Raises:
        MediaError: The video can't be read.
        UserError: The video is longer than the model can follow.
    """
    duration = request.resolve_duration(model.defaults.duration_s)
    if request.video is None:
        return duration
    logger.debug("%s: %s", shown_name(request.video), describe(probe(request.video)))
    asked_s, longest_s = request.duration_s, model.defaults.max_duration_s
    # Lengths of videos are not round: less than a frame's time is no cut.
    if asked_s is not None and asked_s - duration > 0.05:
        logger.warning(
            "%s: lasts %.2f s; the sound ends with it, not after the %.2f s that were asked for",
            shown_name(request.video),
            float(duration),
            asked_s,
        )
    if model.is_bounded and duration > longest_s:
        # Its features start with the clip; windows of them mean nothing.
        raise UserError(
            f"this model makes sound for up to {longest_s:g} s of video, "
            f"got {float(duration):g} s; cut the video, or give a shorter `duration_s`"
        )
    return duration


def make_plan(
    request: GenerationRequest, duration: Fraction, model: ModelFacts, encoder: RequestEncoder
) -> Plan:
    """Look into the video, and choose the texts that the model is given.

    Raises:
        MediaError: The video can't be read.
        MissingPartError: A bundled network is not installed.
        UserError: A cue begins after the end.
    """
    for cue in request.cues:
        if cue.start_s >= duration:
            raise UserError(
                f"{cue.text[:60]!r} begins at {cue.start_s:g} s, but the sound ends at "
                f"{float(duration):g} s; give an earlier span or a longer `duration_s`",
                field="cues",
            )
    known = model.defaults.recognise  # the model's kinds are those of the catalogue
    prompt, cues = said_prompt(request, model), request.cues
    if known:
        encoder.sound_stems()  # a tagger that is missing is told now, not after all the work
        cues = tuple(cue for cue in cues if not notes.asks_for_speech_alone(cue.text))
    seen, words = _words(request, prompt, duration, model, encoder)
    points = tuple(cue for cue in cues if cue.end_s is None)
    cues = (*words.cues, *(cue for cue in cues if cue.end_s is not None))
    score = compose(
        words.text,
        cues,
        num_frames=model.timebase.num_latent_frames(duration),
        frames_per_s=model.timebase.latent_rate_hz,
        pictures=request.video is not None and words.pictures,
    )
    own = [t for t in (request.prompt, *(cue.text for cue in request.cues)) if t is not None]
    more: tuple[str, ...] = ()
    if known:
        more = notes.of_speech(own)
        own = [t for t in own if not notes.asks_for_speech(t)]
        more += notes.of_other_languages(own, encoder.is_english)
        more += notes.of_far_prompts(
            [t for t in own if notes.is_readable(t) and encoder.is_english(t)],
            encoder.nearest_kinds,
        )
    return Plan(
        seen=seen,
        words=words,
        score=score,
        cues=cues,
        points=points,
        silent=(words.silent and not cues) or not score.texts,
        notes=(*words.notes, *more),
        tagged=known,
    )


def said_prompt(request: GenerationRequest, model: ModelFacts) -> str | None:
    """Return the prompt, unless it asks for speech alone and the model makes none."""
    if model.defaults.recognise and notes.asks_for_speech_alone(request.prompt):
        return None
    return request.prompt


def _words(
    request: GenerationRequest,
    prompt: str | None,
    duration: Fraction,
    model: ModelFacts,
    encoder: RequestEncoder,
) -> tuple[Seen | None, Words]:
    """What the video shows, and the text that the model is given."""
    if request.seen is not None:
        text = joined([t for t in (prompt, request.seen) if t is not None])
        return None, Words(text=text, pictures=False, silent=False, always=(request.seen,))
    asked = request.recognise
    wanted = model.defaults.recognise if asked is None else asked
    if request.video is None or not wanted:
        return None, Words(text=prompt, pictures=True, silent=False)
    enter("looking at the video")
    seen = encoder.recognise(request.video, duration, then_encode=True)
    unseen = set(request.leave_out) - {thing.name for thing in seen.things}
    seen = replace(seen, things=tuple(_muted(t, request.leave_out) for t in seen.things))
    words = choose_words(
        seen,
        prompt,
        encoder.names,
        duration_s=float(duration),
        ambience=request.ambience,
    )
    if unseen:
        told = f"not seen, so `leave_out` has no effect: {', '.join(sorted(unseen))}"
        words = replace(words, notes=(*words.notes, told))
    return seen, words


def _muted(thing: SeenThing, names: Sequence[str]) -> SeenThing:
    """The thing, without its sound if it is one of those that are left out."""
    left_out = thing.name in names
    return replace(thing, sounding=False, silent="left out") if left_out else thing
