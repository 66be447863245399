"""The protocol `yamnet-8s-v1`: how far a set of sounds lies from the real ones, for a judge.

In:   a judge; pairs of sounds (real, made), any length.
Out:  FD, unbiased KID, KL and inception score with 95 % intervals.

What is fixed: the first 8 s at 16 kHz, zeros appended to a shorter clip; no levels are changed.
FD is of the judge's patch embeddings, all patches of all clips; KID of each clip's mean
embedding (the estimate is unbiased only for independent items, which patches are not). A
clip's logits are log(p / (1 - p)) of the mean score p over patches, p kept within 1e-6 and
1 - 1e-3 (means of logits would leave nothing but "Silence" wherever one patch is silent); KL
is KL(real || made) of their softmax; the inception score is over all clips at once. FD, KID and
the inception score have delete-group jackknife intervals (whole clips, pairs together), KL a
bootstrap over clips.

FD depends on the number of clips: compare only at equal numbers, beside the distance of real
from other real sounds, and take no verdict from less than `MIN_CLIPS_FOR_VERDICT`.

Another judge gives other numbers under another name: `TAGGER-8s-v1` for a judge "TAGGER".

Shape suffixes: N samples or clips, P patches, D embedding, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.distances import (
    frechet_distance,
    inception_score,
    jackknife,
    kernel_distance,
    kl_divergences,
)
from omni2sound.bench.metrics import bootstrap_mean
from omni2sound.bench.protocols import Judge
from omni2sound.bench.stage_v1 import Score
from omni2sound.errors import ShapeError

__all__ = ["CLIP_S", "MIN_CLIPS_FOR_VERDICT", "JudgedClip", "distance_scores", "judge_clip"]

CLIP_S = 8.0
MIN_CLIPS_FOR_VERDICT = 500
_LOWEST, _HIGHEST = 1e-6, 1 - 1e-3


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class JudgedClip:
    """What the judge makes of 8 s."""

    embeddings_PD: NDArray[np.float32]
    logits_K: NDArray[np.float32]


def judge_clip(waveform_N: NDArray[np.float32], judge: Judge) -> JudgedClip:
    """The judge's view of one clip.

    Args:
        waveform_N: Mono, at the judge's rate.
        judge: Scores patches.

    Raises:
        ShapeError: If the waveform is not (N,).
    """
    if waveform_N.ndim != 1:
        raise ShapeError(f"waveform must be mono (N,), got {waveform_N.shape}")
    num_samples = round(CLIP_S * judge.sample_rate_hz)
    clip_N = np.zeros(num_samples, np.float32)
    clip_N[: len(waveform_N)] = waveform_N[:num_samples]
    scores_PK, embeddings_PD = judge.scores_and_embeddings(clip_N)
    mean_K = np.clip(scores_PK.mean(axis=0, dtype=np.float64), _LOWEST, _HIGHEST)
    logits_K = np.log(mean_K) - np.log1p(-mean_K)
    return JudgedClip(embeddings_PD=embeddings_PD, logits_K=logits_K.astype(np.float32))


def distance_scores(
    real: Sequence[JudgedClip],
    made: Sequence[JudgedClip],
    *,
    judge_name: str = "yamnet",
    sets: bool = True,
) -> tuple[Score, ...]:
    """All numbers of the protocol.

    Args:
        real: The clips' own sounds.
        made: What a system made for the same clips, in the same order.
        judge_name: Goes into the protocol's name.
        sets: False for the real sounds themselves in any order: KL alone, since the distance of
            a set to itself measures nothing (and the unbiased KID is then biased).

    Raises:
        ShapeError: If the numbers differ or there are fewer than four clips.
    """
    if len(real) != len(made):
        raise ShapeError(f"one sound per real one, got {len(made)} for {len(real)}")

    def patches(clips: Sequence[JudgedClip], at: NDArray[np.intp]) -> NDArray[np.float32]:
        return np.concatenate([clips[i].embeddings_PD for i in at])

    def means(clips: Sequence[JudgedClip], at: NDArray[np.intp]) -> NDArray[np.float64]:
        return np.stack([clips[i].embeddings_PD.mean(axis=0, dtype=np.float64) for i in at])

    logits_real = np.stack([c.logits_K for c in real])
    logits_made = np.stack([c.logits_K for c in made])
    n = len(real)
    protocol = f"{judge_name}-8s-v1"
    divergence = bootstrap_mean(kl_divergences(logits_real, logits_made))
    kl = Score(protocol=protocol, name="KL", direction="lower", unit="nat", estimate=divergence)
    if not sets:
        return (kl,)
    fd = jackknife(n, lambda at: frechet_distance(patches(real, at), patches(made, at)))
    kid = jackknife(n, lambda at: kernel_distance(means(real, at), means(made, at)))
    isc = jackknife(n, lambda at: inception_score(logits_made[at]))
    return (
        Score(protocol=protocol, name="FD", direction="lower", unit="", estimate=fd),
        Score(protocol=protocol, name="KID", direction="lower", unit="", estimate=kid),
        kl,
        Score(protocol=protocol, name="IS", direction="higher", unit="", estimate=isc),
    )
