"""Events from tagger scores, and a sentence from events.

In:   `Patch`es with scores of things, visible things; a vocabulary.
Out:  `HeardEvent`s by time; a caption in plain English.

A thing is heard in a patch if its score reaches a threshold and no other thing there is far
stronger; neighbouring patches form one event. Visible things have a lower threshold: the picture
supports a sound but never adds one. What not to get wrong: a thing that was not recognised in the
picture is unknown, not out of view, and the caption says nothing of it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from omni2sound.annotate.local.words import MUSIC, Vocabulary
from omni2sound.annotate.records import Caption, HeardEvent, Patch

_COUNTS = {1: "", 2: "twice", 3: "three times"}
_TOGETHER_S = 0.4
"""Largest difference between starts that count as simultaneous."""
_MUSIC_SCORE = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Clause:
    """Content of a caption about one thing."""

    name: str
    """ "a dog"."""
    verb: str
    """ "barks"."""
    count: str = ""
    """ "twice"; empty for continuous or single sounds."""
    is_unseen: bool = False
    joined: Literal["then", "while"] | None = None
    """Relation to the clause before; None for the first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EventRules:
    """Thresholds for events."""

    threshold: float = 0.3
    seen_threshold: float = 0.15
    """Threshold for visible things."""
    relative: float = 0.6
    """Least score relative to the strongest thing in the patch."""
    gap_s: float = 0.5
    """Longest pause within an event."""


def events_of(
    patches: Sequence[Patch],
    *,
    seen: Collection[str] = (),
    unseen: Collection[str] = (),
    rules: EventRules,
) -> tuple[HeardEvent, ...]:
    """Find events, ordered by start.

    Args:
        patches: Scores of things (`Vocabulary.heard`).
        seen: Names of visible things.
        unseen: Names of things that are known to be out of view.
        rules: Thresholds.
    """
    runs: dict[str, list[tuple[float, float, float]]] = {}
    for patch in patches:
        scores = patch.heard
        strongest = max(scores.values(), default=0.0)
        # The tagger is reliable in about the middle half of a patch.
        edge_s = (patch.end_s - patch.start_s) / 4
        for name, score in scores.items():
            least = rules.seen_threshold if name in seen else rules.threshold
            if score < least or score < rules.relative * strongest:
                continue
            start_s, end_s = patch.start_s + edge_s, patch.end_s - edge_s
            if patch.start_s == 0:
                start_s = 0.0
            known = runs.setdefault(name, [])
            if known and start_s - known[-1][1] <= rules.gap_s:
                known[-1] = (known[-1][0], end_s, max(score, known[-1][2]))
            else:
                known.append((start_s, end_s, score))
    events = [
        HeardEvent(
            what=name,
            start_s=round(start_s, 2),
            end_s=round(end_s, 2),
            on_screen=True if name in seen else False if name in unseen else None,
            confidence=round(score, 3),
        )
        for name, spans in runs.items()
        for start_s, end_s, score in spans
    ]
    return tuple(sorted(events, key=lambda e: (e.start_s or 0.0, -(e.confidence or 0.0))))


def clauses_of(events: Sequence[HeardEvent], words: Vocabulary) -> tuple[Clause, ...]:
    """Group events into clauses, one per thing, in order of time."""
    by_thing: dict[str, list[HeardEvent]] = {}
    for event in events:
        by_thing.setdefault(event.what, []).append(event)
    clauses: list[Clause] = []
    before_s = 0.0
    for name, some in by_thing.items():
        thing = words.thing(name)
        start_s = some[0].start_s or 0.0
        joined: Literal["then", "while"] = "then" if start_s - before_s > _TOGETHER_S else "while"
        clauses.append(
            Clause(
                name=name,
                verb=thing.verb,
                count=_COUNTS.get(len(some), "several times") if thing.is_impulsive else "",
                is_unseen=some[0].on_screen is False,
                joined=joined if clauses else None,
            )
        )
        before_s = start_s
    return tuple(clauses)


def sentence_of(clauses: Sequence[Clause]) -> str:
    """Join clauses into a sentence."""
    text = ""
    for clause in clauses:
        text += {None: "", "then": ", then ", "while": " while "}[clause.joined]
        parts = (clause.name, clause.verb, clause.count, "out of view" if clause.is_unseen else "")
        text += " ".join(part for part in parts if part)
    text = text or "next to nothing is heard"
    return text[0].upper() + text[1:] + "."


def caption_of(events: Sequence[HeardEvent], words: Vocabulary, *, is_music: bool) -> Caption:
    """Write the events as a caption, in order of time."""
    text = sentence_of(clauses_of(events, words))
    return Caption(text=text, events=tuple(events), is_music=is_music)


def mostly_music(patches: Sequence[Patch]) -> bool:
    """Return whether YAMNet's mean score of music is high; patches have YAMNet's classes."""
    heard = [patch.heard for patch in patches if patch.heard]
    return bool(heard) and float(np.mean([h.get(MUSIC, 0.0) for h in heard])) >= _MUSIC_SCORE
