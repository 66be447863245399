"""A run against the exact truth of stage scenes: what was found, what was invented.

In:   stories of a run over stage scenes, the scenes' events, the catalogue.
Out:  `Yield`: what is left of what went in. `Arm`s: junior only, + hand-off, + filter, and the
      filter's rivals of equal loss: clips chosen at random, and captions that name the fewest
      things.

A thing that a caption names is true if it is a name of a class that sounds in the scene: one of
the catalogue's names (held-out ones too) or of the judge's classes for it, as whole words. What is
true and named twice counts once. What not to get wrong: on-screen is compared for things that were
recalled, and "not known" is wrong there; order is compared for pairs that start clearly apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omni2sound.annotate.records import Caption, Decision
from omni2sound.annotate.runs import Story
from omni2sound.scenes.material.catalogue import Catalogue
from omni2sound.scenes.scene import Scene

__all__ = [
    "Arm",
    "Chance",
    "ClipScore",
    "TruthNames",
    "Yield",
    "arms_of",
    "score_caption",
    "yield_of",
]

_APART_S = 0.4
_ARTICLE = re.compile(r"^(a|an|the|some)\s+")
_RANDOM_DRAWS = 1000


class TruthNames:
    """Which classes a noun phrase may mean."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._patterns = {
            c.class_id: re.compile(
                r"\b("
                + "|".join(
                    re.escape(_plain(alias))
                    for name in (*c.names, *c.held_out_names, *c.yamnet_classes, c.class_id)
                    for alias in (name.split(" (")[0].split(", ") if "," in name else [name])
                )
                + r")s?\b"
            )
            for c in catalogue.classes
        }

    def classes(self, what: str) -> frozenset[str]:
        """Class ids whose name is in the phrase."""
        phrase = _plain(what)
        return frozenset(c for c, pattern in self._patterns.items() if pattern.search(phrase))

    def rest(self, text: str) -> str:
        """The text in small letters, without names of classes."""
        rest = text.lower()
        for pattern in self._patterns.values():
            rest = pattern.sub("", rest)
        return rest


def _plain(name: str) -> str:
    return _ARTICLE.sub("", name.lower().split(" (")[0].strip())


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipScore:
    """One caption against one scene."""

    recalled: int
    sources: int
    invented: int
    named: int
    pairs_right: int
    pairs: int
    screen_right: int
    screen_said: int
    """Recalled things of which the caption says whether they are seen."""
    screen_true: int
    """Recalled things that are seen: what "on screen", said of everything, gets right."""


def score_caption(caption: Caption, scene: Scene, names: TruthNames) -> ClipScore:
    """Count what the caption's events get right."""
    true: dict[str, tuple[float, bool]] = {}
    for event in scene.events:
        true.setdefault(event.class_id, (event.onset_s, event.on_screen))
    found: dict[str, tuple[float | None, bool | None]] = {}
    invented, named = 0, set()
    for said in caption.events:
        if said.what.lower() in named:
            continue
        named.add(said.what.lower())
        meant = names.classes(said.what) & true.keys()
        if not meant:
            invented += 1
        for class_id in meant:
            found.setdefault(class_id, (said.start_s, said.on_screen))
    ordered = sorted(found, key=lambda c: true[c][0])
    pairs = [
        (a, b)
        for i, a in enumerate(ordered)
        for b in ordered[i + 1 :]
        if true[b][0] - true[a][0] > _APART_S
    ]
    right = 0
    for a, b in pairs:
        start_a, start_b = found[a][0], found[b][0]
        right += start_a is not None and start_b is not None and start_a < start_b
    return ClipScore(
        recalled=len(found),
        sources=len(true),
        invented=invented,
        named=len(named),
        pairs_right=right,
        pairs=len(pairs),
        screen_right=sum(found[c][1] is true[c][1] for c in found),
        screen_said=sum(seen is not None for _, seen in found.values()),
        screen_true=sum(true[c][1] for c in found),
    )


Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Chance:
    """Between these are 95 % of random choices of as many clips."""

    recall: Interval
    invented_per_caption: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """Totals over clips; None where nothing could be counted."""

    name: str
    clips: int
    recall: float | None
    invented_per_caption: float | None
    invented_of_named: float | None
    """A short caption has few inventions whatever it is worth; this does not reward it."""
    order: float | None
    on_screen: float | None
    """Right of those recalled; unknown is wrong."""
    on_screen_of_said: float | None
    """Right of those where it is said."""
    on_screen_always: float | None
    """What a caption gets that says "on screen" of everything."""
    at_random: Chance | None = None


def _ratio(scores: Sequence[ClipScore], part: str, whole: str) -> float | None:
    total = sum(getattr(s, whole) for s in scores)
    return sum(getattr(s, part) for s in scores) / total if total else None


