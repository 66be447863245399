"""Audio tagging: which classes of a catalogue a tagger finds in a sound, and speech and music.

In:   an audio tagger, the classes of a catalogue, mono waveforms.
Out:  the catalogue's classes in a sound, whether it holds speech, whether it holds music.

Three taggers are included: YAMNet, whose labels each catalogue class lists, an in-domain tagger
that was trained on the catalogue's own classes, and aisfx, a network for sound effects up to 22 kHz
with a linear head for those classes. The definitions are fixed once a model has been
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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omni2sound.bench.metrics.onset import checked_waveform, is_silent, strongest_onset_s
from omni2sound.encoders.metric.aisfx import AiSfx
from omni2sound.encoders.metric.tagger import Tagger
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.errors import UserError
from omni2sound.media.audio import read_audio
from omni2sound.media.samples import Audio, resample
from omni2sound.plugins import Registry
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.scenes.material.catalogue import Catalogue, Split

TOP_K = 5
ORACLE_MIN_RATE = 0.7
PRESENT_SCORE = 0.5
MAX_FALSE_ALARMS = 0.1
"""A class whose real recordings are tagged as speech or music more often does not count for it."""

_LEAD_S = 0.05
_PATCH_RANGE_DB = 40
_TAGGED_PEAK = 0.5
_SPEECH = ("Speech", "Child speech, kid speaking", "Conversation", "Narration, monologue")
_MUSIC = ("Music",)


class PatchTagger(Protocol):
    """A network that scores patches of sound; `encoders.metric.yamnet.YamNet` is one."""

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate of its input."""

    @property
    def patch_samples(self) -> int:
        """Samples in one patch."""

    @property
    def patch_hop_samples(self) -> int:
        """Samples from the start of one patch to the next."""

    def scores_and_embeddings(
        self, waveform_N: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores (P, K) and embeddings (P, D); zeros are appended to a whole patch."""


class AudioTagger(PatchTagger, Protocol):
    """A patch tagger with a name, class names and a rule for what counts."""

    @property
    def name(self) -> str:
        """Part of the names of its protocols."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names, one per score."""

    @property
    def top_k(self) -> int:
        """How many of the highest scores count."""

    @property
    def least_score(self) -> float:
        """A lower score never counts, even among the `top_k` highest."""

    @property
    def vocabulary(self) -> Literal["audioset", "catalogue"]:
        """Whether `class_names` are AudioSet's or the catalogue's own."""


TAGGERS: Registry[Callable[[], AudioTagger]] = Registry(
    "tagger",
    {"yamnet": YamNet.load, "tagger": Tagger.load, "aisfx": AiSfx.load},
    kind=Callable,
    note="plugins add others (for the networks of avbench-8s-v1 see docs/guides/full-size.md)",
)
"""Taggers by name. The first one chosen gives the main scores of `stage-v1`, the second one the
scores marked "(2nd)"; each has distances of its own."""


@cache
def load_tagger(name: str) -> AudioTagger:
    """Load a tagger, once in each process.

    Raises:
        ConfigError: There is none of this name.
        MissingPartError: Its network is not installed.
    """
    return TAGGERS.find(name)()


@dataclass(frozen=True, kw_only=True, slots=True)
class Tags:
    """The classes found in one sound."""

    classes: frozenset[str]
    """Classes of the whole sound."""
    somewhere: frozenset[str]
    """Classes of any one patch."""
    speech: bool | None
    """None if the tagger has no label for it."""
    music: bool | None


class CatalogueTagger:
    """An audio tagger that reports a catalogue's classes."""

    def __init__(self, tagger: AudioTagger, catalogue: Catalogue) -> None:
        """Match the tagger's labels to the catalogue's classes.

        Args:
            tagger: Its labels are the catalogue's own classes, or AudioSet's.
            catalogue: Each class lists the AudioSet labels that count as a hit.

        Raises:
            UserError: If the tagger lacks a label that a class lists.
        """
        self._tagger = tagger
        names = tagger.class_names
        places = {name: i for i, name in enumerate(names)}
        ids = [c.class_id for c in catalogue.classes]
        if tagger.vocabulary == "catalogue":
            # A class that such a tagger was not trained on is never hit, and so leaves its score.
            groups = {name: {name} & places.keys() for name in ids}
        else:
            groups = {c.class_id: set(c.yamnet_classes) for c in catalogue.classes}
        if unknown := sorted(set().union(*groups.values()) - places.keys()):
            raise UserError(f"the tagger does not know {unknown}; use its class names")
        self._groups = {c: {places[name] for name in group} for c, group in groups.items()}
        self._speech = [i for i, name in enumerate(names) if name in _SPEECH]
        self._music = [i for i, name in enumerate(names) if name in _MUSIC]

    def tag(self, waveform_N: NDArray[np.float32], sample_rate_hz: int = SAMPLE_RATE_HZ) -> Tags:
        """Find the classes in a sound, resampled to the tagger's rate; a silent one has none.

        Raises:
            ShapeError: If the waveform is not (N,) with N >= 1.
            UserError: If it holds NaN or infinity.
        """
        rate_hz = self._tagger.sample_rate_hz
        sound_N = at_rate(waveform_N, sample_rate_hz, rate_hz)
        scores_PK = patch_scores(sound_N, rate_hz, self._tagger)
        if scores_PK is None:
            scores_PK = np.full((1, len(self._tagger.class_names)), -np.inf, np.float32)
        scores_K = scores_PK.max(axis=0)
        return Tags(
            classes=self._hits(scores_K),
            somewhere=frozenset().union(*(self._hits(patch_K) for patch_K in scores_PK)),
            speech=_present(scores_K[self._speech]),
            music=_present(scores_K[self._music]),
        )

    def _hits(self, scores_K: NDArray[np.float32]) -> frozenset[str]:
        order_K = np.argsort(-scores_K, kind="stable")[: self._tagger.top_k]
        best = set(order_K[scores_K[order_K] >= self._tagger.least_score].tolist())
        return frozenset(c for c, group in self._groups.items() if best & group)


def _present(scores_K: NDArray[np.float32]) -> bool | None:
    return bool((scores_K >= PRESENT_SCORE).any()) if len(scores_K) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class RealTags:
    """A tagger's result on real recordings, which decides the classes that a model is scored on."""

    tags: dict[str, list[Tags]]
    """By class, the tags of each of its recordings."""

    @property
    def rates(self) -> dict[str, float]:
        """Share of a class's recordings in which it is found."""
        return {c: float(np.mean(hits)) for c, hits in self._hits.items()}

    @property
    def scorable(self) -> tuple[str, ...]:
        """Classes that pass the ground-truth rule."""
        return scorable_classes(self._hits)

    @property
    def _hits(self) -> dict[str, list[bool]]:
        return {c: [c in tags.classes for tags in all_tags] for c, all_tags in self.tags.items()}

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
            for c, all_tags in self.tags.items()
            if None not in (flags := [getattr(tags, what) for tags in all_tags])
            and np.mean(flags) <= MAX_FALSE_ALARMS
        )


