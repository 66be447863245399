"""Paired comparison of two systems on the clips that both have.

In:   two scored runs on one track.
Out:  a `Difference` for each score: A - B, its 95 % interval, a p-value.

Means (KL, false positives, classes found) and ratios of sums (onset F1, in sync): bootstrap over
clips, both systems resampled together; p by swapping the two systems' results clip by clip
(10,000 random swaps; two-sided, and never 0). FD, KID, IS: delete-group jackknife of the
difference, and p of Student's t. The p-values of one comparison are corrected
together (Holm): one in twenty of many scores differs by chance.

What not to get wrong: the difference of two published intervals is wider than that of the same
clips paired; and below 500 clips FD and KID give no verdict.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from omni2sound.bench.metrics.clip_metric import known_metrics
from omni2sound.bench.metrics.onset import onset_hit
from omni2sound.bench.metrics.scene_v1 import STAGE_V1, ClipScore
from omni2sound.bench.metrics.tagger_8s import MIN_CLIPS_FOR_VERDICT
from omni2sound.bench.report.results import ScoredRun
from omni2sound.bench.scoring.evaluate import MIN_CLIPS, ClipRecord
from omni2sound.bench.scoring.options import ScoringOptions
from omni2sound.bench.scoring.sounds import TaggedSound, iter_features, tag_sounds
from omni2sound.bench.stats.estimate import Direction, Estimate
from omni2sound.bench.stats.frechet_sets import (
    SetOfSounds,
    groups_of,
    jackknife_groups,
    statistics_of,
)
from omni2sound.bench.systems.system import System, real_sounds
from omni2sound.bench.tracks.track import Track, read_track
from omni2sound.errors import UserError
from omni2sound.generate.request import Task

_log = logging.getLogger(__name__)

NUM_SWAPS = 10_000
NUM_RESAMPLES = 10_000
LEVEL = 0.05
_CHUNK_DRAWS = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Difference of one score, A - B."""

    part: str
    protocol: str
    name: str
    direction: Direction
    a: float
    b: float
    difference: Estimate
    p: float
    p_holm: float
    """Corrected for all scores of the comparison."""
    verdict: str
    """"A", "B", or why there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """All differences between two systems."""

    a: str
    b: str
    differences: tuple[Difference, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    """Clips that only one system has; no score here uses them."""


def choose_system(run: ScoredRun, task: Task | None, name: str | None = None) -> System:
    """Choose the only model of a run, or the one with the given task and name.

    Raises:
        UserError: No system fits, or several do.
    """
    found = [
        s
        for s in run.systems
        if not s.distances_only
        and (s.name == name if name is not None else not (s.is_baseline or s.is_variant))
        and (task is None or s.task in (task, None))
    ]
    if len(found) != 1:
        there = ", ".join(f"{s.name} {s.task or ''}".strip() for s in run.systems)
        raise UserError(
            f"{run.folder}: expected one system, found {len(found)}; choose `task` and `system` "
            f"among: {there}"
        )
    return found[0]


def compare_runs(
    run_a: ScoredRun,
    system_a: System,
    run_b: ScoredRun,
    system_b: System,
    options: ScoringOptions,
) -> Comparison:
    """Compare two systems.

    Args:
        run_a: Run in which A was scored.
        system_a: System of that run.
        run_b: Run in which B was scored.
        system_b: System of that run.
        options: Taggers, cache, engine; cached features are reused.

    Raises:
        UserError: The runs use different tracks, or share fewer than four clips.
    """
    track = read_track(run_a.track)
    other = read_track(run_b.track)
    if (track.clips_sha256, track.media_sha256) != (other.clips_sha256, other.media_sha256):
        raise UserError(
            f"{run_a.folder} and {run_b.folder} are of different tracks "
            f"({track.info.name} {track.clips_sha256[:12]}, {other.info.name} "
            f"{other.clips_sha256[:12]}, or other copies of its media); score both on one"
        )
    ids = [
        c.clip_id
        for c in track.clips
        if c.clip_id in system_a.sounds and c.clip_id in system_b.sounds
    ]
    if len(ids) < MIN_CLIPS:
        raise UserError(f"the two systems share {len(ids)} clips; {MIN_CLIPS} are the least")
    found = [
        *_paired_scores(track, ids, run_a, system_a, run_b, system_b),
        *_set_scores(track, ids, system_a, system_b, options),
    ]
    corrected = holm([d.p for d in found])
    differences = [
        _with_verdict(replace(d, p_holm=p)) for d, p in zip(found, corrected, strict=True)
    ]
    return Comparison(
        a=system_a.title,
        b=system_b.title,
        differences=tuple(differences),
        only_a=tuple(i for i in system_a.sounds if i not in system_b.sounds),
        only_b=tuple(i for i in system_b.sounds if i not in system_a.sounds),
    )


def _with_verdict(d: Difference) -> Difference:
    needs = MIN_CLIPS_FOR_VERDICT if d.name in ("FD", "KID") else 0
    if d.difference.num_clips < needs:
        return replace(d, verdict=f"none under {needs} clips")
    if not d.p_holm < LEVEL:
        return replace(d, verdict="no difference shown")
    a_higher = d.difference.value > 0
    return replace(d, verdict="A" if a_higher == (d.direction == "higher") else "B")


# --- scores that are sums over clips ----------------------------------------------------

Fraction = Callable[[ClipRecord], tuple[float, float] | None]
"""A clip's numerator and denominator; None if the score does not apply to it."""


