"""The protocol `yamnet-8s-v1`: how far a set of sounds lies from the real ones, for a judge.

In:   a judge; sounds of any length.
Out:  `TaggerFeatures`s, of which `streamed` makes FD, unbiased KID, KL and inception score.

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

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.metrics.tagging import PatchTagger
from omni2sound.bench.stats.bootstrap import bootstrap_mean
from omni2sound.bench.stats.distances import Matrix, kl_divergences
from omni2sound.bench.stats.estimate import Score
from omni2sound.bench.stats.frechet_sets import (
    SetOfSounds,
    TaggerFeatures,
    jackknife_estimate,
    set_values,
)
from omni2sound.errors import ShapeError

__all__ = ["CLIP_S", "MIN_CLIPS_FOR_VERDICT", "as_scores", "distance_scores", "embed_clip"]

CLIP_S = 8.0
MIN_CLIPS_FOR_VERDICT = 500
_LOWEST, _HIGHEST = 1e-6, 1 - 1e-3


def embed_clip(waveform_N: NDArray[np.float32], judge: PatchTagger) -> TaggerFeatures:
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
    return TaggerFeatures(embeddings_PD=embeddings_PD, logits_K=logits_K.astype(np.float32))


def distance_scores(
    real: SetOfSounds, made: SetOfSounds, *, judge_name: str, sets: bool = True
) -> tuple[Score, ...]:
    """All numbers of the protocol.

    Args:
        real: The clips' own sounds.
        made: What a system made for the same clips, in the same order.
        judge_name: Goes into the protocol's name.
        sets: False for the real sounds themselves in any order: KL alone, since the distance of
            a set to itself measures nothing (and the unbiased KID is then biased).

    Raises:
        ShapeError: The sets are not of the same clips.
    """
    values = set_values(real, made) if sets else {}
    kl_N = kl_divergences(real.logits_NK, made.logits_NK)
    return as_scores(values, kl_N, judge_name=judge_name, num_clips=len(kl_N))


def as_scores(
    values: Mapping[str, Matrix], kl_N: Matrix | None, *, judge_name: str, num_clips: int
) -> tuple[Score, ...]:
    """Numbers of the protocol with their intervals.

    Args:
        values: From `set_values`; nothing of the real sounds themselves.
        kl_N: KL of each pair; None where the two of a pair have nothing to do with each other.
        judge_name: Goes into the protocol's name.
        num_clips: How many stand behind them.
    """
    found = {n: jackknife_estimate(float(v[0]), v[1:], num_clips) for n, v in values.items()}
    if kl_N is not None:
        found["KL"] = bootstrap_mean(kl_N)
    return tuple(
        Score(
            protocol=f"{judge_name}-8s-v1",
            name=name,
            direction="higher" if name == "IS" else "lower",
            unit="nat" if name == "KL" else "",
            estimate=found[name],
        )
        for name in ("FD", "KID", "KL", "IS")
        if name in found
    )
