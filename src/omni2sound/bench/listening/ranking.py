"""Ranking of systems from comparisons of pairs: Bradley-Terry with intervals.

In:   for each comparison its two systems, listener, clip and outcome.
Out:  `Ranked` systems on Elo's scale, by the lower ends of their 95 % intervals.

Each system also meets a phantom of mean strength in one undecided comparison, so a system that
never lost or never won has a finite strength that grows with its comparisons. What not to get
wrong: intervals resample listeners and clips, and ranks follow the lower ends, so a system that
was compared seldom isn't first by luck.

Shape suffixes: S systems, C comparisons, D resamples.
Source: Bradley and Terry 1952; Hunter 2004, MM algorithms for generalized Bradley-Terry models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.stats.estimate import Estimate
from omni2sound.errors import UserError

_ELO = 400 / np.log(10)
_NUM_RESAMPLES = 500
_MAX_STEPS = 2000
_PRECISION = 1e-7


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One answer."""

    first: str
    second: str
    share: float
    """1 if the first was preferred, 0 if the second, 0.5 for no difference."""
    listener: str
    clip: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranked:
    """One system of a ranking."""

    rank: int
    """1 is best; systems whose lower ends are equal share a rank."""
    system: str
    strength: Estimate
    """On Elo's scale around 0: 100 more are preferred in 64 % of comparisons."""
    wins: float
    """Preferences, no difference counts half."""
    num_comparisons: int


def strengths(wins_SS: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit strengths on Elo's scale, mean 0.

    Args:
        wins_SS: How often the system of a row was preferred to that of a column.
    """
    num = len(wins_SS)
    wins = np.zeros((num + 1, num + 1))  # the last one is the phantom
    wins[:num, :num] = wins_SS
    wins[:num, num] = wins[num, :num] = 0.5
    met, won = wins + wins.T, wins.sum(axis=1)
    log_strength = np.zeros(num + 1)
    for _ in range(_MAX_STEPS):
        strength = np.exp(log_strength)
        new = np.log(won) - np.log((met / (strength[:, None] + strength)).sum(axis=1))
        new -= new[:num].mean()
        moved = np.abs(new - log_strength).max()
        log_strength = new
        if moved < _PRECISION:
            break
    scaled: NDArray[np.float64] = _ELO * log_strength[:num]
    return scaled


def rank(comparisons: Sequence[Comparison], *, seed: int = 0) -> list[Ranked]:
    """Rank systems by the lower ends of their intervals, best first.

    Args:
        comparisons: Answers; at least one.
        seed: Of the resampling.

    Raises:
        UserError: There are no comparisons.
    """
    if not comparisons:
        raise UserError("no comparisons of pairs; expected answers to a kit of kind pairs")
    systems = sorted({name for c in comparisons for name in (c.first, c.second)})
    listeners = sorted({c.listener for c in comparisons})
    clips = sorted({c.clip for c in comparisons})
    first_C = np.array([systems.index(c.first) for c in comparisons])
    second_C = np.array([systems.index(c.second) for c in comparisons])
    share_C = np.array([c.share for c in comparisons])
    who_C = np.array([listeners.index(c.listener) for c in comparisons])
    clip_C = np.array([clips.index(c.clip) for c in comparisons])

    def fitted(times_C: NDArray[np.float64]) -> NDArray[np.float64]:
        wins_SS = np.zeros((len(systems), len(systems)))
        np.add.at(wins_SS, (first_C, second_C), times_C * share_C)
        np.add.at(wins_SS, (second_C, first_C), times_C * (1 - share_C))
        return strengths(wins_SS)

    rng = np.random.default_rng(seed)

    def draw(count: int) -> NDArray[np.float64]:
        drawn: NDArray[np.float64] = np.bincount(
            rng.integers(count, size=count), minlength=count
        ).astype(np.float64)
        return drawn

    value_S = fitted(np.ones(len(comparisons)))
    drawn_DS = np.stack(
        [
            fitted(draw(len(listeners))[who_C] * draw(len(clips))[clip_C])
            for _ in range(_NUM_RESAMPLES)
        ]
    )
    low_S, high_S = np.quantile(drawn_DS, (0.025, 0.975), axis=0)
    low_S, high_S = np.minimum(low_S, value_S), np.maximum(high_S, value_S)
    found = []
    for place in np.lexsort((-value_S, -np.round(low_S, 6))):
        involved_C = (first_C == place) | (second_C == place)
        found.append(
            Ranked(
                rank=1 + int((np.round(low_S, 6) > round(float(low_S[place]), 6)).sum()),
                system=systems[place],
                strength=Estimate(
                    value=float(value_S[place]),
                    low=float(low_S[place]),
                    high=float(high_S[place]),
                    num_clips=len(set(clip_C[involved_C].tolist())),
                ),
                wins=float(
                    share_C[first_C == place].sum() + (1 - share_C[second_C == place]).sum()
                ),
                num_comparisons=int(involved_C.sum()),
            )
        )
    return found