def _stage(top: Callable[[ClipScore], float], bottom: Callable[[ClipScore], float]) -> Fraction:
    return lambda r: None if r.stage is None else (top(r.stage), bottom(r.stage))


def _optional(name: str) -> Fraction:
    def one(record: ClipRecord) -> tuple[float, float] | None:
        value = None if record.stage is None else getattr(record.stage, name)
        return None if value is None else (float(value), 1.0)

    return one


def _kl_of(tagger: str) -> Fraction:
    return lambda record: (record.kl[tagger], 1.0)


def _num_onsets(score: ClipScore) -> float:
    return score.num_found + score.num_true


def _num_in_sync(score: ClipScore) -> float:
    return sum(onset_hit(s, 0.0) for s in score.own_offsets_s)


_STAGE_SCORES: dict[str, tuple[Direction, Fraction]] = {
    "onset F1 50 ms": ("higher", _stage(lambda s: 2 * s.pairs_close, _num_onsets)),
    "onset F1 100 ms": ("higher", _stage(lambda s: 2 * s.pairs, _num_onsets)),
    "in sync": ("higher", _stage(_num_in_sync, lambda s: len(s.own_offsets_s))),
    "invented": ("lower", _stage(lambda s: s.num_invented, lambda s: 1)),
    "seen heard": ("higher", _optional("seen_heard")),
    "seen heard (2nd)": ("higher", _optional("seen_heard_2nd")),
    "unseen heard": ("higher", _optional("unseen_heard")),
    "unseen heard (2nd)": ("higher", _optional("unseen_heard_2nd")),
    "speech": ("lower", _optional("speech")),
    "music": ("lower", _optional("music")),
}


def _paired_scores(
    track: Track,
    ids: Sequence[str],
    run_a: ScoredRun,
    system_a: System,
    run_b: ScoredRun,
    system_b: System,
) -> list[Difference]:
    a, b = _records(run_a, system_a), _records(run_b, system_b)
    unlike = _unlike_networks(run_a, run_b)
    if unlike:
        _log.warning("left out, since other weights scored each run: %s", ", ".join(unlike))
    found = []
    for part in track.parts:
        here = [i for i in ids if i in a and i in b and a[i].part == part]
        scores: list[tuple[str, str, Direction, Fraction]] = []
        scores += [(STAGE_V1, name, *score) for name, score in _STAGE_SCORES.items()]
        taggers = sorted({t for i in here for t in a[i].kl.keys() & b[i].kl.keys()})
        scores += [(f"{t}-8s-v1", "KL", "lower", _kl_of(t)) for t in taggers]
        plugins = _plugin_scores([r for i in here for r in (a[i], b[i])])
        scores += [score for score in plugins if score[0] not in unlike]
        for protocol, name, direction, fraction in scores:
            difference = _difference(here, a, b, fraction, (part, protocol, name, direction))
            found += [] if difference is None else [difference]
    return found


