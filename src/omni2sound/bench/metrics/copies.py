"""The protocol `copies-v1`: memorisation, near-copies of training recordings.

In:   training recordings, an audio tagger, sounds at 16 kHz.
Out:  for each sound, two measures of its nearness to the training recordings.

*Nearest*: the mean over the sound's patches of the largest cosine to any patch of any training
recording; embeddings of the tagger, less their mean over the training patches; patches 40 dB
below the sound's loudest are left out. It measures how *similar* each moment is to something
known, and means little alone: compare it with real sounds that were never trained on, and with
sounds made of training recordings.

*Copies of recordings of 0.9 s or more*: share of clips whose sound shares a stretch with a
training recording by fingerprint (`data.corpora.finding.fingerprint`: half a second beyond a
window of 0.37 s; it survives changes of level and a decoder, not of speed). Only clips with an
event of `MIN_SOURCE_S` or more count: in the others a copy could not be found. The rate for sounds
that *are* made of training recordings (the baseline `retrieval`) is below 1 and reported beside it.

Shape suffixes: N samples, P patches, D embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from omni2sound.bench.metrics.scene_v1 import TrueEvent
from omni2sound.bench.metrics.tagging import PatchTagger, at_rate, patch_energy
from omni2sound.bench.stats.bootstrap import bootstrap_mean
from omni2sound.bench.stats.estimate import Score
from omni2sound.data.corpora.finding.fingerprint import SAMPLE_RATE_HZ as PRINT_RATE_HZ
from omni2sound.data.corpora.finding.fingerprint import FingerprintIndex, fingerprint
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets

COPIES_V1 = "copies-v1"
MIN_SOURCE_S = 0.9
"""Window and least overlap of a fingerprint: 0.37 + 0.48 s."""
_RANGE_DB = 40.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Nearness:
    """Nearness of one sound to the training recordings."""

    cosine: float | None
    """None for silence."""
    is_copy: bool | None
    """None for a clip that does not count."""


def copies_asked(events: Iterable[TrueEvent]) -> bool:
    """Whether a copy could be found in a sound of these events."""
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
    """Index of a corpus's training recordings: tagger embeddings and fingerprints."""

    def __init__(self, assets: SceneAssets, tagger: PatchTagger) -> None:
        """Embed and fingerprint every training recording.

        Args:
            assets: Recordings and pictures.
            tagger: Gives embeddings.
        """
        self._tagger = tagger
        embeddings, prints = [], []
        for class_id in assets.catalogue.class_ids:
            for recording in assets.catalogue.recordings_of(class_id, "train"):
                waveform_N = assets.waveform(recording.recording_id)
                prints.append(fingerprint(_for_prints(waveform_N)))
                if (patches_PD := _loud_patches(waveform_N, tagger)) is not None:
                    embeddings.append(patches_PD)
        known_PD = np.concatenate(embeddings)
        self._mean_D = known_PD.mean(axis=0)
        self._known_PD = _unit_rows(known_PD - self._mean_D)
        self._num_recordings = len(prints)
        self._index = FingerprintIndex(prints)

    def nearness(self, waveform_N: NDArray[np.float32], *, ask_copy: bool = True) -> Nearness:
        """Measure one sound at 16 kHz; without `ask_copy` by the first measure only."""
        patches_PD = _loud_patches(waveform_N, self._tagger)
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
    waveform_N: NDArray[np.float32], tagger: PatchTagger
) -> NDArray[np.float32] | None:
    waveform_N = at_rate(waveform_N, SAMPLE_RATE_HZ, tagger.sample_rate_hz)
    _, embeddings_PD = tagger.scores_and_embeddings(waveform_N)
    energy_P = patch_energy(waveform_N, len(embeddings_PD), tagger)
    if energy_P.max() <= 0:
        return None
    loud: NDArray[np.float32] = embeddings_PD[energy_P >= energy_P.max() * 10 ** (-_RANGE_DB / 10)]
    return loud


def _unit_rows(x_PD: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(x_PD, axis=1, keepdims=True)
    unit: NDArray[np.float32] = x_PD / np.maximum(lengths, 1e-9)
    return unit
