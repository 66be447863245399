"""The protocol `yamnet-8s-v1`: how far a set of sounds lies from the real ones, by a tagger.

In:   an audio tagger; sounds of any length.
Out:  `TaggerFeatures`; FD, unbiased KID, KL and inception score (`stats.frechet_sets`).

Definition: the first 8 s at 16 kHz, zeros appended to a shorter clip; levels are not changed.
FD uses the tagger's patch embeddings, all patches of all clips; KID each clip's mean
embedding (the estimate is unbiased only for independent items, which patches are not). A
clip's logits are log(p / (1 - p)) of the mean score p over patches, p kept within 1e-6 and
1 - 1e-3 (means of logits would leave nothing but "Silence" wherever one patch is silent); KL
is KL(real || generated) of their softmax; the inception score is over all clips at once. FD, KID
and the inception score have delete-group jackknife intervals (whole clips, pairs together), KL a
bootstrap over clips.

FD depends on the number of clips: compare only at equal numbers, beside the distance of real
from other real sounds, and draw no conclusion below `MIN_CLIPS_FOR_VERDICT` clips.

Another tagger gives other numbers under another name: `NAME-8s-v1` for a tagger called NAME.

Shape suffixes: N samples or clips, P patches, D embedding, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.metrics.tagging import PatchTagger
from omni2sound.bench.stats.bootstrap import bootstrap_mean
from omni2sound.bench.stats.distances import Matrix
from omni2sound.bench.stats.estimate import Score
from omni2sound.bench.stats.frechet_sets import (
    TaggerFeatures,
    jackknife_estimate,
)
from omni2sound.errors import ShapeError

CLIP_S = 8.0
MIN_CLIPS_FOR_VERDICT = 500
_LOWEST, _HIGHEST = 1e-6, 1 - 1e-3


def embed_clip(waveform_N: NDArray[np.float32], tagger: PatchTagger) -> TaggerFeatures:
    """Compute a tagger's features of one clip.

    Args:
        waveform_N: Mono samples at the tagger's rate.
        tagger: Scores patches.

    Raises:
        ShapeError: If the waveform is not (N,).
    """
    if waveform_N.ndim != 1:
        raise ShapeError(f"waveform must be mono (N,), got {waveform_N.shape}")
    num_samples = round(CLIP_S * tagger.sample_rate_hz)
    clip_N = np.zeros(num_samples, np.float32)
    clip_N[: len(waveform_N)] = waveform_N[:num_samples]
    scores_PK, embeddings_PD = tagger.scores_and_embeddings(clip_N)
    mean_K = np.clip(scores_PK.mean(axis=0, dtype=np.float64), _LOWEST, _HIGHEST)
    logits_K = np.log(mean_K) - np.log1p(-mean_K)
    return TaggerFeatures(embeddings_PD=embeddings_PD, logits_K=logits_K.astype(np.float32))


def as_scores(
    values: Mapping[str, Matrix], kl_N: Matrix | None, *, tagger_name: str, num_clips: int
) -> tuple[Score, ...]:
    """Scores of the protocol from values with and without each group.

    Args:
        values: Result of `set_values`; empty for the real sounds themselves.
        kl_N: KL of each pair; None if the two sounds of a pair belong to different clips.
        tagger_name: First part of the protocol's name.
        num_clips: Number of clips.
    """
    found = {n: jackknife_estimate(float(v[0]), v[1:], num_clips) for n, v in values.items()}
    if kl_N is not None:
        found["KL"] = bootstrap_mean(kl_N)
    return tuple(
        Score(
            protocol=f"{tagger_name}-8s-v1",
            name=name,
            direction="higher" if name == "IS" else "lower",
            unit="nat" if name == "KL" else "",
            estimate=found[name],
        )
        for name in ("FD", "KID", "KL", "IS")
        if name in found
    )