def _unlike_networks(run_a: ScoredRun, run_b: ScoredRun) -> list[str]:
    """List protocols of clip networks whose numbers are on another scale in each run."""
    a, b = (run.evaluation.facts.get("clip_networks", {}) for run in (run_a, run_b))
    return sorted(f"{n.replace('_', '-')}-v1" for n in a.keys() & b.keys() if a[n] != b[n])


def _plugin_scores(
    records: Sequence[ClipRecord],
) -> list[tuple[str, str, Direction, Fraction]]:
    """The metrics of single clips in the records; those of absent plugins are reported."""
    names = sorted({name for r in records for name in r.metrics})
    metrics = known_metrics()
    if gone := [name for name in names if name not in metrics]:
        _log.warning("left out, since their plugins are not loaded: %s", ", ".join(gone))
    known = [(name, metrics[name]) for name in names if name in metrics]
    return [(m.protocol, name, m.direction, _metric(name)) for name, m in known]


def _metric(name: str) -> Fraction:
    return lambda r: (r.metrics[name], 1.0) if name in r.metrics else None


def _records(run: ScoredRun, system: System) -> dict[str, ClipRecord]:
    return {r.clip_id: r for r in run.evaluation.clips if (r.system, r.task) == system.key}


def _difference(
    ids: Sequence[str],
    a: dict[str, ClipRecord],
    b: dict[str, ClipRecord],
    fraction: Fraction,
    what: tuple[str, str, str, Direction],
) -> Difference | None:
    pairs = [(x, y) for i in ids if (x := fraction(a[i])) and (y := fraction(b[i]))]
    if len(pairs) < MIN_CLIPS:
        return None
    table = np.array(pairs, np.float64)  # (N, 2 systems, numerator and denominator)
    if not (table[:, :, 1].sum(axis=0) > 0).all():
        return None
    part, protocol, name, direction = what
    value_a, value_b = (float(v) for v in _ratios(table[None])[0])
    low, high = _bootstrap(table)
    return Difference(
        part=part,
        protocol=protocol,
        name=name,
        direction=direction,
        a=value_a,
        b=value_b,
        difference=Estimate(value=value_a - value_b, low=low, high=high, num_clips=len(pairs)),
        p=swap_test(table),
        p_holm=1.0,
        verdict="",
    )


