"""Scorer, viewer, junior, senior and validator made of local networks.

In:   works; an `Executor`; the folder of the joint heads.
Out:  the same records as from chat models.

Only `LocalScorer` and `LocalSenior` read the sound, in the executor. The others use perceptions
and are instant. Junior and senior get the picture as text only (`Work.context`); `sees_for_itself`
breaks that rule to measure its effect.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omni2sound.annotate.executor import Executor
from omni2sound.annotate.local.events import EventRules, caption_of, events_of, mostly_music
from omni2sound.annotate.local.perceive import (
    ClipJob,
    ScoreJob,
    best_look,
    listen_finely,
    perceive,
    score_captions,
)
from omni2sound.annotate.local.wording import Rewording
from omni2sound.annotate.local.words import Vocabulary
from omni2sound.annotate.records import (
    Caption,
    Failure,
    Fit,
    Patch,
    Perception,
    SeniorCaption,
    Shot,
    Turn,
    Verdict,
    VisualContext,
)
from omni2sound.annotate.roles import Results, Work
from omni2sound.config import to_json
from omni2sound.weights import load_card

_VERSION = 2
"""Incremented when the same input gives another result."""
_CAPTIONS_VERSION = 4
"""Version of junior and senior, which do not perceive."""
_CAPTIONS_A_JOB = 64
SEEN_SCORE = 0.35
"""Least score of a visible thing. It finds a third of the things that sound and are shown
(validation split); four of five things that it names are silent, many of them truly there."""
MIGHT_BE_SEEN = 0.12
"""Score below which a thing is hardly in the picture: 2 % of true captions and two thirds of
other scenes' captions have nothing above it (validation split)."""
_BORROWED = 0.5
"""Weight of the picture's scores in the late fusion of `sees_for_itself`."""
_AGREED = EventRules(threshold=0.1, seen_threshold=0.05)
"""Thresholds for `agreement.agreed_scores`, from validation scenes (docs/experiments)."""


@dataclass(frozen=True, kw_only=True)
class LocalScorer:
    """YAMNet, MobileNetV2, MiniLM and the joint heads."""

    joint: Path
    executor: Executor
    name: str = "embedded"
    lanes: None = None

    @property
    def identity(self) -> Any:
        """Version and digest of the joint heads."""
        return ["local", _VERSION, load_card(self.joint).sha256]

    def perceive(self, works: Sequence[Work]) -> AsyncIterator[tuple[int, Perception | Failure]]:
        """See `roles.Scorer`."""
        jobs = [ClipJob(clip=work.clip, joint=self.joint) for work in works]
        return self.executor.map(perceive, jobs)

    async def score(self, works: Sequence[Work]) -> AsyncIterator[tuple[int, Fit]]:
        """See `roles.Scorer`."""
        jobs = []
        for first in range(0, len(works), _CAPTIONS_A_JOB):
            some = works[first : first + _CAPTIONS_A_JOB]
            perceptions = tuple(_perceived(work) for work in some)
            captions = tuple(w.caption for w in some if w.caption is not None)
            assert len(captions) == len(some)  # the step of captions comes before
            jobs.append(ScoreJob(joint=self.joint, perceptions=perceptions, captions=captions))
        async for number, fits in self.executor.map(score_captions, jobs):
            for index, fit in enumerate(fits, start=number * _CAPTIONS_A_JOB):
                yield index, fit


class LocalViewer:
    """Names recognised things, shot by shot."""

    lanes = None
    identity = ("local viewer", _VERSION, SEEN_SCORE)

    async def describe(self, works: Sequence[Work]) -> Results[VisualContext]:
        """See `roles.Viewer`."""
        for index, work in enumerate(works):
            yield index, _described(_perceived(work))


def _described(perception: Perception) -> VisualContext:
    shots = []
    for look in perception.looks:
        things = tuple(name for name, score in look.seen.items() if score >= SEEN_SCORE)
        text = f"The picture shows {_listed(things)}." if things else "Nothing is recognised."
        shots.append(Shot(start_s=look.start_s, end_s=look.end_s, text=text, things=things))
    return VisualContext(shots=tuple(shots))


def _unseen(perception: Perception, words: Vocabulary) -> frozenset[str]:
    """Find things that picture models can name and that are hardly in any shot.

    The viewer's text would not do: it names a third of the visible things, so a missing name means
    nothing.
    """
    if not perception.looks:
        return frozenset()
    return frozenset(
        thing.name
        for thing in words.visible
        if best_look(perception.looks, thing.name) < MIGHT_BE_SEEN
    )


def _listed(things: Sequence[str]) -> str:
    return things[0] if len(things) == 1 else f"{', '.join(things[:-1])} and {things[-1]}"


def _perceived(work: Work) -> Perception:
    assert work.perception is not None  # the first step of every clip
    return work.perception


@dataclass(frozen=True, kw_only=True)
class LocalJunior:
    """Turns YAMNet's tags into events and a sentence."""

    words: Vocabulary
    rules: EventRules = field(default_factory=EventRules)
    sees_for_itself: bool = False
    """Mixes the picture's labels into the tags, as a model does that is shown frames."""
    rewording: Rewording | None = None
    """None keeps the template's sentence."""
    lanes: None = None

    @property
    def identity(self) -> Any:
        """Rules, version, wording."""
        rules = ["local junior", _CAPTIONS_VERSION, to_json(self.rules), self.sees_for_itself]
        return rules + _wording(self.rewording)

    async def caption(self, works: Sequence[Work]) -> Results[Caption]:
        """See `roles.Junior`."""
        captions = {index: self._caption(work) for index, work in enumerate(works)}
        async for index, caption in _reworded(captions, self.rewording, self.words):
            yield index, caption

    def _caption(self, work: Work) -> Caption:
        perception = _perceived(work)
        patches, (seen, unseen) = perception.patches, _seen(work, self.words)
        if self.sees_for_itself:
            seen, unseen = _described(perception).things, _unseen(perception, self.words)
            patches = _with_pictures(perception, self.words)
        things = [replace(p, heard=self.words.heard(p.heard)) for p in patches]
        events = events_of(things, seen=seen, unseen=unseen, rules=self.rules)
        return caption_of(events, self.words, is_music=mostly_music(perception.patches))


