"""Workflow of a clip: perceive, route, compress, junior, hand-off, senior, post-hoc, validate.

In:   clips, one model for each role, thresholds and rules, a step store.
Out:  every clip ended exactly once: kept with a caption, dropped by a rule, or failed.

Clips go in chunks, and a chunk goes step by step: all results of a step are on disk before the
next starts, so a killed run resumes where it was. Results come in any order and are stored by
clip, so neither concurrency nor engine changes an export.
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
    Verdict,
    VisualContext,
    latest_caption,
)
from omni2sound.annotate.roles import (
    Junior,
    Results,
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
"""Results per commit. Paid answers are on disk already, in the store of calls."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Crew:
    """Models of all roles, thresholds and rules."""

    scorer: Scorer
    viewer: Viewer | None
    """None: captioners know nothing of the picture."""
    junior: Junior
    senior: Senior
    validator: Validator | None
    thresholds: Thresholds
    rules: HandOffRules


@dataclass(slots=True)
class Journey:
    """A clip and the results of its steps so far."""

    clip: SourceClip
    key: str
    found: dict[str, Record] = field(default_factory=dict)
    waiting: str = ""
    """Reason why the clip must wait for the next run."""

    @property
    def end(self) -> Literal["kept", "dropped", "failed"] | None:
        """Outcome of the clip; None before its end."""
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
        """Whether the clip was routed to the audio-visual path."""
        chosen = self.found.get("route")
        return isinstance(chosen, Decision) and chosen.outcome == "audio-visual"

    @property
    def caption(self) -> Caption | None:
        """Latest caption."""
        return latest_caption(self.found)

    def work(self) -> Work:
        """Return what a role may know of the clip."""
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
    """Counts after a chunk."""

    done: int
    total: int
    waiting: int
    """Clips left to the next run."""


async def annotate(
    clips: Sequence[SourceClip],
    crew: Crew,
    store: StepStore,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    chunk: int = _CHUNK,
) -> AsyncIterator[Journey]:
    """Annotate clips; stored results are not computed again.

    Args:
        clips: Clips with unique names.
        crew: Models of all roles, thresholds and rules.
        store: Stores each step; has no other writer.
        on_progress: Called after each chunk.
        chunk: Number of clips in memory; changes no result.

    Returns:
        Journeys in the order of `clips`.

    Raises:
        BudgetExceeded: The next call could exceed the budget; paid answers are kept.
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
    """Store the outcome and the valid steps of each clip that ended with this step."""
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


@dataclass(frozen=True, slots=True)
class _Step:
    name: str
    identity: Any
    do: Callable[[Sequence[Journey]], AsyncIterator[tuple[int, Any]]]
    wants: Callable[[Journey], bool] = lambda journey: True


async def _take(step: _Step, journeys: Iterable[Journey], store: StepStore) -> None:
    """Run one step for every journey that wants it, with stored results where valid."""
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
        async for index, result in step.do(missing):
            journey = missing[index]
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
        store.put(step.name, new)  # also results that came before the budget ended


def _works(journeys: Sequence[Journey]) -> list[Work]:
    return [journey.work() for journey in journeys]


def _steps(crew: Crew) -> tuple[_Step, ...]:
    """Return the eight steps in order; seven without a viewer."""
    thresholds, rules = crew.thresholds, crew.rules
    numbers = to_json(thresholds)
    scorer, viewer, junior, senior = crew.scorer, crew.viewer, crew.junior, crew.senior
    validator = crew.validator
    steps = [
        _Step("perceive", scorer.identity, lambda js: scorer.perceive(_works(js))),
        _Step("route", numbers, lambda js: _route(js, thresholds)),
        _Step("junior", junior.identity, lambda js: junior.caption(_works(js))),
        _Step(
            "hand-off",
            [RULES_VERSION, numbers, to_json(rules)],
            lambda js: _scored(js, crew, lambda c, fit: hand_off(c, fit, thresholds, rules)),
        ),
        _Step("senior", senior.identity, lambda js: senior.revise(_works(js)), _is_escalated),
        _Step(
            "post-hoc",
            [RULES_VERSION, numbers],
            lambda js: _scored(js, crew, lambda c, fit: post_hoc(c, fit, thresholds)),
        ),
        _Step(
            "validate",
            None if validator is None else validator.identity,
            lambda js: _validated(js, validator),
            lambda j: j.on_visual_path,
        ),
    ]
    if viewer is not None:
        describe = viewer.describe
        steps.insert(
            2,
            _Step(
                "compress",
                viewer.identity,
                lambda js: describe(_works(js)),
                lambda j: j.on_visual_path,
            ),
        )
    return tuple(steps)


def _is_escalated(journey: Journey) -> bool:
    decision = journey.found.get("hand-off")
    return isinstance(decision, Decision) and decision.outcome == "escalate"


async def _route(
    journeys: Sequence[Journey], thresholds: Thresholds
) -> AsyncIterator[tuple[int, Decision]]:
    for index, journey in enumerate(journeys):
        perception = journey.found["perceive"]
        assert isinstance(perception, Perception)  # a failure has ended the journey
        yield index, route(perception.similarity, thresholds)


async def _scored(
    journeys: Sequence[Journey], crew: Crew, rule: Callable[[Caption, Fit], Decision]
) -> AsyncIterator[tuple[int, Decision]]:
    works = [replace(work, reasons=()) for work in _works(journeys)]
    async for index, fit in crew.scorer.score(works):
        caption = works[index].caption
        assert caption is not None  # without one the journey has ended or waits
        yield index, rule(caption, fit)


async def _validated(journeys: Sequence[Journey], validator: Validator | None) -> Results[Verdict]:
    checked: list[tuple[int, Work]] = []
    for index, work in enumerate(_works(journeys)):
        if validator is None or work.context is None:
            reason = "not asked: nothing is known of the picture" if validator else "no validator"
            yield index, Verdict(plausible=True, reason=reason)
        else:
            checked.append((index, work))
    if validator is not None and checked:
        async for number, verdict in validator.validate([work for _, work in checked]):
            yield checked[number][0], verdict