def _ratios(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ratios of sums over clips (R, 2) for each of R tables."""
    sums = tables.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios: NDArray[np.float64] = sums[:, :, 0] / sums[:, :, 1]
    return ratios


def _bootstrap(table: NDArray[np.float64]) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    drawn = []
    for count in _chunks(NUM_RESAMPLES, len(table)):
        at = rng.integers(len(table), size=(count, len(table)))
        ratios = _ratios(table[at])
        drawn.append(ratios[:, 0] - ratios[:, 1])
    values = np.concatenate(drawn)
    values = values[np.isfinite(values)]
    return float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))


def _chunks(total: int, num_clips: int) -> list[int]:
    """Split `total` draws into chunks that fit in memory."""
    size = max(1, min(total, _CHUNK_DRAWS // num_clips))
    return [size] * (total // size) + ([total % size] if total % size else [])


def swap_test(table_N22: NDArray[np.float64]) -> float:
    """Two-sided p-value for equal systems: share of random swaps that differ as much as the data.

    Args:
        table_N22: Clips by systems by (numerator, denominator).
    """
    observed = abs(float(np.diff(_ratios(table_N22[None])[0])[0]))
    rng = np.random.default_rng(0)
    as_far = 0
    for count in _chunks(NUM_SWAPS, len(table_N22)):
        swap = rng.random((count, len(table_N22))) < 0.5
        swapped = np.where(swap[:, :, None, None], table_N22[None, :, ::-1], table_N22[None])
        apart = np.abs(np.diff(_ratios(swapped), axis=1)[:, 0])
        # Swaps that equal the data up to rounding count, and so do those without a ratio.
        as_far += int((~(apart < observed - 1e-12)).sum())
    return (1 + as_far) / (1 + NUM_SWAPS)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values by Holm: the chance of any false verdict stays below the level."""
    order = np.argsort(p_values, kind="stable")
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = largest
    return corrected


# --- scores of whole sets ---------------------------------------------------------------


def _set_scores(
    track: Track, ids: Sequence[str], system_a: System, system_b: System, options: ScoringOptions
) -> list[Difference]:
    if system_a.is_real or system_b.is_real:
        return []  # a set of real sounds has no distance to itself
    clips = {c.clip_id: c for c in track.clips}
    parts = [(p, [i for i in ids if clips[i].part == p]) for p in track.parts]
    real = real_sounds(track)
    wanted = [(clips[i], s[i]) for s in (real, system_a.sounds, system_b.sounds) for i in ids]
    tagged = tag_sounds(track, wanted, options)
    count = len(ids)
    by_id = [dict(zip(ids, tagged[k * count : (k + 1) * count], strict=True)) for k in range(3)]
    found = []
    for tagger in options.taggers:
        for part, here in parts:
            if len(here) >= MIN_CLIPS:
                found += _set_differences(by_id, here, tagger, part)
    return found


def _set_differences(
    by_id: Sequence[dict[str, TaggedSound]], ids: Sequence[str], tagger: str, part: str
) -> list[Difference]:
    group_N = groups_of(len(ids))
    real, a, b = (
        SetOfSounds(iter_features((tagged[i] for i in ids), tagger), group_N) for tagged in by_id
    )
    of_a, of_b = statistics_of(real, a), statistics_of(real, b)
    found = []
    for name in of_a:
        values: dict[int | None, tuple[float, float]] = {}

        def apart(
            group: int | None,
            name: str = name,
            values: dict[int | None, tuple[float, float]] = values,
        ) -> float:
            values[group] = (of_a[name](group), of_b[name](group))
            return values[group][0] - values[group][1]

        difference = jackknife_groups(apart, real.num_groups, len(ids))
        freedom = real.num_groups - 1
        half = (difference.high - difference.low) / 2
        t = abs(difference.value) / half * student_t.ppf(0.975, freedom) if half > 0 else 0.0
        found.append(
            Difference(
                part=part,
                protocol=f"{tagger}-8s-v1",
                name=name,
                direction="higher" if name == "IS" else "lower",
                a=values[None][0],
                b=values[None][1],
                difference=difference,
                p=float(2 * student_t.sf(t, freedom)),
                p_holm=1.0,
                verdict="",
            )
        )
    return found


def comparison_as_markdown(comparison: Comparison) -> str:
    """Format as a Markdown table, with the clips that only one system has."""
    lines = [
        f"A: {comparison.a}; B: {comparison.b}",
        "",
        "| part | score | A | B | A - B | 95 % | clips | p | p (Holm) | better |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for d in comparison.differences:
        e = d.difference
        arrow = "↑" if d.direction == "higher" else "↓"
        lines.append(
            f"| {d.part} | {d.protocol} {d.name} {arrow} | {d.a:.4g} | {d.b:.4g} | {e.value:+.4g} "
            f"| [{e.low:.4g}, {e.high:.4g}] | {e.num_clips} | {d.p:.4f} | {d.p_holm:.4f} "
            f"| {d.verdict} |"
        )
    for name, clips in (("A", comparison.only_a), ("B", comparison.only_b)):
        if clips:
            lines += ["", f"Only {name} has: {', '.join(clips)}"]
    return "\n".join(lines)
