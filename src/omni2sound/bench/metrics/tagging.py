"""Audio tagging: which classes of a catalogue a tagger finds in a sound, and speech and music.

In:   an audio tagger, the classes of a catalogue, mono waveforms at 16 kHz.
Out:  the catalogue's classes in a sound, whether it holds speech, whether it holds music.

Two taggers are included: YAMNet, whose labels each catalogue class lists, and an in-domain tagger
that was trained on the catalogue's own classes. The definitions are fixed once a model has been
scored with them: a changed one needs a new name.

*Class scores*: the largest score of each class over patches that begin 50 ms before the
strongest onset, or whole patch hops before or after that; patches 40 dB below the loudest one
are left out. The clip is first scaled to a peak of 0.5, so level does not matter.

*Class hit*: one of the class's labels is among the `TOP_K` highest of all scores. The number of
scores that count, and the least score, are the tagger's.

*Somewhere*: a class is found somewhere in a sound if any one patch hits it: over all patches
together a loud sound takes all the places (YAMNet on 60 training scenes with an off-screen
sound: that one was found 0.75 times instead of 0.45 in the scenes' own sound, absent classes
0.09 instead of 0.02 times).

*Speech, music*: present where the largest score of their labels reaches `PRESENT_SCORE`: they
are unwanted nearly everywhere, and being among the first five would find traces everywhere.

*Ground-truth rule*: a class whose real recordings are hit in less than 70 % leaves the metric.

Shape suffixes: N samples, P patches, K classes of the tagger.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omni2sound.bench.metrics.onset import checked_waveform, is_silent, strongest_onset_s
from omni2sound.encoders.metric.tagger import Tagger
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.errors import UserError
from omni2sound.media.audio import read_audio
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.scenes.material.catalogue import Catalogue, Split

__all__ = [
    "JUDGES",
    "ORACLE_MIN_RATE",
    "PRESENT_SCORE",
    "TOP_K",
    "Ears",
    "Heard",
    "Judge",
    "NamedJudge",
    "RealHearing",
    "class_hit",
    "class_scores",
    "hear_recordings",
    "load_judge",
    "patch_scores",
    "scorable_classes",
    "speech_in",
]

TOP_K = 5
ORACLE_MIN_RATE = 0.7
PRESENT_SCORE = 0.5
MAX_FALSE_ALARMS = 0.1
"""A class whose real recordings are speech or music more often than this is not asked."""

_LEAD_S = 0.05
_PATCH_RANGE_DB = 40
_JUDGED_PEAK = 0.5
_SPEECH = ("Speech", "Child speech, kid speaking", "Conversation", "Narration, monologue")
_MUSIC = ("Music",)


class Judge(Protocol):
    """What class scores need of a network; `encoders.metric.yamnet.YamNet` is one."""

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the waveforms it takes."""

    @property
    def patch_samples(self) -> int:
        """Samples that one patch looks at."""

    @property
    def patch_hop_samples(self) -> int:
        """Samples from the start of one patch to the next."""

    def scores_and_embeddings(
        self, waveform_N: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores (P, K) and embeddings (P, D); zeros are appended to a whole patch."""


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


def class_scores(
    waveform_N: ArrayLike, sample_rate_hz: int, judge: Judge
) -> NDArray[np.float32] | None:
    """Scores (K,) of a clip, as defined on top of this module; None for a silent clip.

    Args:
        waveform_N: Mono samples at the judge's rate.
        sample_rate_hz: The judge's rate; resample before, never after.
        judge: Scores patches.

    Raises:
        ShapeError: If the waveform is not (N,) with N >= 1.
        UserError: If it holds NaN or infinity, or has another rate.
    """
    scores_PK = patch_scores(waveform_N, sample_rate_hz, judge)
    return None if scores_PK is None else scores_PK.max(axis=0)


def patch_scores(
    waveform_N: ArrayLike, sample_rate_hz: int, judge: Judge
) -> NDArray[np.float32] | None:
    """Scores (P, K) of the patches that class scores are the maximum of; errors as there."""
    if sample_rate_hz != judge.sample_rate_hz:
        raise UserError(
            f"the judge takes {judge.sample_rate_hz} Hz, got {sample_rate_hz}; resample"
        )
    waveform = checked_waveform(waveform_N)
    if is_silent(waveform, sample_rate_hz):
        return None
    waveform = waveform * (_JUDGED_PEAK / np.abs(waveform).max())
    onset_s = strongest_onset_s(waveform, sample_rate_hz)
    start = round(max(0.0, (onset_s or 0.0) - _LEAD_S) * sample_rate_hz)
    hop = judge.patch_hop_samples
    aligned = np.concatenate([np.zeros(-start % hop), waveform]).astype(np.float32)
    scores_PK, _ = judge.scores_and_embeddings(aligned)
    energy_P = _patch_energy(aligned, len(scores_PK), judge.patch_samples, hop)
    heard_P = energy_P >= energy_P.max() * 10 ** (-_PATCH_RANGE_DB / 10)
    heard_PK: NDArray[np.float32] = scores_PK[heard_P]
    return heard_PK


def class_hit(
    scores_K: NDArray[np.float32] | None,
    class_names: Sequence[str],
    group: Collection[str],
    *,
    top_k: int = TOP_K,
) -> bool:
    """Whether one of `group` is among the `top_k` highest scores; silence (None) is a miss.

    Args:
        scores_K: From `class_scores`.
        class_names: The judge's K classes.
        group: The classes that count, of those names.
        top_k: How many count as heard.

    Raises:
        UserError: If the judge does not know a class of the group.
    """
    unknown = sorted(set(group) - set(class_names))
    if unknown:
        raise UserError(f"the judge does not know {unknown}; use its class names")
    if scores_K is None:
        return False
    best = np.argsort(-scores_K, kind="stable")[:top_k]
    return any(class_names[i] in group for i in best)


def scorable_classes(
    oracle_hits: Mapping[str, Sequence[bool]], *, min_rate: float = ORACLE_MIN_RATE
) -> tuple[str, ...]:
    """Classes whose real recordings are hit often enough, in the order given.

    Args:
        oracle_hits: For each class, one hit per real recording; a class without any leaves.
        min_rate: Below this rate a class leaves the metric.
    """
    return tuple(
        name for name, hits in oracle_hits.items() if len(hits) and np.mean(hits) >= min_rate
    )


def _patch_energy(
    waveform_N: NDArray[np.float32], num_patches: int, size: int, hop: int
) -> NDArray[np.float64]:
    total = np.concatenate([[0.0], np.cumsum(waveform_N.astype(np.float64) ** 2)])
    starts = np.minimum(np.arange(num_patches) * hop, len(waveform_N))
    energy: NDArray[np.float64] = total[np.minimum(starts + size, len(waveform_N))] - total[starts]
    return energy


JUDGES: Mapping[str, Callable[[], NamedJudge]] = {"yamnet": YamNet.load, "tagger": Tagger.load}
"""Judges by name. The first that is asked for decides what is heard (`stage-v1`), the second says
it again; all have distances of their own."""


@cache
def load_judge(name: str) -> NamedJudge:
    """A judge, once in each process.

    Raises:
        UserError: There is none of this name.
        MissingPartError: Its network is not installed.
    """
    if name not in JUDGES:
        raise UserError(
            f"no judge {name!r}; known: {', '.join(JUDGES)} (those of avbench-8s-v1 come with "
            "--weights, see docs/guides/full-size.md)"
        )
    return JUDGES[name]()


def speech_in(judge: str = "yamnet") -> Callable[[Path], bool]:
    """A function that says whether a judge hears speech (`ears`) in a file.

    Raises:
        MissingPartError: The judge's network is not installed.
    """
    ears = Ears(load_judge(judge), Catalogue.load())
    rate_hz = load_judge(judge).sample_rate_hz

    def hears(path: Path) -> bool:
        sound_N = read_audio(path, sample_rate_hz=rate_hz, mono=True).samples_CN[0]
        return len(sound_N) > 0 and bool(ears.listen(sound_N).speech)

    return hears
