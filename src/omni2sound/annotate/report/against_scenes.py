"""A run's captions against the ground truth of synthetic scenes.

In:   runs over synthetic scenes, the scenes' folders.
Out:  lines of a table. `Arm`s: junior only, + hand-off, + filter, and two controls that keep as
      many clips as the filter: a random choice, and the captions that name the fewest things.
      `Yield`: what remains of the clips and sounds that went in.

A named thing is correct if it contains a name (held-out ones included) or a YAMNet class of a
class that sounds in the scene, as whole words. A repeated name counts once. What not to get wrong:
on-screen is scored for recalled things, where unknown counts as wrong; order is scored for pairs
that start more than 0.4 s apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omni2sound.annotate.local.words import ClassNames
from omni2sound.annotate.records import Caption, Decision
from omni2sound.annotate.runs import RunSettings, Story, stories
from omni2sound.readers import read_text
from omni2sound.scenes.export.files import EVENTS
from omni2sound.scenes.material.catalogue import Catalogue
from omni2sound.scenes.scene import Scene

_APART_S = 0.4
_RANDOM_DRAWS = 1000


def table(runs: Sequence[Path], scenes: Sequence[Path]) -> Iterator[str]:
    """Yield the lines of a table: arms and yield of each run over the same built scenes."""
    truth = {
        path.parent.name: Scene.from_json(read_text(path))
        for folder in scenes
        for path in sorted(folder.glob(f"*/{EVENTS}"))
    }
    names = ClassNames(Catalogue.load())
    yield (
        "run | pictures | arm | clips | recall (random) | false positives per caption (random) | "
        "false share of named | order | on-screen | on-screen where stated | "
        'always "on screen"'
    )
    for run in runs:
        pictures = RunSettings.read(run).pictures
        scored = [(s, truth[s.clip.clip_id]) for s in stories(run) if s.clip.clip_id in truth]
        for arm in arms_of(scored, names):
            values = (
                *(arm.recall, arm.invented_per_caption, arm.invented_of_named, arm.order),
                *(arm.on_screen, arm.on_screen_of_said, arm.on_screen_always),
            )
            cells = [f"{v:.3f}" if v is not None else "-" for v in values]
            if arm.at_random is not None:
                intervals = (arm.at_random.recall, arm.at_random.invented_per_caption)
                for column, (low, high) in enumerate(intervals):
                    cells[column] += f" ({low:.3f} to {high:.3f})"
            yield " | ".join([run.name, pictures, arm.name, str(arm.clips), *cells])
        yield f"{run.name}: {yield_of(scored, names)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipScore:
    """Counts of one caption against one scene."""

    recalled: int
    sources: int
    invented: int
    named: int
    pairs_right: int
    pairs: int
    screen_right: int
    screen_stated: int
    """Recalled things that the caption calls on or off screen."""
    screen_true: int
    """Recalled things that are on screen: correct if everything were called so."""


def score_caption(caption: Caption, scene: Scene, names: ClassNames) -> ClipScore:
    """Compare the events of a caption with those of its scene."""
    true: dict[str, tuple[float, bool]] = {}
    for sound in scene.events:
        true.setdefault(sound.class_id, (sound.onset_s, sound.on_screen))
    found: dict[str, tuple[float | None, bool | None]] = {}
    invented, named = 0, set()
    for event in caption.events:
        if event.what.lower() in named:
            continue
        named.add(event.what.lower())
        meant = names.classes(event.what) & true.keys()
        if not meant:
            invented += 1
        for class_id in meant:
            found.setdefault(class_id, (event.start_s, event.on_screen))
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
        screen_stated=sum(seen is not None for _, seen in found.values()),
        screen_true=sum(true[c][1] for c in found),
    )


Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Chance:
    """95 % intervals over random choices of as many clips."""

    recall: Interval
    invented_per_caption: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """Rates over clips; None where the denominator is 0."""

    name: str
    clips: int
    recall: float | None
    invented_per_caption: float | None
    invented_of_named: float | None
    """Unlike the rate per caption, does not favour short captions."""
    order: float | None
    on_screen: float | None
    """Accuracy over recalled things; unknown counts as wrong."""
    on_screen_of_said: float | None
    """Accuracy where the caption states it."""
    on_screen_always: float | None
    """Accuracy of calling everything on screen."""
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
        on_screen_of_said=_ratio(scores, "screen_right", "screen_stated"),
        on_screen_always=_ratio(scores, "screen_true", "recalled"),
        at_random=chance,
    )


def arms_of(scored: Sequence[tuple[Story, Scene]], names: ClassNames) -> tuple[Arm, ...]:
    """Score junior only, + hand-off, + filter over the clips that have a caption.

    A filter that dropped something gets its control without a model: as many captions, those that
    name the fewest things (ties in the order of `scored`).
    """
    junior, handed, kept = [], [], []
    for story, scene in scored:
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
        _arm("+ filter", kept, _chance(handed, len(kept))),
        _arm("fewest named", shortest),
    )


def _chance(scores: Sequence[ClipScore], count: int) -> Chance:
    rng = np.random.default_rng(0)
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
    """What a run keeps: the price of a filter's precision."""

    clips: int
    """Finished clips, including those that the route dropped."""
    sources: int
    """Sounding things in them."""
    captioned: int
    kept: int
    recalled: int
    """Correct things in kept captions."""
    escalated: int
    dropped: int
    """Captions dropped by the post-hoc filter or the validator."""
    dropped_by_junior: int
    """Dropped captions of the junior that the senior never saw."""

    def __str__(self) -> str:
        def of(part: int, whole: int) -> str:
            return f"{part} of {whole} ({part / whole:.3f})" if whole else f"{part} of 0"

        return (
            f"kept {of(self.kept, self.clips)} clips and "
            f"{of(self.recalled, self.sources)} sounding things, "
            f"{self.recalled / max(self.clips, 1):.3f} correct things per input clip; "
            f"{of(self.escalated, self.captioned)} captions to the senior; "
            f"{of(self.dropped_by_junior, self.dropped)} dropped captions never escalated"
        )


def yield_of(scored: Sequence[tuple[Story, Scene]], names: ClassNames) -> Yield:
    """Count over all finished clips, with or without a caption."""
    counts = {"kept": 0, "recalled": 0, "dropped": 0, "dropped_by_junior": 0}
    sources = captioned = escalated = 0
    for story, scene in scored:
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
        clips=len(scored), sources=sources, captioned=captioned, escalated=escalated, **counts
    )
