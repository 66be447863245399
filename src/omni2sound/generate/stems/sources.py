"""Sources: the parts of a request that are made one by one.

In:   a `Plan`: what is asked for and what was recognised.
Out:  `Source`s, each with a name, a text and a seed of its own; the plan of each.

A cue is a source, and so is a recognised sound with all of its spans. The prompt and the bed of
ambience are the rest. What not to get wrong: the seed of a source follows from its name and the
take's seed alone, so that another cue leaves the sounds of the others as they are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import count
from typing import TYPE_CHECKING, Any

from omni2sound.generate.words.cues import Cue, compose
from omni2sound.media.samples import Audio

if TYPE_CHECKING:
    from omni2sound.generate.words.plan import Plan
    from omni2sound.timebase import TimeBase

REST = "rest"
_TAKEN = ("mix", REST)
_MAX_NAME = 40
_DIGEST_CHARS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A part of a request."""

    name: str
    """Letters, digits and hyphens; unique in its request."""
    text: str | None
    """What should be heard; None: what the pictures or a bed say."""
    spans: tuple[tuple[float, float], ...] = ()
    """Seconds; empty: the whole clip."""
    at_s: float | None = None
    """Second of its onset, if it is a hit."""

    def seed(self, seed: int, attempt: int = 0) -> int:
        """Seed of this source in the take of a seed; the rest has the take's own."""
        if self.name == REST:
            return seed
        name = f"{self.name}/{attempt}" if attempt else self.name
        digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        return int.from_bytes(digest[:4], "big") >> 1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stem:
    """The sound of a source."""

    source: Source
    seed: int
    audio: Audio
    place: Mapping[str, Any] = field(default_factory=dict)
    """Its place in the mix: fields of `description.MixedStem`."""

    def facts(self) -> dict[str, Any]:
        """How it was made, as JSON data."""
        facts: dict[str, Any] = {
            "name": self.source.name,
            "text": self.source.text,
            "seed": self.seed,
        }
        if self.source.spans:
            facts["spans"] = [list(span) for span in self.source.spans]
        return facts if self.source.at_s is None else facts | {"at_s": self.source.at_s}


def hits_of(plan: Plan, taken: Sequence[Source] = ()) -> list[Source]:
    """List the point cues of a plan.

    Args:
        plan: Plan of the whole.
        taken: Sources whose names are taken.
    """
    others = [source.text or "" for source in taken if source.name != REST]
    names = _names([*others, *(cue.text for cue in plan.points)])[len(others) :]
    return [
        Source(name=name, text=cue.text, at_s=cue.start_s)
        for name, cue in zip(names, plan.points, strict=True)
    ]


def sources_of(plan: Plan, prompt: str | None) -> list[Source]:
    """List the parts of a plan but for its points; the rest is last, and left out if it is silent.

    Args:
        plan: Plan of the whole.
        prompt: The text of the whole clip that the user gave.
    """
    words = plan.words
    found = [(text, ()) for text in words.always]
    spans: dict[str, tuple[tuple[float, float], ...]] = {}
    for cue in words.cues:
        spans[cue.text] = (*spans.get(cue.text, ()), cue.span_s)
    own = plan.cues[len(words.cues) :]
    parts = [*found, *spans.items(), *((cue.text, (cue.span_s,)) for cue in own)]
    names = _names([text for text, _ in parts])
    made = [
        Source(name=name, text=text, spans=tuple(at))
        for name, (text, at) in zip(names, parts, strict=True)
    ]
    follows_pictures = words.text is None and words.pictures and not parts
    if prompt is not None or words.ambience is not None or follows_pictures:
        made.append(Source(name=REST, text=prompt))
    return made


def _names(texts: Sequence[str]) -> list[str]:
    taken = set(_TAKEN)
    names: list[str] = []
    for text in texts:
        slug = _slug(text)
        free = (f"{slug}-{number}" for number in count(2))
        names.append(slug if slug not in taken else next(n for n in free if n not in taken))
        taken.add(names[-1])
    return names


def _slug(text: str) -> str:
    folded = text.casefold()
    slug = re.sub(r"[^a-z0-9]+", "-", folded)[:_MAX_NAME].strip("-") or "sound"
    if folded.isascii():
        return slug
    # Other scripts leave nothing to tell two texts apart.
    digest = hashlib.sha256(folded.encode()).hexdigest()
    return f"{slug}-{digest[:_DIGEST_CHARS]}"


def plan_of(plan: Plan, source: Source, duration: Fraction, timebase: TimeBase) -> Plan:
    """Build the plan of one source.

    Args:
        plan: Plan of the whole.
        source: One of `sources_of`.
        duration: Seconds of sound.
        timebase: The model's time base.
    """
    is_rest = source.name == REST
    recognised = (*plan.words.always, *(cue.text for cue in plan.words.cues))
    placed = [text for text in plan.words.placed if text not in recognised]
    text = source.text
    words = replace(
        plan.words,
        text=None if source.spans else text,
        pictures=plan.words.pictures,
        ambience=plan.words.ambience if is_rest else None,
        placed=tuple(placed) if is_rest else () if text is None else (text,),
        always=(),
        cues=(),
    )
    cues = tuple(Cue(start_s=s, end_s=e, text=text or "") for s, e in source.spans)
    pictures = is_rest and plan.words.pictures and text is None and not plan.words.always
    score = compose(
        words.text,
        cues,
        num_frames=timebase.num_latent_frames(duration),
        frames_per_s=timebase.latent_rate_hz,
        pictures=pictures,
    )
    return replace(plan, words=words, score=score, cues=cues, points=(), silent=not score.texts)


def hit_plan(plan: Plan, source: Source, duration: Fraction, timebase: TimeBase) -> Plan:
    """Build the plan of a hit in a window of its own, of which no picture is given.

    Args:
        plan: Plan of the whole.
        source: One of `hits_of`.
        duration: Seconds of the window.
        timebase: The model's time base.
    """
    alone = replace(source, spans=(), at_s=None)
    unseen = replace(plan, words=replace(plan.words, pictures=False), seen=None)
    return plan_of(unseen, alone, duration, timebase)
