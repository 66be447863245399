"""Forms of the answers that chat models give.

In:   JSON objects in replies.
Out:  pydantic models, and the records that they stand for.

Kept apart from the records: a form becomes a JSON schema that every endpoint can express (no
tuples, no mappings). What not to get wrong: class docstrings and field names are part of that
schema and so of the key under which paid answers are kept; a changed word buys them all again.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from omni2sound.annotate.records import Caption, HeardEvent, Shot, VisualContext
from omni2sound.llm.answers import Flag, Number, Seconds

_MAX_S = 86_400.0
"""Times beyond a day are cut to it: they would be hundreds of digits in the next prompt."""


class _Event(BaseModel):
    what: str = Field(min_length=1)
    start_s: Number = None
    end_s: Number = None
    on_screen: Flag = None
    confidence: Number = None


class CaptionAnswer(BaseModel):
    """A caption with its events."""

    caption: str = Field(min_length=1)
    events: list[_Event]
    is_music: bool

    def record(self, duration_s: float) -> Caption:
        """Convert, with spans clipped to the clip; an end before its start becomes unknown."""
        events = [_event(e, duration_s) for e in self.events if e.what.strip()]
        events.sort(key=lambda e: duration_s if e.start_s is None else e.start_s)
        return Caption(
            text=" ".join(self.caption.split()), events=tuple(events), is_music=self.is_music
        )


def _event(event: _Event, duration_s: float) -> HeardEvent:
    start, end = (
        None if t is None else min(max(t, 0.0), duration_s) for t in (event.start_s, event.end_s)
    )
    if start is not None and end is not None and end < start:
        end = None
    sure = event.confidence
    return HeardEvent(
        what=event.what.strip(),
        start_s=start,
        end_s=end,
        on_screen=event.on_screen,
        confidence=None if sure is None else min(max(sure, 0.0), 1.0),
    )


class SpanAnswer(BaseModel):
    """A piece of the clip."""

    start_s: Seconds
    end_s: Seconds


class SeniorAnswer(BaseModel):
    """Either a wish to hear a piece again, or the caption."""

    reasoning: str
    listen_again: SpanAnswer | None = None
    answer: CaptionAnswer | None = None


class _Shot(BaseModel):
    start_s: Seconds
    end_s: Seconds
    description: str
    things: list[str]


class ContextAnswer(BaseModel):
    """The silent video in words."""

    shots: list[_Shot]

    def record(self) -> VisualContext:
        """Convert to a record."""
        return VisualContext(
            shots=tuple(
                Shot(
                    start_s=min(max(s.start_s, -_MAX_S), _MAX_S),
                    end_s=min(max(s.start_s, s.end_s, -_MAX_S), _MAX_S),
                    text=" ".join(s.description.split()),
                    things=tuple(t.strip() for t in s.things if t.strip()),
                )
                for s in self.shots
            )
        )


class ValidatorAnswer(BaseModel):
    """Could this scene sound like that?"""

    plausible: bool
    reason: str


class JudgeAnswer(BaseModel):
    """Which of two captions tells better what is heard."""

    better: Literal["first", "second", "tie"]
    reason: str
