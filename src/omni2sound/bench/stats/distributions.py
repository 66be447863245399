"""The inception score as av-benchmark counts it.

In:   logits as arrays (N, K).
Out:  numbers; never a network.

All arithmetic is in float64. What not to get wrong: it looks at a softmax over classes that the
taggers meant as independent, and depends on the order of clips, which is shuffled from a fixed
seed of the old NumPy generator. FD and KL are those of `bench.distances`.

Shape suffixes: N clips, K classes.
Source: hkchengrex/av-benchmark, av_bench/metrics; Salimans et al. 2016, arXiv:1606.03498.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from omni2sound.errors import ShapeError

__all__ = ["NUM_SPLITS", "InceptionScore", "inception_score"]

NUM_SPLITS = 10
_SHUFFLE_SEED = 2020


@dataclass(frozen=True, kw_only=True, slots=True)
class InceptionScore:
    """Mean and standard deviation over ten parts of the clips."""

    mean: float
    std: float


def inception_score(logits_NK: ArrayLike) -> InceptionScore:
    """exp(mean KL(p || mean p)) of softmax(logits), in ten parts; higher is better.

    Args:
        logits_NK: One row per clip, in the order of their names; at least ten.

    Raises:
        ShapeError: Fewer than ten clips, or not a finite table.
    """
    logits = _table(logits_NK, least=NUM_SPLITS)
    # The old generator on purpose: another order gives another score.
    order = np.random.RandomState(_SHUFFLE_SEED).permutation(len(logits))
    log_p = log_softmax(logits[order], axis=1)
    p = np.exp(log_p)
    count = len(logits)
    scores = []
    for part in range(NUM_SPLITS):
        rows = slice(part * count // NUM_SPLITS, (part + 1) * count // NUM_SPLITS)
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