def _arm(name: str, scores: Sequence[ClipScore], chance: Chance | None = None) -> Arm:
    return Arm(
        name=name,
        clips=len(scores),
        recall=_ratio(scores, "recalled", "sources"),
        invented_per_caption=sum(s.invented for s in scores) / len(scores) if scores else None,
        invented_of_named=_ratio(scores, "invented", "named"),
        order=_ratio(scores, "pairs_right", "pairs"),
        on_screen=_ratio(scores, "screen_right", "recalled"),
        on_screen_of_said=_ratio(scores, "screen_right", "screen_said"),
        on_screen_always=_ratio(scores, "screen_true", "recalled"),
        at_random=chance,
    )


def arms_of(
    told: Sequence[tuple[Story, Scene]], names: TruthNames, *, seed: int = 0
) -> tuple[Arm, ...]:
    """Junior only, + hand-off, + filter; all over the same clips, those that have a caption.

    Beside a filter that dropped something stands its rival without a model: as many captions, those
    that name the fewest things (in the order of `told` where they name equally many).

    Args:
        told: Stories and the scenes that they are of.
        names: Of the scenes' catalogue.
        seed: Of the random choices beside the filter.
    """
    junior, handed, kept = [], [], []
    for story, scene in told:
        first, last = story.steps.get("junior"), story.caption
        if not isinstance(first, Caption) or last is None:
            continue
        junior.append(score_caption(first, scene, names))
        handed.append(score_caption(last, scene, names))
        if story.ending.end == "kept":
            kept.append(handed[-1])
    arms = [_arm("junior", junior), _arm("+ hand-off", handed)]
    if not kept or len(kept) == len(handed):
        return (*arms, _arm("+ filter", kept))
    shortest = sorted(handed, key=lambda score: score.named)[: len(kept)]
    return (
        *arms,
        _arm("+ filter", kept, _chance(handed, len(kept), seed)),
        _arm("fewest named", shortest),
    )


def _chance(scores: Sequence[ClipScore], count: int, seed: int) -> Chance:
    rng = np.random.default_rng(seed)
    counts_N3 = np.array([(s.recalled, s.sources, s.invented) for s in scores], dtype=np.float64)
    sums_D3 = np.array(
        [rng.permutation(counts_N3)[:count].sum(axis=0) for _ in range(_RANDOM_DRAWS)]
    )

    def interval(draws_D: NDArray[np.float64]) -> Interval:
        low, high = np.quantile(draws_D, [0.025, 0.975])
        return float(low), float(high)

    return Chance(
        recall=interval(sums_D3[:, 0] / np.maximum(sums_D3[:, 1], 1)),
        invented_per_caption=interval(sums_D3[:, 2] / count),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Yield:
    """What came out of what went in: a filter that keeps little is precise at a price."""

    clips: int
    """That ended, dropped by route or not."""
    sources: int
    """Things that sound in them."""
    captioned: int
    kept: int
    recalled: int
    """True things in kept captions."""
    escalated: int
    dropped: int
    """With a caption: by post-hoc filter or validator."""
    dropped_by_junior: int
    """Of these, captions of the junior: the senior, who might have saved them, was not asked."""

    def __str__(self) -> str:
        def of(part: int, whole: int) -> str:
            return f"{part} of {whole} ({part / whole:.3f})" if whole else f"{part} of 0"

        return (
            f"kept {of(self.kept, self.clips)} clips and "
            f"{of(self.recalled, self.sources)} things that sound, "
            f"{self.recalled / max(self.clips, 1):.3f} true things a clip that went in; "
            f"{of(self.escalated, self.captioned)} captions to the senior; "
            f"{of(self.dropped_by_junior, self.dropped)} dropped captions never escalated"
        )


def yield_of(told: Sequence[tuple[Story, Scene]], names: TruthNames) -> Yield:
    """Of all clips that ended, with or without a caption."""
    counts = {"kept": 0, "recalled": 0, "dropped": 0, "dropped_by_junior": 0}
    sources = captioned = escalated = 0
    for story, scene in told:
        sources += len({event.class_id for event in scene.events})
        handed, caption = story.steps.get("hand-off"), story.caption
        if not isinstance(handed, Decision) or caption is None:
            continue
        captioned += 1
        asked = handed.outcome == "escalate"
        escalated += asked
        if story.ending.end == "kept":
            counts["kept"] += 1
            counts["recalled"] += score_caption(caption, scene, names).recalled
        elif story.ending.end == "dropped":
            counts["dropped"] += 1
            counts["dropped_by_junior"] += not asked
    return Yield(
        clips=len(told), sources=sources, captioned=captioned, escalated=escalated, **counts
    )
