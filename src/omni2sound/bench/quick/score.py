"""Scores of the quick check: sound at the impact, and sound of the right class.

In:   onset times and true times of test scenes; classes found in sounds for prompts; from
      `impacts` and `prompts`.
Out:  a `QuickReport`: rows with 95 % intervals, checks against thresholds, and facts.

Every score stands beside chance and ground truth on the same clips. "Shuffled" is not one random
shuffle but the mean over *all* mismatched pairs, so no luck is involved: a model that always
sounds in mid-clip, or always like a drum, scores there what it scores on its own pairs.

Intervals are over scenes (video) and over classes, then prompts within them (text); those of
mismatched pairs draw the clips on both axes. See `stats.clustered`.

Shape suffixes: N clips.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from omni2sound.bench.metrics.onset import onset_hit
from omni2sound.bench.metrics.onsets import OnsetErrors, onset_errors
from omni2sound.bench.stats.bootstrap import bootstrap_difference, bootstrap_mean
from omni2sound.bench.stats.clustered import Resamples
from omni2sound.bench.stats.estimate import Estimate
from omni2sound.errors import ShapeError

QUICK_CLASSES = (
    "drum",
    "cymbal",
    "guitar",
    "violin",
    "trumpet",
    "flute",
    "dog",
    "duck",
    "rooster",
    "bird",
    "bell",
    "hammer",
    "cowbell",
    "explosion",
)
"""Classes of the quick check. Fixed, so that its scenes, prompts and numbers stay comparable while
the catalogue grows."""

MIN_IMPACT_RATE = 0.5
MIN_IMPACT_GAIN = 0.25
MIN_CLASS_OF_ORACLE = 0.5
MIN_CLASS_OF_SHUFFLED = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One system's score on one task."""

    task: str
    system: str
    rate: Estimate
    errors: OnsetErrors | None = None
    """Errors of onsets; None if the score is a class hit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One criterion. The value decides; its interval shows how certain that is."""

    name: str
    measured: Estimate
    minimum: float

    @property
    def passed(self) -> bool:
        """Whether the value reaches the minimum."""
        return self.measured.value >= self.minimum


@dataclass(frozen=True, kw_only=True, slots=True)
class QuickReport:
    """Rows, checks and facts of the quick check."""

    rows: tuple[Row, ...]
    checks: tuple[Check, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON data; NaN and infinity become None."""
        data = {
            "passed": self.passed,
            "rows": [asdict(row) for row in self.rows],
            "checks": [asdict(check) | {"passed": check.passed} for check in self.checks],
            "facts": dict(self.facts),
        }
        plain: dict[str, Any] = _finite(data)
        return plain


@dataclass(frozen=True, kw_only=True, slots=True)
class ImpactResult:
    """Strongest onsets in N scenes; None for a silent sound.

    Attributes:
        truths_s: Times of the impacts.
        onsets_s: By system, in the order of the table; includes "generated".
    """

    truths_s: Sequence[float]
    onsets_s: Mapping[str, Sequence[float | None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptResult:
    """Classes found in N sounds.

    Attributes:
        class_ids: Class of each prompt.
        found: By system, in the order of the table: for each sound, the classes found in it, or
            None if its tagger does not know the class of the prompt. Includes "generated" and
            "oracle" (real recordings of `class_ids`), both without None.
    """

    class_ids: Sequence[str]
    found: Mapping[str, Sequence[frozenset[str] | None]]


def score_impacts(result: ImpactResult) -> tuple[tuple[Row, ...], tuple[Check, ...]]:
    """Share of strongest onsets within 100 ms of the impact, per system and for mismatched pairs.

    Raises:
        ShapeError: If a system lacks clips, or there are fewer than two.
    """
    rows, hits = [], {}
    for system, onsets_s in result.onsets_s.items():
        _check_lengths(system, onsets_s, result.truths_s)
        hits[system] = np.array(
            [onset_hit(o, t) for o, t in zip(onsets_s, result.truths_s, strict=True)], float
        )
        errors = onset_errors(onsets_s, result.truths_s)
        rows.append(
            Row(task="V2A", system=system, rate=bootstrap_mean(hits[system]), errors=errors)
        )
    hit_NN = np.array(
        [[onset_hit(o, t) for t in result.truths_s] for o in result.onsets_s["generated"]], float
    )
    resamples = Resamples(range(len(hit_NN)))
    shuffled = resamples.mismatched_pairs(hit_NN)
    rows.insert(1, Row(task="V2A", system="generated, shuffled", rate=shuffled))
    if "motion-energy" in hits:
        gain = bootstrap_difference(hits["generated"], hits["motion-energy"])
        rows.append(Row(task="V2A", system="generated minus motion-energy", rate=gain))
    checks = (
        Check(
            name="strongest onset within 100 ms of the impact",
            measured=bootstrap_mean(hits["generated"]),
            minimum=MIN_IMPACT_RATE,
        ),
        Check(
            name="the same, above mismatched pairs",
            measured=resamples.above_mismatched_pairs(hit_NN),
            minimum=MIN_IMPACT_GAIN,
        ),
    )
    return tuple(rows), checks


def score_prompts(result: PromptResult) -> tuple[tuple[Row, ...], tuple[Check, ...]]:
    """Class hit rate per system and for mismatched pairs.

    Raises:
        ShapeError: If a system lacks clips, or there are fewer than two.
    """
    rows, hits = [], {}
    resamples = Resamples(result.class_ids)
    for system, found in result.found.items():
        _check_lengths(system, found, result.class_ids)
        asked = [c for c, f in zip(result.class_ids, found, strict=True) if f is not None]
        hits[system] = np.array([[c in f for c in asked] for f in found if f is not None], float)
        drawn = resamples if len(asked) == len(found) else Resamples(asked)
        rate = drawn.mean(np.diagonal(hits[system]))
        rows.append(Row(task="T2A", system=system, rate=rate))
        if system.startswith(("generated", "oracle")):
            rate = drawn.mismatched_pairs(hits[system])
            rows.append(Row(task="T2A", system=f"{system}, shuffled", rate=rate))
    checks = (
        Check(
            name="class hits, relative to real recordings",
            measured=resamples.ratio(np.diagonal(hits["generated"]), np.diagonal(hits["oracle"])),
            minimum=MIN_CLASS_OF_ORACLE,
        ),
        Check(
            name="class hits, relative to mismatched pairs",
            measured=resamples.over_mismatched_pairs(hits["generated"]),
            minimum=MIN_CLASS_OF_SHUFFLED,
        ),
    )
    return tuple(rows), checks


def _check_lengths(system: str, scored: Sequence[object], truths: Sequence[object]) -> None:
    if len(scored) != len(truths) or len(truths) < 2:
        raise ShapeError(
            f"{system!r} needs one result for each of at least 2 clips, "
            f"got {len(scored)} for {len(truths)}"
        )


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
