"""Ways to combine the score of a sentence with those of its sounds, against exact truth.

    python -m benchmarks.quality.filter_ways RUN --scenes FOLDER [--scenes FOLDER]

RUN is a finished run over built scenes, for example FOLDER/text of `benchmarks.quality.
annotate_scenes`, and its captions are taken as they are after the hand-off: only the filter
differs. The joint space scores each caption and its known sounds once. Ways:

    sentence            the paper's rule: the sentence alone
    sentence + sounds   today's rule: every sound that the scorer knows, too
    ... + no unknown    a sound that the scorer does not know drops the caption
    sounds, no unknown  without the sentence

Each is compared with "fewest named": as many captions, those that name the fewest things, and with
as many captions ranked by the way's own score at an equal number of clips.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from omni2sound.annotate.executor import Executor
from omni2sound.annotate.filters import Thresholds
from omni2sound.annotate.local.roles import LocalScorer
from omni2sound.annotate.local.words import ClassNames
from omni2sound.annotate.records import Caption, Fit, Perception
from omni2sound.annotate.report.against_scenes import ClipScore, score_caption
from omni2sound.annotate.roles import Work
from omni2sound.annotate.runs import RunSettings, clip_name, source_clips, stories
from omni2sound.data.corpora.manifest import read_manifest
from omni2sound.readers import read_text
from omni2sound.scenes.export.files import EVENTS
from omni2sound.scenes.material.catalogue import Catalogue
from omni2sound.scenes.scene import Scene
from omni2sound.weights import resolve_model


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """A caption, its scores and its truth."""

    caption: Caption
    fit: Fit
    truth: ClipScore

    def margin(self, thresholds: Thresholds, *, sentence: bool, sounds: bool) -> float:
        """How far the lowest score that counts lies above its threshold."""
        least = thresholds.drop_music if self.caption.is_music else thresholds.drop
        margins = [self.fit.caption - least] if sentence else []
        if sounds:
            margins += [s - thresholds.drop_event for s in self.fit.events if s is not None]
        return min(margins, default=0.0)

    @property
    def unknown(self) -> int:
        """Sounds that the scorer does not know."""
        return sum(score is None for score in self.fit.events)


Way = Callable[[Captioned], tuple[float, ...]]
"""Sort key, best first by being larger; kept if its first number is 0 or more."""


def ways(thresholds: Thresholds) -> dict[str, Way]:
    """Each way's key."""

    def strict(one: Captioned, *, sentence: bool) -> tuple[float, ...]:
        margin = one.margin(thresholds, sentence=sentence, sounds=True)
        return (-1.0 if one.unknown else margin, -one.unknown, margin)

    return {
        "sentence": lambda one: (one.margin(thresholds, sentence=True, sounds=False),),
        "sentence + sounds": lambda one: (one.margin(thresholds, sentence=True, sounds=True),),
        "sentence + sounds + no unknown": lambda one: strict(one, sentence=True),
        "sounds, no unknown": lambda one: strict(one, sentence=False),
    }


def read(run: Path, scenes: Sequence[Path]) -> list[Captioned]:
    """Score the captions of a run that have a truth."""
    truth = {
        path.parent.name: Scene.from_json(read_text(path))
        for folder in scenes
        for path in sorted(folder.glob(f"*/{EVENTS}"))
    }
    names = ClassNames(Catalogue.load())
    sources = {
        clip.name: clip
        for clip in source_clips(read_manifest(Path(RunSettings.read(run).manifest)))
    }
    works, scored = [], []
    for story in stories(run):
        scene, perception = truth.get(story.clip.clip_id), story.steps.get("perceive")
        if scene is None or story.caption is None or not isinstance(perception, Perception):
            continue
        source = sources[clip_name(story.clip)]
        works.append(Work(clip=source, perception=perception, caption=story.caption))
        scored.append(score_caption(story.caption, scene, names))
    scorer = LocalScorer(joint=resolve_model("joint-v1"), executor=Executor())

    async def fits() -> dict[int, Fit]:
        return dict([pair async for pair in scorer.score(works)])

    found = asyncio.run(fits())
    return [
        Captioned(caption=work.caption, fit=found[place], truth=scored[place])
        for place, work in enumerate(works)
        if work.caption is not None
    ]


def cells(some: Iterable[Captioned]) -> list[str]:
    """Number of captions, recall, hallucinations a caption and of named things, order."""
    scores = [one.truth for one in some]
    totals = {
        part: sum(getattr(score, part) for score in scores)
        for part in ("recalled", "sources", "invented", "named", "pairs_right", "pairs")
    }

    def share(part: str, whole: float) -> str:
        return f"{totals[part] / whole:.3f}" if whole else "-"

    return [
        str(len(scores)),
        share("recalled", totals["sources"]),
        share("invented", len(scores)),
        share("invented", totals["named"]),
        share("pairs_right", totals["pairs"]),
    ]


def main() -> None:
    """Print a line for each way, its control, and both at an equal number of clips."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--scenes", type=Path, action="append", required=True)
    options = parser.parse_args()
    everyone = read(options.run, options.scenes)
    found = ways(Thresholds.of("embedded"))
    briefest = sorted(everyone, key=lambda one: one.truth.named)
    print("way | captions | recall | hallucinated a caption | of named | order")
    print(" | ".join(["all, after the hand-off", *cells(everyone)]))
    for name, way in found.items():
        kept = [one for one in everyone if way(one)[0] >= 0]
        print(" | ".join([name, *cells(kept)]))
        print(" | ".join(["  fewest named", *cells(briefest[: len(kept)])]))
    count = sum(found["sentence + sounds"](one)[0] >= 0 for one in everyone)
    print(f"the best {count} by each way's own order:")
    for name, way in found.items():
        best = sorted(everyone, key=way, reverse=True)[:count]
        print(" | ".join([name, *cells(best)]))
    unknown = [one for one in everyone if one.unknown]
    print(f"{len(unknown)} captions name sounds that the scorer does not know:")
    print(" | ".join(["those", *cells(unknown)]))


if __name__ == "__main__":
    main()
