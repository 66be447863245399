"""The roles of annotation as protocols, and the work that each is given.

In:   `Work`: a clip and what is known of it; for judges `Pair`s of captions.
Out:  protocols `Scorer`, `Viewer`, `Junior`, `Senior`, `Validator`, `CaptionJudge`. Each takes many
      works at a time and yields (index, result) in any order.

What not to get wrong is what a role does *not* get: the junior and the senior get sound and
text, never frames; the viewer gets frames, never sound. A result is a record or a `Failure`; a
`Retry` leaves the clip to the next run; `BudgetExceeded` ends this one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from omni2sound.annotate.records import (
    Caption,
    Failure,
    Fit,
    Perception,
    SeniorCaption,
    Verdict,
    VisualContext,
)

Preference = Literal["first", "second", "tie"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceClip:
    """Media files of a clip and its span in them."""

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
    """What a role may know of a clip; a field is None until its step has run."""

    clip: SourceClip
    perception: Perception | None = None
    context: VisualContext | None = None
    caption: Caption | None = None
    """The latest caption."""
    reasons: tuple[str, ...] = ()
    """Reasons for asking the senior."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two captions of one sound."""

    clip: SourceClip
    first: str
    second: str

    def swapped(self) -> Pair:
        """Return the pair in the other order."""
        return Pair(clip=self.clip, first=self.second, second=self.first)


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """No result in this run; the next run asks again."""

    reason: str


Record = TypeVar("Record")
Results = AsyncIterator[tuple[int, Record | Failure | Retry]]
"""Pairs of index and result, in any order."""


class _Role(Protocol):
    @property
    def identity(self) -> Any:
        """JSON data of everything that can change a result."""

    @property
    def lanes(self) -> int | None:
        """Works that are asked about at a time, each by itself; None takes batches."""


class Scorer(_Role, Protocol):
    """Scoring networks, run through the executor."""

    @property
    def name(self) -> str:
        """Row of the thresholds."""

    def perceive(self, works: Sequence[Work]) -> AsyncIterator[tuple[int, Perception | Failure]]:
        """Measure sounds and pictures."""

    def score(self, works: Sequence[Work]) -> AsyncIterator[tuple[int, Fit]]:
        """Score captions against their sounds; each work has a perception and a caption."""


class Viewer(_Role, Protocol):
    """Describes the silent video."""

    def describe(self, works: Sequence[Work]) -> Results[VisualContext]:
        """Describe the pictures, shot by shot."""


class Junior(_Role, Protocol):
    """Captions every clip, from sound and text."""

    def caption(self, works: Sequence[Work]) -> Results[Caption]:
        """Caption the sounds."""


class Senior(_Role, Protocol):
    """Captions the hard clips, with the junior's caption and the reasons."""

    def revise(self, works: Sequence[Work]) -> Results[SeniorCaption]:
        """Revise the junior's captions."""


class Validator(_Role, Protocol):
    """Checks captions against the visual context."""

    def validate(self, works: Sequence[Work]) -> Results[Verdict]:
        """Decide whether each caption is acoustically plausible."""


class CaptionJudge(Protocol):
    """Compares captions without knowing who wrote them."""

    def compare(self, pairs: Sequence[Pair]) -> Results[Preference]:
        """Name the better caption of each pair."""
