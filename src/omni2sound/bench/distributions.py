"""KL and inception score as av-benchmark counts them.

In:   logits as arrays (N, K).
Out:  numbers; never a network.

All arithmetic is in float64. What not to get wrong: KL is of the reference from the generated,
paired clip by clip, and looks at a softmax over classes that the taggers meant as independent;
the inception score depends on the order of clips, which is shuffled from a fixed seed of the
old NumPy generator. FD is that of `bench.distances`.

Shape suffixes: N clips, K classes.
Source: hkchengrex/av-benchmark, av_bench/metrics; Salimans et al. 2016, arXiv:1606.03498.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from omni2sound.errors import ShapeError

__all__ = ["InceptionScore", "inception_score", "kl_per_clip"]

_SPLITS = 10
_SHUFFLE_SEED = 2020


@dataclass(frozen=True, kw_only=True, slots=True)
class InceptionScore:
    """Mean and standard deviation over ten parts of the clips."""

    mean: float
    std: float


def kl_per_clip(generated_NK: ArrayLike, reference_NK: ArrayLike) -> NDArray[np.float64]:
    """KL(reference || generated) of softmax(logits), (N,); the score is its mean, lower is better.

    Args:
        generated_NK: Logits of generated clips.
        reference_NK: Logits of the same clips' real sounds, in the same order.

    Raises:
        ShapeError: The tables differ in shape, or are empty or not finite.
    """
    generated, reference = _table(generated_NK, least=1), _table(reference_NK, least=1)
    if generated.shape != reference.shape:
        raise ShapeError(
            f"KL pairs clips: shapes {generated.shape} and {reference.shape} must be equal"
        )
    log_generated = log_softmax(generated, axis=1)
    log_reference = log_softmax(reference, axis=1)
    divergence = np.exp(log_reference) * (log_reference - log_generated)
    per_clip: NDArray[np.float64] = divergence.sum(axis=1)
    return per_clip


def inception_score(logits_NK: ArrayLike) -> InceptionScore:
    """exp(mean KL(p || mean p)) of softmax(logits), in ten parts; higher is better.

    Args:
        logits_NK: One row per clip, in the order of their names; at least ten.

    Raises:
        ShapeError: Fewer than ten clips, or not a finite table.
    """
    logits = _table(logits_NK, least=_SPLITS)
    # The old generator on purpose: another order gives another score.
    order = np.random.RandomState(_SHUFFLE_SEED).permutation(len(logits))
    log_p = log_softmax(logits[order], axis=1)
    p = np.exp(log_p)
    count = len(logits)
    scores = []
    for part in range(_SPLITS):
        rows = slice(part * count // _SPLITS, (part + 1) * count // _SPLITS)
        marginal = p[rows].mean(axis=0)
        # A class that no clip of the part has underflows to 0 * log 0, which is 0.
        log_marginal = np.log(marginal, out=np.zeros_like(marginal), where=marginal > 0)
        kl = (p[rows] * (log_p[rows] - log_marginal)).sum(axis=1)
        scores.append(float(np.exp(kl.mean())))
    return InceptionScore(mean=float(np.mean(scores)), std=float(np.std(scores)))


def _table(values: ArrayLike, *, least: int = 2) -> NDArray[np.float64]:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or len(table) < least or not np.isfinite(table).all():
        raise ShapeError(
            f"expected a finite table (N, D) with N >= {least}, got shape {table.shape}"
        )
    return table