def tag_recordings(assets: SceneAssets, tagger: CatalogueTagger, split: Split = "test") -> RealTags:
    """Tag every real recording of a split."""
    catalogue = assets.catalogue
    return RealTags(
        tags={
            c: [tagger.tag(assets.waveform(r.recording_id)) for r in recordings]
            for c in catalogue.class_ids
            if (recordings := catalogue.recordings_of(c, split))
        }
    )


def speech_by_yamnet() -> Callable[[Path], bool]:
    """Make a function that reports whether YAMNet finds speech in a file's sound.

    Raises:
        MissingPartError: The tagger's network is not installed.
    """
    tagger = load_tagger("yamnet")
    tags_of, rate_hz = CatalogueTagger(tagger, Catalogue.load()).tag, tagger.sample_rate_hz

    def has_speech(path: Path) -> bool:
        sound_N = read_audio(path, sample_rate_hz=rate_hz, mono=True).samples_CN[0]
        return len(sound_N) > 0 and bool(tags_of(sound_N, rate_hz).speech)

    return has_speech


def at_rate(
    waveform_N: NDArray[np.float32], sample_rate_hz: int, wanted_hz: int
) -> NDArray[np.float32]:
    """Resample a mono waveform, unless it has that rate already."""
    if sample_rate_hz == wanted_hz:
        return waveform_N
    sound = Audio(samples_CN=waveform_N[None], sample_rate_hz=sample_rate_hz)
    resampled_N: NDArray[np.float32] = resample(sound, wanted_hz).samples_CN[0]
    return resampled_N


def patch_scores(
    waveform_N: ArrayLike, sample_rate_hz: int, tagger: PatchTagger
) -> NDArray[np.float32] | None:
    """Scores (P, K) of a clip's audible patches; None for a silent clip.

    Args:
        waveform_N: Mono samples at the tagger's rate.
        sample_rate_hz: The tagger's rate; resample before, never after.
        tagger: Scores patches.

    Raises:
        ShapeError: If the waveform is not (N,) with N >= 1.
        UserError: If it holds NaN or infinity, or has another rate.
    """
    if sample_rate_hz != tagger.sample_rate_hz:
        raise UserError(
            f"the tagger takes {tagger.sample_rate_hz} Hz, got {sample_rate_hz}; resample"
        )
    waveform = checked_waveform(waveform_N)
    if is_silent(waveform, sample_rate_hz):
        return None
    waveform = waveform * (_TAGGED_PEAK / np.abs(waveform).max())
    onset_s = strongest_onset_s(waveform, sample_rate_hz)
    start = round(max(0.0, (onset_s or 0.0) - _LEAD_S) * sample_rate_hz)
    hop = tagger.patch_hop_samples
    aligned = np.concatenate([np.zeros(-start % hop), waveform]).astype(np.float32)
    scores_PK, _ = tagger.scores_and_embeddings(aligned)
    energy_P = patch_energy(aligned, len(scores_PK), tagger)
    loud_P = energy_P >= energy_P.max() * 10 ** (-_PATCH_RANGE_DB / 10)
    loud_PK: NDArray[np.float32] = scores_PK[loud_P]
    return loud_PK


def patch_energy(
    waveform_N: NDArray[np.float32], num_patches: int, tagger: PatchTagger
) -> NDArray[np.float64]:
    """Sum of squared samples (P,) in each of the tagger's patches."""
    total = np.concatenate([[0.0], np.cumsum(np.square(waveform_N, dtype=np.float64))])
    starts = np.minimum(np.arange(num_patches) * tagger.patch_hop_samples, len(waveform_N))
    ends = np.minimum(starts + tagger.patch_samples, len(waveform_N))
    energy: NDArray[np.float64] = total[ends] - total[starts]
    return energy


def scorable_classes(real_hits: Mapping[str, Sequence[bool]]) -> tuple[str, ...]:
    """Classes whose real recordings are hit often enough, in the order given.

    Args:
        real_hits: For each class, one hit per real recording; a class without any is left out.
    """
    return tuple(
        name for name, hits in real_hits.items() if len(hits) and np.mean(hits) >= ORACLE_MIN_RATE
    )
