"""Counts of a run's outcomes and reasons.

In:   finished clips, one at a time.
Out:  the contents of `statistics.json`; numbers and names in reasons are masked, so that equal ones
      add up and the counts stay small however many clips there are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from omni2sound.annotate.records import Decision, Failure, Verdict
from omni2sound.annotate.runs import RunSettings, Story

_DIGITS = re.compile(r"-?\d+(\.\d+)?")
_QUOTED = re.compile(r"'[^']*'")


def failures_of(story: Story) -> Iterator[tuple[str, Failure]]:
    """Yield the failures of a clip with their steps."""
    for step, record in story.steps.items():
        if isinstance(record, Failure):
            yield step, record


def why_ended(story: Story) -> str | None:
    """Return the step and reason that ended a clip; None if it was kept."""
    if story.end == "kept":
        return None
    if story.review is not None:
        return "review: dropped by a person"
    step, record = list(story.steps.items())[-1]
    if isinstance(record, Decision):
        return f"{step}: {record.reasons[0]}"
    if isinstance(record, Verdict):
        return f"{step}: implausible"
    return f"{step}: {record.kind}" if isinstance(record, Failure) else step


class Tally:
    """Counts so far."""

    def __init__(self) -> None:
        self.ends: Counter[str] = Counter()
        self.failed_by: Counter[str] = Counter()
        self.no_sound = 0
        """Kept clips whose sound was wanted and could not be read."""
        self._splits: Counter[str] = Counter()
        self._paths: Counter[str] = Counter()
        self._handed: Counter[str] = Counter()
        self._why_escalated: Counter[str] = Counter()
        self._why_ended: Counter[str] = Counter()
        self._words = self._events = 0

    def add(self, story: Story) -> None:
        """Count a clip."""
        self.ends[story.end] += 1
        self.failed_by.update(f"{f.kind} at {step}" for step, f in failures_of(story))
        routed, handed = story.steps.get("route"), story.steps.get("hand-off")
        if isinstance(routed, Decision):
            self._paths[routed.outcome] += 1
        if isinstance(handed, Decision):
            self._handed[handed.outcome] += 1
            if handed.outcome == "escalate":
                self._why_escalated.update(map(_masked, handed.reasons))
        if reason := why_ended(story):
            self._why_ended[_masked(reason)] += 1
        if story.end == "kept" and story.caption is not None:
            self._splits[story.clip.split] += 1
            self._words += len(story.caption.text.split())
            self._events += len(story.caption.events)

    def as_json(self, settings: RunSettings) -> dict[str, Any]:
        """Return all counts, and the models of the run."""
        kept, handed = self.ends["kept"], self._handed.total()
        escalated = self._handed["escalate"]
        return {
            "models": {
                role: getattr(settings, role) for role in ("scorer", "vision", "junior", "senior")
            },
            "wording": settings.wording,
            "clips": settings.num_clips,
            "ended": self.ends.total(),
            **{end: self.ends[end] for end in ("kept", "dropped", "failed")},
            "kept_by_split": dict(sorted(self._splits.items())),
            "failed_by": dict(sorted(self.failed_by.items())),
            "sounds_not_read": self.no_sound,
            "paths": dict(sorted(self._paths.items())),
            "escalated": escalated,
            "escalation_rate": round(escalated / handed, 4) if handed else None,
            "why_escalated": _most_first(self._why_escalated),
            "why_ended": _most_first(self._why_ended),
            "words_per_caption": round(self._words / kept, 2) if kept else None,
            "events_per_clip": round(self._events / kept, 2) if kept else None,
        }


def _masked(reason: str) -> str:
    return _QUOTED.sub("...", _DIGITS.sub("#", reason))


def _most_first(reasons: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
