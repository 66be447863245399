"""Who does what in annotation: the roles, and what each is given.

In:   `Work`: a clip and what is known of it.
Out:  protocols `Scorer`, `Viewer`, `Junior`, `Senior`, `Validator`; each takes many works at
      a time and gives results as they come, (place in the list, result).

What not to get wrong is what a role does *not* get: the junior and the senior get sound and
text, never frames; the viewer gets frames, never sound. A result is a record or a `Failure`;
what may go better another time is an exception (`Unavailable`), what ends the run too
(`BudgetExceeded`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from omni2sound.annotate.records import (
    Caption,
    Failure,
    Fit,
    Perception,
    SeniorCaption,
    Verdict,
    VisualContext,
)

__all__ = [
    "Junior",
    "Retry",
    "Scorer",
    "Senior",
    "SourceClip",
    "Validator",
    "Viewer",
    "Work",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceClip:
    """Where a clip's sound and picture lie."""

    name: str
    """Unique in the run."""
    audio: Path
    video: Path | None
    start_s: float = 0.0
    duration_s: float | None = None
    fingerprint: str = ""
    """Changes when the files do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """One clip on its way: what a role may look at. Fields are None until a step fills them."""

    clip: SourceClip
    perception: Perception | None = None
    context: VisualContext | None = None
    caption: Caption | None = None
    """The newest."""
    reasons: tuple[str, ...] = ()
    """Why the senior is asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """Nothing came this time; the next run asks again."""

    reason: str


class Scorer(Protocol):
    """Scoring models: run through the executor, never by API."""

    @property
    def name(self) -> str:
        """Row of the thresholds."""
        ...

    @property
    def identity(self) -> Any:
        """All that can change a result; JSON data."""
        ...

    def perceive(self, works: Sequence[Work]) -> AsyncIterator[tuple[int, Perception | Failure]]:
        """Measure clips."""
        ...

    def score(self, works: Sequence[Work]) -> AsyncIterator[tuple[int, Fit]]:
        """How captions fit their sounds, of works that have a perception and a caption."""
        ...


class Viewer(Protocol):
    """Describes the silent video."""

    @property
    def identity(self) -> Any:
        """All that can change a result; JSON data."""
        ...

    def describe(
        self, works: Sequence[Work]
    ) -> AsyncIterator[tuple[int, VisualContext | Failure | Retry]]:
        """Text of the pictures, shot by shot."""
        ...


class Junior(Protocol):
    """Captions everything, from sound and text."""

    @property
    def identity(self) -> Any:
        """All that can change a result; JSON data."""
        ...

    def caption(
        self, works: Sequence[Work]
    ) -> AsyncIterator[tuple[int, Caption | Failure | Retry]]:
        """Say what is heard."""
        ...


class Senior(Protocol):
    """Gets the hard clips, with the junior's caption and the reasons."""

    @property
    def identity(self) -> Any:
        """All that can change a result; JSON data."""
        ...

    def revise(
        self, works: Sequence[Work]
    ) -> AsyncIterator[tuple[int, SeniorCaption | Failure | Retry]]:
        """Say what is heard, better."""
        ...


class Validator(Protocol):
    """Asks of a caption whether what is seen could sound like that."""

    @property
    def identity(self) -> Any:
        """All that can change a result; JSON data."""
        ...

    def judge(self, works: Sequence[Work]) -> AsyncIterator[tuple[int, Verdict | Failure | Retry]]:
        """Is the caption acoustically plausible, given the visual context?"""
        ...
