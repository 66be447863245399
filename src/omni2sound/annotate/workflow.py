"""The way of a clip: perceive, route, compress, junior, hand-off, senior, post-hoc, validate.

In:   clips, one model for each role, thresholds and rules, a step store.
Out:  every clip ended exactly once: kept with a caption, dropped by a rule, or failed.

Clips go in chunks, and a chunk goes step by step: all that a step finds out is on the disk
before the next step starts, so that a run which is killed goes on where it was. Results come
back in any order and are kept by clip, so neither concurrency nor engine changes an export.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from omni2sound.annotate.filters import (
    RULES_VERSION,
    HandOffRules,
    Thresholds,
    hand_off,
    post_hoc,
    route,
)
from omni2sound.annotate.records import (
    Caption,
    Decision,
    Ending,
    Failure,
    Fit,
    Perception,
    Record,
    SeniorCaption,
    Verdict,
    VisualContext,
)
from omni2sound.annotate.roles import (
    Junior,
    Retry,
    Scorer,
    Senior,
    SourceClip,
    Validator,
    Viewer,
    Work,
)
from omni2sound.annotate.steps import Found, StepStore, step_key
from omni2sound.config import to_json

__all__ = ["STEPS", "Crew", "Journey", "Progress", "annotate"]

_log = logging.getLogger(__name__)

STEPS = (
    "perceive",
    "route",
    "compress",
    "junior",
    "hand-off",
    "senior",
    "post-hoc",
    "validate",
)
_CHUNK = 4096
_COMMIT = 64
"""Results that go to the disk together. Answers that cost money are on the disk already, in the
store of calls; what a kill undoes here is only their place in the clip's story."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Crew:
    """Who does the work and by which rules."""

    scorer: Scorer
    viewer: Viewer | None
    """None: no compression, captioners know nothing of the picture."""
    junior: Junior
    senior: Senior
    validator: Validator | None
    thresholds: Thresholds
    rules: HandOffRules


