"""A caption judge that runs here: which caption names what the second tagger hears.

In:   pairs of captions, an `Executor`.
Out:  preferences; see `judges.CaptionJudge`.

A caption names a class if one of the class' names stands in it. The better one has the higher
F-measure of what it names against what the tagger hears. It hears 43 classes and no order of
events: two captions with the same things are a tie. Another thing of YAMNet's vocabulary, which it
can't confirm, counts as one too many; words that neither of them knows cost nothing.

Shape suffixes: P patches, K classes.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from omni2sound.annotate.against_scenes import TruthNames
from omni2sound.annotate.executor import Executor
from omni2sound.annotate.judges import Pair, Preference
from omni2sound.annotate.local.words import vocabulary
from omni2sound.annotate.records import Failure
from omni2sound.annotate.roles import Retry, SourceClip
from omni2sound.annotate.sounds import clip_sound
from omni2sound.encoders.metric.tagger import Tagger
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.errors import MediaError
from omni2sound.scenes.material.catalogue import Catalogue

__all__ = ["LocalJudge", "naming_score", "other_things", "tagged"]

_MARGIN = 0.02
"""Captions whose scores differ by less are equally good."""
_PLAIN_WORDS = frozenset({"country", "fill", "hands", "outside", "roll", "run", "walk"})
"""Classes of YAMNet whose name stands in captions of something else."""


@lru_cache(maxsize=1)
def _tagger() -> Tagger:
    return Tagger.load()


def tagged(clip: SourceClip) -> tuple[float, ...] | Failure:
    """(K,) what the tagger hears of each class at its clearest moment: one job of the executor."""
    try:
        scores_PK, _ = _tagger().scores_and_embeddings(clip_sound(clip))
    except MediaError as error:
        return Failure(kind="media", reason=str(error))
    return tuple(round(float(score), 4) for score in scores_PK.max(axis=0))


def other_things(names: TruthNames, yamnet_classes: Sequence[str]) -> re.Pattern[str]:
    """Things of YAMNet's vocabulary that are no class of the catalogue, as whole words."""
    things = {thing.name for thing in vocabulary(tuple(yamnet_classes)).things} - _PLAIN_WORDS
    others = sorted((thing for thing in things if not names.classes(thing)), key=len, reverse=True)
    return re.compile(r"\b(" + "|".join(map(re.escape, others)) + r")\b")


def naming_score(
    caption: str,
    heard_K: NDArray[np.float64],
    classes: Sequence[str],
    names: TruthNames,
    others: re.Pattern[str],
) -> float:
    """F-measure of the things that a caption names against scores of what is heard."""
    named = names.classes(caption)
    named_K = np.array([c in named for c in classes], dtype=np.float64)
    both = float(named_K @ heard_K)
    num_others = len(set(others.findall(names.rest(caption))))  # "a big cat" is no cat
    return 2 * both / max(float(named_K.sum() + num_others + heard_K.sum()), 1e-9)


@dataclass(frozen=True, kw_only=True)
class LocalJudge:
    """The tagger as a `CaptionJudge`."""

    executor: Executor

    async def compare(
        self, pairs: Sequence[Pair]
    ) -> AsyncIterator[tuple[int, Preference | Failure | Retry]]:
        """See `judges.CaptionJudge`."""
        clips = list({pair.clip.name: pair.clip for pair in pairs}.values())
        heard = {
            clips[place].name: scores async for place, scores in self.executor.map(tagged, clips)
        }
        names, classes = TruthNames(Catalogue.load()), _tagger().class_names
        others = other_things(names, YamNet.load().class_names)
        for place, pair in enumerate(pairs):
            scores = heard[pair.clip.name]
            if isinstance(scores, Failure):
                yield place, scores
                continue
            first, second = (
                naming_score(text, np.array(scores), classes, names, others)
                for text in (pair.first, pair.second)
            )
            better: Preference = "tie"
            if abs(first - second) >= _MARGIN:
                better = "first" if first > second else "second"
            yield place, better
