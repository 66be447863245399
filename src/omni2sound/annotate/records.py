"""What annotation finds out about a clip, step by step: frozen records that survive JSON.

In:   answers of models, scores, rules.
Out:  `Perception` -> `Decision` (route) -> `VisualContext` -> `Caption` (junior) -> `Decision`
      (hand-off) -> `SeniorCaption` -> `Decision` (post-hoc) -> `Verdict` (validator).

`to_json` and `from_json` of this module are each other's inverse and refuse what they don't
know. Times are seconds from the start of the clip. Unknown is None: a captioner without
pictures does not know what is on screen, and must not guess it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from omni2sound import config
from omni2sound.errors import ConfigError

__all__ = [
    "Caption",
    "Decision",
    "Ending",
    "Failure",
    "Fit",
    "HeardEvent",
    "Look",
    "Patch",
    "Perception",
    "Record",
    "SeniorCaption",
    "Shot",
    "Turn",
    "Verdict",
    "VisualContext",
    "from_json",
    "to_json",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class HeardEvent:
    """One sound that somebody says is there."""

    what: str
    """The source, a noun phrase: "a dog"."""
    start_s: float | None = None
    end_s: float | None = None
    on_screen: bool | None = None
    confidence: float | None = None
    """0 to 1, by whoever says so."""

    def __post_init__(self) -> None:
        if not self.what.strip():
            raise ConfigError("event without a name; expected what is heard")
        if self.start_s is not None and self.end_s is not None and self.end_s < self.start_s:
            raise ConfigError(f"event {self.what!r} ends at {self.end_s} before {self.start_s} s")


@dataclass(frozen=True, kw_only=True, slots=True)
class Caption:
    """What a captioner says of a clip."""

    text: str
    events: tuple[HeardEvent, ...] = ()
    """By time of their start, as far as it is known."""
    is_music: bool = False
    """Mostly music: rules have other thresholds for it."""
    wording: str = ""
    """Who chose the words: "" the captioner; "reworded" a language model; "unchanged" or
    "refused: WHY" if that was asked and the captioner's words stand."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """The picture between two cuts, in words."""

    start_s: float
    end_s: float
    text: str
    things: tuple[str, ...] = ()
    """What is seen, as noun phrases."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VisualContext:
    """The silent video as text: all that a captioner gets to know of the picture."""

    shots: tuple[Shot, ...]

    @property
    def text(self) -> str:
        """One line a shot."""
        return "\n".join(f"{s.start_s:.1f}-{s.end_s:.1f} s: {s.text}" for s in self.shots)

    @property
    def things(self) -> frozenset[str]:
        """What is seen in any shot."""
        return frozenset(thing for shot in self.shots for thing in shot.things)


@dataclass(frozen=True, kw_only=True, slots=True)
class Patch:
    """What a tagger hears in a piece of sound."""

    start_s: float
    end_s: float
    heard: Mapping[str, float] = field(default_factory=dict)
    """Scores by the tagger's class names; only the highest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What picture models recognise in a shot."""

    start_s: float
    end_s: float
    seen: Mapping[str, float] = field(default_factory=dict)
    """Scores of things; only the highest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Perception:
    """What scoring models make of a clip: measured once, read by several steps."""

    duration_s: float
    similarity: float | None
    """Do sound and picture belong together; None without pictures."""
    sound: str
    """Vectors of the sound in the scorer's space, for scores of captions: base64 of float16."""
    patches: tuple[Patch, ...] = ()
    looks: tuple[Look, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """How well a caption tells what is heard, on the scale of one scorer."""

    caption: float
    """The sentence and the whole sound."""
    events: tuple[float | None, ...] = ()
    """Each event's phrase and the sound in its span, in the caption's order; None for what the
    scorer does not know and can't judge; empty if it does not look at events. A sentence with one
    invented thing fits almost as well as one without; the thing itself does not fit at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """A rule was applied."""

    outcome: Literal["audio-visual", "audio-only", "keep", "escalate", "drop"]
    reasons: tuple[str, ...]
    """Why, in words with numbers; never empty."""
    scores: Mapping[str, float] = field(default_factory=dict)
    rule: str | None = None
    """Which rule escalated or dropped, the first if several did: "route", "sentence", "music",
    "event", "complex", "phrase", "doubt"; None if none did, and in runs of earlier releases."""

    def __post_init__(self) -> None:
        if not self.reasons:
            raise ConfigError(f"decision {self.outcome!r} without a reason")


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One exchange with the senior."""

    reasoning: str
    listened_s: tuple[float, float] | None
    """The span that it asked to hear again; None when it answered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SeniorCaption:
    """The senior's caption and how it came about."""

    caption: Caption
    turns: tuple[Turn, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Is a caption acoustically plausible, given what is seen?"""

    plausible: bool
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A step brought nothing, and asking again would bring nothing: the clip ends here."""

    kind: Literal["refused", "malformed", "media"]
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How a clip ended, and by which steps it came there."""

    end: Literal["kept", "dropped", "failed"]
    steps: tuple[str, ...]


Record = (
    Perception | Decision | VisualContext | Caption | SeniorCaption | Verdict | Failure | Ending
)

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Record)}


def to_json(record: Record) -> str:
    """One line that `from_json` reads: the record's kind, and its fields."""
    data = {type(record).__name__: config.to_json(record)}
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def from_json(text: str) -> Record:
    """The inverse of `to_json`.

    Raises:
        ConfigError: The text holds no record.
    """
    try:
        ((name, data),) = json.loads(text).items()
        kind = _KINDS[name]
    except (ValueError, KeyError, AttributeError) as error:
        raise ConfigError(f"not a record of annotation ({error!r}): {text[:80]!r}") from None
    record: Record = config.from_json(kind, data, where=name)
    return record