def _wording(rewording: Rewording | None) -> list[Any]:
    """Return nothing for templates, so that earlier results stay valid."""
    return [] if rewording is None else [rewording.identity]


async def _reworded(
    captions: Mapping[int, Caption], rewording: Rewording | None, words: Vocabulary
) -> AsyncIterator[tuple[int, Caption]]:
    if rewording is not None:
        async for index, caption in rewording.of(captions, words):
            yield index, caption
        return
    for index, caption in captions.items():
        yield index, caption


def _seen(work: Work, words: Vocabulary) -> tuple[frozenset[str], frozenset[str]]:
    """Return visible things and things out of view; nothing without a context."""
    if work.context is None:
        return frozenset(), frozenset()
    return work.context.things, _unseen(_perceived(work), words) - work.context.things


def _with_pictures(perception: Perception, words: Vocabulary) -> tuple[Patch, ...]:
    """Add the scores of things seen at their time to patches."""
    mixed = []
    for patch in perception.patches:
        heard = dict(patch.heard)
        for look in perception.looks:
            if heard and look.start_s < patch.end_s and look.end_s > patch.start_s:
                for name, score in look.seen.items():
                    spoken = words.thing(name).heard_as[0]
                    heard[spoken] = heard.get(spoken, 0.0) + _BORROWED * score
        mixed.append(replace(patch, heard=heard))
    return tuple(mixed)


@dataclass(frozen=True, kw_only=True)
class LocalSenior:
    """Captions the clip from finer tags that the in-domain tagger confirms.

    Visible things have lower thresholds, as for the junior. It ignores the junior's caption and the
    reasons for the hand-off, and asks for no span again.
    """

    words: Vocabulary
    joint: Path
    executor: Executor
    rules: EventRules = _AGREED
    rewording: Rewording | None = None
    """None keeps the template's sentence."""
    lanes: None = None

    @property
    def identity(self) -> Any:
        """Rules, version, wording."""
        rules = [
            "local senior",
            _CAPTIONS_VERSION,
            load_card(self.joint).sha256,
            to_json(self.rules),
        ]
        return rules + _wording(self.rewording)

    async def revise(self, works: Sequence[Work]) -> Results[SeniorCaption]:
        """See `roles.Senior`."""
        jobs = [ClipJob(clip=work.clip, joint=self.joint) for work in works]
        revised: dict[int, SeniorCaption] = {}
        async for index, patches in self.executor.map(listen_finely, jobs):
            if isinstance(patches, Failure):
                yield index, patches
            elif self.rewording is None:
                yield index, self._revised(works[index], patches)
            else:  # the rewording network is loaded after all tagging
                revised[index] = self._revised(works[index], patches)
        captions = {index: senior.caption for index, senior in revised.items()}
        async for index, caption in _reworded(captions, self.rewording, self.words):
            yield index, replace(revised[index], caption=caption)

    def _revised(self, work: Work, patches: tuple[Patch, ...]) -> SeniorCaption:
        seen, unseen = _seen(work, self.words)
        events = events_of(patches, seen=seen, unseen=unseen, rules=self.rules)
        hop_s = patches[1].start_s - patches[0].start_s if len(patches) > 1 else 0.0
        turn = Turn(
            reasoning=f"{len(patches)} pieces at a hop of {hop_s:.2f} s, heard by two judges",
            listened_s=None,
        )
        is_music = mostly_music(_perceived(work).patches)
        caption = caption_of(events, self.words, is_music=is_music)
        return SeniorCaption(caption=caption, turns=(turn,))


class LocalValidator:
    """Requires that some heard thing might be in the picture."""

    lanes = None
    identity = ("local validator", _VERSION, MIGHT_BE_SEEN)

    def __init__(self, words: Vocabulary) -> None:
        self._visible = frozenset(thing.name for thing in words.visible)

    async def validate(self, works: Sequence[Work]) -> Results[Verdict]:
        """See `roles.Validator`."""
        for index, work in enumerate(works):
            yield index, self._verdict(work)

    def _verdict(self, work: Work) -> Verdict:
        assert work.caption is not None  # the workflow asks with one
        heard = sorted({event.what for event in work.caption.events} & self._visible)
        if not heard:
            return Verdict(plausible=True, reason="nothing is heard that pictures could show")
        looks = _perceived(work).looks
        if not looks:
            return Verdict(plausible=True, reason="not asked: there is no picture to look at")
        best = max((look.seen.get(name, 0.0), name) for look in looks for name in heard)
        score, name = best
        if score >= MIGHT_BE_SEEN:
            return Verdict(plausible=True, reason=f"{name} may be seen: {score:.2f}")
        reason = f"of {', '.join(heard)} nothing may be seen: {score:.2f} < {MIGHT_BE_SEEN:g}"
        return Verdict(plausible=False, reason=reason)