@dataclass(slots=True)
class Journey:
    """One clip and what its steps found out so far."""

    clip: SourceClip
    key: str
    found: dict[str, Record] = field(default_factory=dict)
    waiting: str = ""
    """Why the clip can't go on in this run; the next one tries again."""

    @property
    def end(self) -> Literal["kept", "dropped", "failed"] | None:
        """How the clip ended; None while it is under way."""
        for record in self.found.values():
            if isinstance(record, Failure):
                return "failed"
            if isinstance(record, Decision) and record.outcome == "drop":
                return "dropped"
            if isinstance(record, Verdict) and not record.plausible:
                return "dropped"
        return "kept" if "validate" in self.found or self._needs_no_validator else None

    @property
    def _needs_no_validator(self) -> bool:
        return "post-hoc" in self.found and not self.on_visual_path

    @property
    def on_visual_path(self) -> bool:
        """Was it routed there, and is the picture described?"""
        chosen = self.found.get("route")
        return isinstance(chosen, Decision) and chosen.outcome == "audio-visual"

    @property
    def caption(self) -> Caption | None:
        """The newest one."""
        senior = self.found.get("senior")
        if isinstance(senior, SeniorCaption):
            return senior.caption
        junior = self.found.get("junior")
        return junior if isinstance(junior, Caption) else None

    def work(self) -> Work:
        """What a role may see of it."""
        perception, context = self.found.get("perceive"), self.found.get("compress")
        handed = self.found.get("hand-off")
        return Work(
            clip=self.clip,
            perception=perception if isinstance(perception, Perception) else None,
            context=context if isinstance(context, VisualContext) else None,
            caption=self.caption,
            reasons=handed.reasons if isinstance(handed, Decision) else (),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """After each chunk."""

    done: int
    total: int
    waiting: int
    """Clips that could not be finished this time."""


async def annotate(
    clips: Sequence[SourceClip],
    crew: Crew,
    store: StepStore,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    chunk: int = _CHUNK,
) -> AsyncIterator[Journey]:
    """Take every clip to its end; those that are there already cost nothing.

    Args:
        clips: What to annotate.
        crew: Who does it.
        store: Keeps each step; only its owner writes to it.
        on_progress: Called after each chunk.
        chunk: Clips under way at a time; memory follows it, results do not.

    Returns:
        Journeys in the order of `clips`.

    Raises:
        BudgetExceeded: The money ran out; everything paid for is kept.
    """
    waiting = 0
    steps = _steps(crew)
    for first in range(0, len(clips), chunk):
        journeys = [_begin(clip) for clip in clips[first : first + chunk]]
        ended: set[str] = set()
        for step in steps:
            try:
                await _take(step, journeys, store)
            finally:
                _finish(journeys, ended, store)
        waiting += sum(bool(j.waiting) for j in journeys)
        if on_progress is not None:
            done = min(first + chunk, len(clips))
            on_progress(Progress(done=done, total=len(clips), waiting=waiting))
        for journey in journeys:
            yield journey


def _finish(journeys: Iterable[Journey], ended: set[str], store: StepStore) -> None:
    """Says of each clip that has ended with this step how, and which steps count."""
    new = []
    for journey in journeys:
        if journey.end is not None and journey.clip.name not in ended:
            ended.add(journey.clip.name)
            ending = Ending(end=journey.end, steps=tuple(journey.found))
            new.append(Found(clip=journey.clip.name, key=journey.key, record=ending))
    kept = store.get("end", {f.clip: f.key for f in new})
    store.put("end", [f for f in new if kept.get(f.clip) != f.record])


def _begin(clip: SourceClip) -> Journey:
    identity = [clip.name, clip.start_s, clip.duration_s, clip.fingerprint, clip.video is not None]
    return Journey(clip=clip, key=step_key("clip", identity, ()))


Results = AsyncIterator[tuple[int, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Step:
    name: str
    identity: Any
    wants: Callable[[Journey], bool]
    do: Callable[[Sequence[Journey]], Results]


async def _take(step: _Step, journeys: Iterable[Journey], store: StepStore) -> None:
    """One step for every journey that wants it, from the store where it can be."""
    ready = [j for j in journeys if j.end is None and not j.waiting and step.wants(j)]
    for journey in ready:
        journey.key = step_key(step.name, step.identity, (journey.key,))
    kept = store.get(step.name, {j.clip.name: j.key for j in ready})
    missing = []
    for journey in ready:
        if journey.clip.name in kept:
            journey.found[step.name] = kept[journey.clip.name]
        else:
            missing.append(journey)
    if not missing:
        return
    new: list[Found] = []
    try:
        async for place, result in step.do(missing):
            journey = missing[place]
            if isinstance(result, Retry):
                journey.waiting = result.reason
                _log.warning("%s: %s: %s", journey.clip.name, step.name, result.reason)
                continue
            journey.found[step.name] = result
            new.append(Found(clip=journey.clip.name, key=journey.key, record=result))
            if len(new) >= _COMMIT:
                store.put(step.name, new)
                new = []
    finally:
        store.put(step.name, new)  # also what came before the budget ended


def _steps(crew: Crew) -> tuple[_Step, ...]:
    """The eight steps in order."""
    thresholds = to_json(crew.thresholds)
    steps = [
        _Step(
            name="perceive",
            identity=crew.scorer.identity,
            wants=lambda j: True,
            do=lambda js: crew.scorer.perceive([j.work() for j in js]),
        ),
        _Step(
            name="route",
            identity=thresholds,
            wants=lambda j: True,
            do=lambda js: _each(js, lambda j: _routed(j, crew)),
        ),
    ]
    viewer, validator = crew.viewer, crew.validator
    if viewer is not None:
        steps.append(
            _Step(
                name="compress",
                identity=viewer.identity,
                wants=lambda j: j.on_visual_path,
                do=lambda js: viewer.describe([j.work() for j in js]),
            )
        )
    steps += [
        _Step(
            name="junior",
            identity=crew.junior.identity,
            wants=lambda j: True,
            do=lambda js: crew.junior.caption([j.work() for j in js]),
        ),
        _Step(
            name="hand-off",
            identity=[RULES_VERSION, thresholds, to_json(crew.rules)],
            wants=lambda j: True,
            do=lambda js: _scored(
                js, crew, lambda c, fit: hand_off(c, fit, crew.thresholds, crew.rules)
            ),
        ),
        _Step(
            name="senior",
            identity=crew.senior.identity,
            wants=_is_escalated,
            do=lambda js: crew.senior.revise([j.work() for j in js]),
        ),
        _Step(
            name="post-hoc",
            identity=[RULES_VERSION, thresholds],
            wants=lambda j: True,
            do=lambda js: _scored(js, crew, lambda c, fit: post_hoc(c, fit, crew.thresholds)),
        ),
        _Step(
            name="validate",
            identity=None if validator is None else validator.identity,
            wants=lambda j: j.on_visual_path,
            do=lambda js: _validated(js, validator),
        ),
    ]
    return tuple(steps)


def _is_escalated(journey: Journey) -> bool:
    decision = journey.found.get("hand-off")
    return isinstance(decision, Decision) and decision.outcome == "escalate"


def _routed(journey: Journey, crew: Crew) -> Decision:
    perception = journey.found["perceive"]
    assert isinstance(perception, Perception)  # a failure has ended the journey
    return route(perception.similarity, crew.thresholds)


async def _each(journeys: Sequence[Journey], rule: Callable[[Journey], Record]) -> Results:
    for place, journey in enumerate(journeys):
        yield place, rule(journey)


async def _scored(
    journeys: Sequence[Journey], crew: Crew, rule: Callable[[Caption, Fit], Decision]
) -> Results:
    works = [replace(j.work(), reasons=()) for j in journeys]
    async for place, fit in crew.scorer.score(works):
        caption = works[place].caption
        assert caption is not None  # without one the journey has ended or waits
        yield place, rule(caption, fit)


async def _validated(journeys: Sequence[Journey], validator: Validator | None) -> Results:
    asked: list[tuple[int, Work]] = []
    for place, work in enumerate(j.work() for j in journeys):
        if validator is None or work.context is None:
            reason = "not asked: nothing is known of the picture" if validator else "no validator"
            yield place, Verdict(plausible=True, reason=reason)
        else:
            asked.append((place, work))
    if validator is not None and asked:
        async for number, verdict in validator.validate([work for _, work in asked]):
            yield asked[number][0], verdict
