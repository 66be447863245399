"""What a judge hears in a sound, in the words of a catalogue.

In:   a judge, the class groups of a catalogue, waveforms at 16 kHz.
Out:  the classes that a sound is heard as, whether somebody speaks in it, whether it is music.

Two judges speak this language: YAMNet, through each class's group of its names, and the tagger
that was trained on the catalogue's own classes. A sound *is heard as* a class as
`protocols.class_hit` defines it, among as many best scores as the judge says. A class is
heard *somewhere* in a sound of several things if that is so for any one patch: over all
patches together a loud thing takes all the places (YAMNet on 60 training scenes with an unseen
sound: that one was found 0.75 times instead of 0.45 in the scenes' own sound, absent classes
0.09 instead of 0.02 times).
Speech and music are heard where the largest score of their group reaches `PRESENT_SCORE`: they
are unwanted nearly everywhere, and being among the first five would find traces everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.metrics.onset import Judge, patch_scores, scorable_classes
from omni2sound.errors import UserError
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.scenes.material.catalogue import Catalogue, Split

__all__ = ["PRESENT_SCORE", "Ears", "Heard", "NamedJudge", "RealHearing", "hear_recordings"]

PRESENT_SCORE = 0.5
MAX_FALSE_ALARMS = 0.1
"""A class whose real recordings are speech or music more often than this is not asked."""

_SPEECH = ("Speech", "Child speech, kid speaking", "Conversation", "Narration, monologue")
_MUSIC = ("Music",)


class NamedJudge(Judge, Protocol):
    """A judge that says who it is and what its scores are of."""

    @property
    def name(self) -> str:
        """Goes into the names of protocols."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per score."""

    @property
    def top_k(self) -> int:
        """How many of its best scores count as heard."""

    @property
    def least_score(self) -> float:
        """A lower score is never heard, however few are higher."""

    @property
    def vocabulary(self) -> Literal["audioset", "catalogue"]:
        """Whose names its classes have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """What is heard in one sound."""

    classes: frozenset[str]
    """What the whole sound is heard as."""
    somewhere: frozenset[str]
    """What any one patch is heard as."""
    speech: bool | None
    """None if the judge has no name for it."""
    music: bool | None


class Ears:
    """A judge that speaks the catalogue's language."""

    def __init__(self, judge: NamedJudge, catalogue: Catalogue) -> None:
        """Takes the class groups of the catalogue.

        Args:
            judge: Scores patches; its names are the catalogue's own classes, or YAMNet's.
            catalogue: Its classes say which of YAMNet's classes are hits.

        Raises:
            UserError: If the judge does not know a class of a group.
        """
        self._judge = judge
        names = judge.class_names
        places = {name: i for i, name in enumerate(names)}
        ids = [c.class_id for c in catalogue.classes]
        if judge.vocabulary == "catalogue":
            # A class that such a judge was not trained on is never heard, and so leaves its score.
            groups = {name: {name} & places.keys() for name in ids}
        else:
            groups = {c.class_id: set(c.yamnet_classes) for c in catalogue.classes}
        if unknown := sorted(set().union(*groups.values()) - places.keys()):
            raise UserError(f"the judge does not know {unknown}; use its class names")
        self._groups = {c: {places[name] for name in group} for c, group in groups.items()}
        self._speech = [i for i, name in enumerate(names) if name in _SPEECH]
        self._music = [i for i, name in enumerate(names) if name in _MUSIC]

    def listen(self, waveform_N: NDArray[np.float32]) -> Heard:
        """Everything that is heard in a sound; nothing in a silent one.

        Raises:
            ShapeError: If the waveform is not (N,) with N >= 1.
            UserError: If it holds NaN or infinity.
        """
        scores_PK = patch_scores(waveform_N, SAMPLE_RATE_HZ, self._judge)
        if scores_PK is None:
            nothing: frozenset[str] = frozenset()
            return Heard(
                classes=nothing,
                somewhere=nothing,
                speech=False if self._speech else None,
                music=False if self._music else None,
            )
        scores_K = scores_PK.max(axis=0)
        return Heard(
            classes=self._hits(scores_K),
            somewhere=frozenset().union(*(self._hits(patch_K) for patch_K in scores_PK)),
            speech=_present(scores_K[self._speech]),
            music=_present(scores_K[self._music]),
        )

    def _hits(self, scores_K: NDArray[np.float32]) -> frozenset[str]:
        # `class_hit` of every class (tested), but sorted once.
        order_K = np.argsort(-scores_K, kind="stable")[: self._judge.top_k]
        best = set(order_K[scores_K[order_K] >= self._judge.least_score].tolist())
        return frozenset(c for c, group in self._groups.items() if best & group)


def _present(scores_K: NDArray[np.float32]) -> bool | None:
    return bool((scores_K >= PRESENT_SCORE).any()) if len(scores_K) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class RealHearing:
    """How the judge hears real test recordings: what may be asked of a model.

    Attributes:
        heard: By class, what is heard in each of its test recordings.
    """

    heard: dict[str, list[Heard]]

    @property
    def rates(self) -> dict[str, float]:
        """Share of a class's recordings that are heard as it."""
        return {
            c: float(np.mean([c in h.classes for h in all_heard]))
            for c, all_heard in self.heard.items()
        }

    @property
    def scorable(self) -> tuple[str, ...]:
        """Classes that the judge knows well enough."""
        return scorable_classes(
            {c: [c in h.classes for h in all_heard] for c, all_heard in self.heard.items()}
        )

    @property
    def never_speech(self) -> frozenset[str]:
        """Classes whose real recordings are not taken for speech."""
        return self._rarely("speech")

    @property
    def never_music(self) -> frozenset[str]:
        """Classes whose real recordings are not taken for music."""
        return self._rarely("music")

    def _rarely(self, what: str) -> frozenset[str]:
        return frozenset(
            c
            for c, all_heard in self.heard.items()
            if None not in (flags := [getattr(h, what) for h in all_heard])
            and np.mean(flags) <= MAX_FALSE_ALARMS
        )


def hear_recordings(assets: SceneAssets, ears: Ears, split: Split = "test") -> RealHearing:
    """Listens to every real recording of a split."""
    catalogue = assets.catalogue
    return RealHearing(
        heard={
            c: [ears.listen(assets.waveform(r.recording_id)) for r in recordings]
            for c in catalogue.class_ids
            if (recordings := catalogue.recordings_of(c, split))
        }
    )
