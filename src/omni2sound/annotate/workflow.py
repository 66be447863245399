"""Workflow of a clip: perceive, route, compress, junior, hand-off, senior, post-hoc, validate.

In:   clips, one model for each role, thresholds and rules, a step store.
Out:  every clip ended exactly once: kept with a caption, dropped by a rule, or failed.

Clips flow through the steps (`flow.py`): while one clip is described, another is heard. Results
come in any order and are stored by clip, so neither concurrency nor engine changes an export.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Literal

from omni2sound.annotate.filters import (
    RULES_VERSION,
    HandOffRules,
    Thresholds,
    hand_off,
    post_hoc,
    route,
)
from omni2sound.annotate.flow import Flow, Step, stamp_head
from omni2sound.annotate.records import (
    Caption,
    Decision,
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
    Scorer,
    Senior,
    SourceClip,
    Validator,
    Viewer,
    Work,
)
from omni2sound.annotate.steps import StepStore, step_key
from omni2sound.config import to_json

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

    @property
    def prompts(self) -> dict[str, str]:
        """Versions of the prompts of those roles that have one, by role."""
        roles = {name: getattr(self, name) for name in ("viewer", "junior", "senior", "validator")}
        versions = {name: getattr(role, "prompt_version", "") for name, role in roles.items()}
        return {name: version for name, version in versions.items() if version}


@dataclass(slots=True)
class Journey:
    """A clip and the results of its steps so far."""

    clip: SourceClip
    key: str
    found: dict[str, Record] = field(default_factory=dict)
    waiting: str = ""
    """Reason why the clip must wait for the next run."""
    earlier: Literal["kept", "dropped"] | None = None
    """Outcome in an earlier run whose results were left on disk (`annotate(brief=True)`)."""

    @property
    def end(self) -> Literal["kept", "dropped", "failed"] | None:
        """Outcome of the clip; None before its end."""
        if self.earlier is not None:
            return self.earlier
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
    """Counts after a clip."""

    done: int
    total: int
    waiting: int
    """Clips left to the next run."""


async def annotate(
    clips: Iterable[SourceClip],
    crew: Crew,
    store: StepStore,
    *,
    total: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    chunk: int = _CHUNK,
    brief: bool = False,
) -> AsyncIterator[Journey]:
    """Annotate clips; stored results are not computed again.

    Args:
        clips: Clips with unique names; not all of them need to be in memory.
        crew: Models of all roles, thresholds and rules.
        store: Stores each step; has no other writer.
        total: Number of clips, for `on_progress`. Default: their length.
        on_progress: Called after each clip.
        chunk: Most clips in memory; changes no result.
        brief: Leave the results of clips that an earlier run with the same crew kept or dropped on
            disk: their journeys hold the end alone.

    Returns:
        Journeys in the order of `clips`.

    Raises:
        BudgetExceeded: The next call could exceed the budget; paid answers are kept.
        UserError: An endpoint rejects all calls, or cuts most replies.
    """
    waiting = 0
    if total is None:
        clips = tuple(clips)
        total = len(clips)
    flow = Flow(_steps(crew), store, brief=brief)
    async with aclosing(flow.run(map(_begin, clips), window=chunk)) as journeys:
        async for journey in journeys:
            waiting += bool(journey.waiting)
            if on_progress is not None:
                on_progress(Progress(done=flow.num_over, total=total, waiting=waiting))
            yield journey


def stamps(crew: Crew) -> tuple[str, Callable[[SourceClip], str]]:
    """Return a digest of all steps, and what computes the stamp that a clip's end has from them."""
    head = stamp_head(_steps(crew))
    return head.sha256, lambda clip: head.after(_begin(clip).key)


def _begin(clip: SourceClip) -> Journey:
    identity = [clip.name, clip.start_s, clip.duration_s, clip.fingerprint, clip.video is not None]
    return Journey(clip=clip, key=step_key("clip", identity, ()))


def _works(journeys: Sequence[Journey]) -> list[Work]:
    return [journey.work() for journey in journeys]


def _steps(crew: Crew) -> tuple[Step, ...]:
    """Return the eight steps in order; seven without a viewer."""
    thresholds, rules = crew.thresholds, crew.rules
    numbers = to_json(thresholds)
    scorer, viewer, junior, senior = crew.scorer, crew.viewer, crew.junior, crew.senior
    validator = crew.validator
    steps = [
        Step("perceive", scorer.identity, lambda js: scorer.perceive(_works(js))),
        Step("route", numbers, lambda js: _route(js, thresholds)),
        Step(
            "junior",
            junior.identity,
            lambda js: junior.caption(_works(js)),
            lanes=junior.lanes,
        ),
        Step(
            "hand-off",
            [RULES_VERSION, numbers, to_json(rules)],
            lambda js: _scored(js, crew, lambda c, fit: hand_off(c, fit, thresholds, rules)),
        ),
        Step(
            "senior",
            senior.identity,
            lambda js: senior.revise(_works(js)),
            _is_escalated,
            senior.lanes,
        ),
        Step(
            "post-hoc",
            [RULES_VERSION, numbers],
            lambda js: _scored(js, crew, lambda c, fit: post_hoc(c, fit, thresholds)),
        ),
        Step(
            "validate",
            None if validator is None else validator.identity,
            lambda js: _validated(js, validator),
            lambda j: j.on_visual_path,
            None if validator is None else validator.lanes,
        ),
    ]
    if viewer is not None:
        describe = viewer.describe
        steps.insert(
            2,
            Step(
                "compress",
                viewer.identity,
                lambda js: describe(_works(js)),
                lambda j: j.on_visual_path,
                viewer.lanes,
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
