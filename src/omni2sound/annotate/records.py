"""Records of annotation steps, frozen and stored as JSON.

In:   answers of models, scores, rules.
Out:  `Perception` -> `Decision` (route) -> `VisualContext` -> `Caption` (junior) -> `Decision`
      (hand-off) -> `SeniorCaption` -> `Decision` (post-hoc) -> `Verdict` (validator).

`to_json` and `from_json` of this module are inverse and strict. Times are seconds from the start
of the clip. Unknown is None: a captioner without pictures must not guess what is on screen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from omni2sound import config
from omni2sound.errors import ConfigError
from omni2sound.readers import loads


@dataclass(frozen=True, kw_only=True, slots=True)
class HeardEvent:
    """One named sound of a caption."""

    what: str
    """Noun phrase for the source: "a dog"."""
    start_s: float | None = None
    end_s: float | None = None
    on_screen: bool | None = None
    confidence: float | None = None
    """0 to 1, on the captioner's own scale."""

    def __post_init__(self) -> None:
        if not self.what.strip():
            raise ConfigError("event without a name: expected the sound that is heard")
        if self.start_s is not None and self.end_s is not None and self.end_s < self.start_s:
            raise ConfigError(f"event {self.what!r} ends at {self.end_s} before {self.start_s} s")


@dataclass(frozen=True, kw_only=True, slots=True)
class Caption:
    """Sentence and events of a clip."""

    text: str
    events: tuple[HeardEvent, ...] = ()
    """Ordered by start, where it is known."""
    is_music: bool = False
    """Music has thresholds of its own."""
    wording: str = ""
    """Empty without a rewording model; else "reworded", "unchanged" or "refused: WHY" (the text is
    then the captioner's)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """Description of the picture between two cuts."""

    start_s: float
    end_s: float
    text: str
    things: tuple[str, ...] = ()
    """Visible things as noun phrases."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VisualContext:
    """The silent video as text, the only view of the picture that captioners get."""

    shots: tuple[Shot, ...]

    @property
    def text(self) -> str:
        """One line per shot."""
        return "\n".join(f"{s.start_s:.1f}-{s.end_s:.1f} s: {s.text}" for s in self.shots)

    @property
    def things(self) -> frozenset[str]:
        """Things of all shots."""
        return frozenset(thing for shot in self.shots for thing in shot.things)


@dataclass(frozen=True, kw_only=True, slots=True)
class Patch:
    """Tags of a short span of sound."""

    start_s: float
    end_s: float
    heard: Mapping[str, float] = field(default_factory=dict)
    """The highest scores by class name of the tagger."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """Things that picture models recognise in a shot."""

    start_s: float
    end_s: float
    seen: Mapping[str, float] = field(default_factory=dict)
    """The highest scores by thing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Perception:
    """Measurements of a clip, made once and read by several steps."""

    duration_s: float
    similarity: float | None
    """Audio-visual similarity; None without pictures."""
    sound: str
    """Embeddings of the sound for scoring captions: base64 of float16, (patches, dimensions)."""
    patches: tuple[Patch, ...] = ()
    looks: tuple[Look, ...] = ()


Spans = tuple[tuple[float, float], ...]
"""Starts and ends in seconds, in order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """Caption-audio scores on the scale of one scorer."""

    caption: float
    """Score of the sentence against the whole sound."""
    events: tuple[float | None, ...] = ()
    """Score of each event against the sound in its span, in the caption's order; None for things
    that the scorer does not know; empty if it scores no events. One false thing hardly moves the
    score of a sentence, but its own score is low."""
    heard: tuple[Spans, ...] = ()
    """Spans of the clip in which each event is heard; empty if the scorer tells no times."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Outcome of a rule."""

    outcome: Literal["audio-visual", "audio-only", "keep", "escalate", "drop"]
    reasons: tuple[str, ...]
    """Reasons with numbers; never empty."""
    scores: Mapping[str, float] = field(default_factory=dict)
    rule: str | None = None
    """First rule that escalated or dropped: "route", "sentence", "music", "event", "complex",
    "phrase", "doubt"; None if none did."""

    def __post_init__(self) -> None:
        if not self.reasons:
            raise ConfigError(f"decision {self.outcome!r} without a reason")


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One exchange with the senior."""

    reasoning: str
    listened_s: tuple[float, float] | None
    """Span that the senior asked to hear again; None when it answered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SeniorCaption:
    """The senior's caption and the turns before it."""

    caption: Caption
    turns: tuple[Turn, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Whether a caption is acoustically plausible, given the picture."""

    plausible: bool
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Permanent failure of a step; the clip ends here."""

    kind: Literal["refused", "malformed", "cut", "rejected", "media"]
    """Declined by the model; no answer of the requested form; cut off at the limit of tokens;
    rejected by the endpoint; a file that can't be read."""
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """Outcome of a clip and the steps that led to it."""

    end: Literal["kept", "dropped", "failed"]
    steps: tuple[str, ...]


Record = (
    Perception
    | Decision
    | VisualContext
    | Caption
    | SeniorCaption
    | Verdict
    | Fit
    | Failure
    | Ending
)

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Record)}


def latest_caption(steps: Mapping[str, Record]) -> Caption | None:
    """Return the senior's caption, else the junior's, of a clip's steps."""
    senior, junior = steps.get("senior"), steps.get("junior")
    if isinstance(senior, SeniorCaption):
        return senior.caption
    return junior if isinstance(junior, Caption) else None


def to_json(record: Record) -> str:
    """Encode as one line: the record's kind and its fields."""
    data = {type(record).__name__: config.to_json(record)}
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def from_json(text: str) -> Record:
    """Decode a line of `to_json`.

    Raises:
        ConfigError: The text is no record.
    """
    try:
        ((name, data),) = loads(text).items()
        kind = _KINDS[name]
    except (ValueError, KeyError, AttributeError) as error:
        raise ConfigError(f"not a record of annotation ({error!r}): {text!r:.80}") from None
    record: Record = config.from_json(kind, data, where=name)
    return record
