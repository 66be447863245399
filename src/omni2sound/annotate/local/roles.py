"""Scorer, viewer, junior, senior and validator out of networks that run here.

In:   works; an `Executor`; the folder of the joint heads.
Out:  the same records that chat models give.

Only `LocalScorer` and `LocalSenior` listen, and they do it in the executor. The others read
what was perceived and are instant. As everywhere, the junior and the senior get the picture as
text only (`Work.context`); `sees_for_itself` breaks that rule on purpose, to measure it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omni2sound.annotate.executor import Executor
from omni2sound.annotate.local.events import EventRules, caption_of, events_of, mostly_music
from omni2sound.annotate.local.perceive import (
    FineJob,
    PerceiveJob,
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
from omni2sound.annotate.roles import Retry, Work
from omni2sound.config import to_json
from omni2sound.weights import load_card

__all__ = ["LocalJunior", "LocalScorer", "LocalSenior", "LocalValidator", "LocalViewer"]

_VERSION = 2
"""Raised when the same input gives another result."""
_CAPTIONS_VERSION = 4
"""The same for junior and senior, who do not perceive."""
_CAPTIONS_A_JOB = 64
SEEN_SCORE = 0.35
"""Score of a `Look` from which a thing counts as seen: it finds a third of what sounds and is shown
(validation split); four of five things that it names are silent, many of them truly there."""
MIGHT_BE_SEEN = 0.12
"""Score of a `Look` below which a thing is hardly in the picture: of true captions 2 % have nothing
above it, of captions of other scenes two thirds (validation split)."""
_BORROWED = 0.5
"""Weight of what is seen for a captioner that takes pictures for sounds: late fusion."""
_AGREED = EventRules(threshold=0.1, seen_threshold=0.05)
"""On the scale of `agreement.agreed_scores`, from validation scenes (docs/experiments)."""


@dataclass(frozen=True, kw_only=True)
class LocalScorer:
    """YAMNet, MobileNetV2, MiniLM and the joint heads."""

    joint: Path
    executor: Executor
    name: str = "embedded"

    @property
    def identity(self) -> Any:
        """The heads' digest; the engine changes nothing."""
        return ["local", _VERSION, load_card(self.joint).sha256]

    def perceive(self, works: Sequence[Work]) -> AsyncIterator[tuple[int, Perception | Failure]]:
        """See `roles.Scorer`."""
        jobs = [PerceiveJob(clip=work.clip, joint=self.joint) for work in works]
        return self.executor.map(perceive, jobs)

    async def score(self, works: Sequence[Work]) -> AsyncIterator[tuple[int, Fit]]:
        """See `roles.Scorer`."""
        jobs = []
        for first in range(0, len(works), _CAPTIONS_A_JOB):
            some = works[first : first + _CAPTIONS_A_JOB]
            perceptions = tuple(_perceived(work) for work in some)
            captions = tuple(w.caption for w in some if w.caption is not None)
            assert len(captions) == len(some)  # that step lies behind them
            jobs.append(ScoreJob(joint=self.joint, perceptions=perceptions, captions=captions))
        async for number, fits in self.executor.map(score_captions, jobs):
            for place, fit in enumerate(fits, start=number * _CAPTIONS_A_JOB):
                yield place, fit


class LocalViewer:
    """Names what it recognises, shot by shot."""

    identity = ("local viewer", _VERSION, SEEN_SCORE)

    async def describe(
        self, works: Sequence[Work]
    ) -> AsyncIterator[tuple[int, VisualContext | Failure | Retry]]:
        """See `roles.Viewer`."""
        for place, work in enumerate(works):
            yield place, _described(_perceived(work))


def _described(perception: Perception) -> VisualContext:
    shots = []
    for look in perception.looks:
        things = tuple(name for name, score in look.seen.items() if score >= SEEN_SCORE)
        text = f"The picture shows {_listed(things)}." if things else "Nothing is recognised."
        shots.append(Shot(start_s=look.start_s, end_s=look.end_s, text=text, things=things))
    return VisualContext(shots=tuple(shots))


