"""Caption judge that compares named sounds with the in-domain tagger's scores.

In:   pairs of captions, an `Executor`.
Out:  preferences; see `roles.CaptionJudge`.

A caption names a class if one of the class's names occurs in it. The better caption has the
higher F-measure of its names against the tagger's scores. The tagger knows 43 classes and no order
of events: captions that name the same things tie. Another thing of YAMNet's vocabulary counts as
a false positive; words that neither knows cost nothing.

Shape suffixes: P patches, K classes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omni2sound.annotate.executor import Executor
from omni2sound.annotate.local.perceive import tagger
from omni2sound.annotate.local.words import ClassNames, vocabulary
from omni2sound.annotate.media import clip_sound
from omni2sound.annotate.records import Failure
from omni2sound.annotate.roles import Pair, Preference, Results, SourceClip
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.errors import MediaError
from omni2sound.scenes.material.catalogue import Catalogue

_MARGIN = 0.02
"""Captions whose scores differ by less tie."""
_PLAIN_WORDS = frozenset({"country", "fill", "hands", "outside", "roll", "run", "walk"})
"""YAMNet classes whose names are everyday words of captions."""


def tag(clip: SourceClip) -> tuple[float, ...] | Failure:
    """Return each class's highest score over the clip, (K,): one job of the executor."""
    try:
        scores_PK, _ = tagger().scores_and_embeddings(clip_sound(clip))
    except MediaError as error:
        return Failure(kind="media", reason=str(error))
    return tuple(round(float(score), 4) for score in scores_PK.max(axis=0))


def other_things(names: ClassNames, yamnet_classes: Sequence[str]) -> re.Pattern[str]:
    """Match things of YAMNet's vocabulary outside the catalogue, as whole words."""
    things = {thing.name for thing in vocabulary(tuple(yamnet_classes)).things} - _PLAIN_WORDS
    others = sorted((thing for thing in things if not names.classes(thing)), key=len, reverse=True)
    return re.compile(r"\b(" + "|".join(map(re.escape, others)) + r")\b")


def naming_score(
    caption: str,
    scores_K: NDArray[np.float64],
    classes: Sequence[str],
    names: ClassNames,
    others: re.Pattern[str],
) -> float:
    """Return the F-measure of the classes named in a caption against the tagger's scores."""
    named = names.classes(caption)
    named_K = np.array([c in named for c in classes], dtype=np.float64)
    both = float(named_K @ scores_K)
    num_others = len(set(others.findall(names.rest(caption))))  # "a big cat" is no cat
    return 2 * both / max(float(named_K.sum() + num_others + scores_K.sum()), 1e-9)


@dataclass(frozen=True, kw_only=True)
class LocalJudge:
    """The tagger as a `CaptionJudge`."""

    executor: Executor

    async def compare(self, pairs: Sequence[Pair]) -> Results[Preference]:
        """See `roles.CaptionJudge`."""
        clips = list({pair.clip.name: pair.clip for pair in pairs}.values())
        tags = {clips[index].name: scores async for index, scores in self.executor.map(tag, clips)}
        names, classes = ClassNames(Catalogue.load()), tagger().class_names
        others = other_things(names, YamNet.load().class_names)
        for index, pair in enumerate(pairs):
            scores = tags[pair.clip.name]
            if isinstance(scores, Failure):
                yield index, scores
                continue
            first, second = (
                naming_score(text, np.array(scores), classes, names, others)
                for text in (pair.first, pair.second)
            )
            better: Preference = "tie"
            if abs(first - second) >= _MARGIN:
                better = "first" if first > second else "second"
            yield index, better
