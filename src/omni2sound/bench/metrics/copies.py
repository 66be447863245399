"""The protocol `copies-v1`: is a sound a copy of something that a model was trained on?

In:   training recordings, a judge, sounds at 16 kHz.
Out:  for each sound, how near it comes to the training recordings, by two measures.

*Nearest*: the mean over the sound's patches of the largest cosine to any patch of any training
recording; embeddings of the judge, less their mean over the training patches; patches 40 dB
below the sound's loudest are left out. It says how *like* something known each moment is, and
means little alone: it stands beside that of real sounds that were never trained on, and of sounds
that are made of training recordings.

*Copies of recordings of 0.9 s or more*: share of clips whose sound shares a stretch with a
training recording, bit by bit (`data.fingerprint`: half a second beyond a window of 0.37 s; one
that was played faster or slower is not found). Changes of level, and a decoder, are survived.
Asked only of clips with an event that sounds for `MIN_SOURCE_S`: in the others a copy could not
be found. What is found of sounds that *are* made of training recordings (the baseline
`retrieval`) is told beside, for it is less than all.

Shape suffixes: N samples, P patches, D embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from omni2sound.bench.metrics.scene_v1 import TrueEvent
from omni2sound.bench.metrics.tagging import PatchTagger, patch_energy
from omni2sound.bench.stats.bootstrap import bootstrap_mean
from omni2sound.bench.stats.estimate import Score
from omni2sound.data.corpora.fingerprint import SAMPLE_RATE_HZ as PRINT_RATE_HZ
from omni2sound.data.corpora.fingerprint import FingerprintIndex, fingerprint
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets

__all__ = [
    "COPIES_V1",
    "MIN_SOURCE_S",
    "Nearness",
    "TrainingSounds",
    "copies_asked",
    "copies_scores",
]

COPIES_V1 = "copies-v1"
MIN_SOURCE_S = 0.9
"""Window and least overlap of a fingerprint: 0.37 + 0.48 s."""
_RANGE_DB = 40.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Nearness:
    """How near one sound comes to the training recordings."""

    cosine: float | None
    """None for silence."""
    is_copy: bool | None
    """None where it was not asked."""


def copies_asked(events: Iterable[TrueEvent]) -> bool:
    """Whether a copy could be found in a sound for these events."""
    return any(event.offset_s - event.onset_s >= MIN_SOURCE_S for event in events)


def copies_scores(near: Sequence[Nearness]) -> tuple[Score, ...]:
    """Scores of the protocol over the clips of one part, those that nothing asks left out."""
    measured = [
        ("nearest in training", [n.cosine for n in near if n.cosine is not None]),
        (
            f"copies of recordings of {MIN_SOURCE_S:g} s or more",
            [float(n.is_copy) for n in near if n.is_copy is not None],
        ),
    ]
    return tuple(
        Score(
            protocol=COPIES_V1,
            name=name,
            direction="lower",
            unit="",
            estimate=bootstrap_mean(values),
        )
        for name, values in measured
        if values
    )


class TrainingSounds:
    """All training recordings of a corpus, as a judge hears them and as fingerprints."""

    def __init__(self, assets: SceneAssets, judge: PatchTagger) -> None:
        """Listens to every one of them.

        Args:
            assets: The corpus.
            judge: At 16 kHz.
        """
        self._judge = judge
        embeddings, prints = [], []
        for class_id in assets.catalogue.class_ids:
            for recording in assets.catalogue.recordings_of(class_id, "train"):
                waveform_N = assets.waveform(recording.recording_id)
                prints.append(fingerprint(_for_prints(waveform_N)))
                if (patches_PD := _loud_patches(waveform_N, judge)) is not None:
                    embeddings.append(patches_PD)
        known_PD = np.concatenate(embeddings)
        self._mean_D = known_PD.mean(axis=0)
        self._known_PD = _unit_rows(known_PD - self._mean_D)
        self._num_recordings = len(prints)
        self._index = FingerprintIndex(prints)

    def nearness(self, waveform_N: NDArray[np.float32], *, ask_copy: bool = True) -> Nearness:
        """Of one sound; without `ask_copy` only by the first measure."""
        patches_PD = _loud_patches(waveform_N, self._judge)
        if patches_PD is None:
            return Nearness(cosine=None, is_copy=False if ask_copy else None)
        cosines = _unit_rows(patches_PD - self._mean_D) @ self._known_PD.T
        is_copy = self._is_copy(waveform_N) if ask_copy else None
        return Nearness(cosine=float(cosines.max(axis=1).mean()), is_copy=is_copy)

    def _is_copy(self, waveform_N: NDArray[np.float32]) -> bool:
        print_ = fingerprint(_for_prints(waveform_N))
        return any(True for _ in self._index.matches([(self._num_recordings, print_)]))


def _for_prints(waveform_N: NDArray[np.float32]) -> NDArray[np.float32]:
    resampled: NDArray[np.float32] = soxr.resample(waveform_N, SAMPLE_RATE_HZ, PRINT_RATE_HZ)
    return resampled.astype(np.float32)


def _loud_patches(
    waveform_N: NDArray[np.float32], judge: PatchTagger
) -> NDArray[np.float32] | None:
    _, embeddings_PD = judge.scores_and_embeddings(waveform_N)
    energy_P = patch_energy(waveform_N, len(embeddings_PD), judge)
    if energy_P.max() <= 0:
        return None
    loud: NDArray[np.float32] = embeddings_PD[energy_P >= energy_P.max() * 10 ** (-_RANGE_DB / 10)]
    return loud


def _unit_rows(x_PD: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(x_PD, axis=1, keepdims=True)
    unit: NDArray[np.float32] = x_PD / np.maximum(lengths, 1e-9)
    return unit