def _unseen(perception: Perception, words: Vocabulary) -> frozenset[str]:
    """Things that picture models can name and that hardly are in any shot.

    Asked of the looks that the viewer's text is made of: the text names what is there, and names
    a third of it, so that its silence says nothing.
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
    """YAMNet's classes as events, the events as a sentence."""

    words: Vocabulary
    rules: EventRules = field(default_factory=EventRules)
    sees_for_itself: bool = False
    """Mix the picture's labels into what is heard, as a model does that is shown frames."""
    rewording: Rewording | None = None
    """None: the template's words."""

    @property
    def identity(self) -> Any:
        """Rules, version, wording."""
        rules = ["local junior", _CAPTIONS_VERSION, to_json(self.rules), self.sees_for_itself]
        return rules + _wording(self.rewording)

    async def caption(
        self, works: Sequence[Work]
    ) -> AsyncIterator[tuple[int, Caption | Failure | Retry]]:
        """See `roles.Junior`."""
        captions = {place: self._caption(work) for place, work in enumerate(works)}
        async for place, caption in _in_words(captions, self.rewording, self.words):
            yield place, caption

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
    """Nothing for templates: results of before there was a choice stay valid."""
    return [] if rewording is None else [rewording.identity]


async def _in_words(
    captions: Mapping[int, Caption], rewording: Rewording | None, words: Vocabulary
) -> AsyncIterator[tuple[int, Caption]]:
    if rewording is not None:
        async for place, caption in rewording.of(captions, words):
            yield place, caption
        return
    for place, caption in captions.items():
        yield place, caption


def _seen(work: Work, words: Vocabulary) -> tuple[frozenset[str], frozenset[str]]:
    """What is in the picture, and what would be seen if it were; nothing without a context."""
    if work.context is None:
        return frozenset(), frozenset()
    return work.context.things, _unseen(_perceived(work), words) - work.context.things


def _with_pictures(perception: Perception, words: Vocabulary) -> tuple[Patch, ...]:
    """Patches in which what is seen at their time is heard too."""
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
    """Captions the clip anew from its sound, at a quarter of the hop, if a second judge agrees.

    What is seen lowers thresholds, as for the junior. It is no reviser: it neither reads the
    junior's caption nor the reasons why it is asked, and hears the whole clip once, no span again.
    """

    words: Vocabulary
    joint: Path
    executor: Executor
    rules: EventRules = _AGREED
    rewording: Rewording | None = None
    """None: the template's words."""

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

    async def revise(
        self, works: Sequence[Work]
    ) -> AsyncIterator[tuple[int, SeniorCaption | Failure | Retry]]:
        """See `roles.Senior`."""
        jobs = [FineJob(clip=work.clip, joint=self.joint) for work in works]
        revised: dict[int, SeniorCaption] = {}
        async for place, patches in self.executor.map(listen_finely, jobs):
            if isinstance(patches, Failure):
                yield place, patches
            elif self.rewording is None:
                yield place, self._revised(works[place], patches)
            else:  # its network is loaded once all have been listened to
                revised[place] = self._revised(works[place], patches)
        captions = {place: senior.caption for place, senior in revised.items()}
        async for place, caption in _in_words(captions, self.rewording, self.words):
            yield place, replace(revised[place], caption=caption)

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
    """Where sound and picture agree, something that is heard might be what is seen."""

    identity = ("local validator", _VERSION, MIGHT_BE_SEEN)

    def __init__(self, words: Vocabulary) -> None:
        self._visible = frozenset(thing.name for thing in words.visible)

    async def validate(
        self, works: Sequence[Work]
    ) -> AsyncIterator[tuple[int, Verdict | Failure | Retry]]:
        """See `roles.Validator`."""
        for place, work in enumerate(works):
            yield place, self._verdict(work)

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
