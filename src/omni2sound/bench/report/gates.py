"""Acceptance criteria ("gates") of a default model: differences and ratios, with intervals.

In:   a scored run of a model with its controls, on a track with truth.
Out:  `Gate`s, each with its value, 95 % interval, need and verdict.

Two systems of one part are compared on the same clips: each resample draws the clips once for
all that a gate is made of, and gates are arithmetic on whole resamples. Parts are drawn apart.
FD has a delete-group jackknife instead (`stats.frechet_sets`), again of the whole
expression.

Definitions beyond those of `metrics.scene_v1`:

*Median |offset|, impulsive*: over on-screen events whose recording is impulsive (`metrics.onset`).
*Shuffled prompts*: each sound against the classes of all *other* clips (`stats.clustered`).
*In sync, of the oracle's*: the true sound is in sync less often where something unseen masks it,
so the two parts are compared each as a share of its own oracle.
*Way*: (FD of noise - FD) / (FD of noise - FD of real sound of other scenes): 0 for noise with the
right spectrum, 1 for other real sound. No verdict under `MIN_CLIPS_FOR_VERDICT` clips.

A verdict looks at the value; the interval says how sure it is.

Shape suffixes: N clips, R resamples (the first one holds every clip once).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omni2sound.bench.metrics.copies import MIN_SOURCE_S
from omni2sound.bench.metrics.onset import onset_hit
from omni2sound.bench.metrics.onsets import OWN_REACH_S
from omni2sound.bench.metrics.scene_v1 import ClipScore
from omni2sound.bench.metrics.tagger_8s import MIN_CLIPS_FOR_VERDICT
from omni2sound.bench.report.results import ScoredRun
from omni2sound.bench.report.tables import markdown_lines
from omni2sound.bench.scoring.evaluate import ClipRecord, Row
from omni2sound.bench.stats.bootstrap import LEVEL
from omni2sound.bench.stats.clustered import Resamples
from omni2sound.bench.stats.estimate import Estimate
from omni2sound.bench.stats.frechet_sets import jackknife_estimate
from omni2sound.bench.systems.model import many_steps_name, seen_only_name
from omni2sound.bench.systems.system import NOISE, ORACLE, REAL_ELSEWHERE, RECONSTRUCTION, SystemKey
from omni2sound.bench.tracks.scenes import is_impulsive_seen, read_truth
from omni2sound.bench.tracks.track import TASKS, Part, read_track
from omni2sound.errors import UserError

SEEN_ONLY = "seen only"
MANY_STEPS = "many steps"
NUM_RESAMPLES = 4000
Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """One acceptance criterion."""

    name: str
    measured: Estimate
    need: Literal[">=", "<="]
    limit: float
    unit: str = ""
    judged: bool = True
    """False: too few clips for a verdict."""
    control: Estimate | None = None
    """The same of a system that is known to do it; None where there is none."""

    def to_json(self) -> dict[str, Any]:
        """Plain data, with the verdict; null for numbers that are not finite."""
        data: dict[str, Any] = _finite({**asdict(self), "passed": self.passed})
        return data

    @property
    def passed(self) -> bool | None:
        """Whether the value reaches the limit; None without a verdict."""
        if not self.judged:
            return None
        value = self.measured.value
        return value >= self.limit if self.need == ">=" else value <= self.limit


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PartResult:
    """Everything that gates read of one part of a track.

    Attributes:
        sounds: One record a clip for each system: a task for the model's own, `SEEN_ONLY` and
            `MANY_STEPS` for its variants, names for baselines.
        taggers: Names of the first one or two taggers.
        seen_classes: For each of these taggers, each clip's on-screen classes that it knows.
        seen_impulsive: For each clip, for each on-screen event, whether it is impulsive.
        fd: FD by system and the first tagger: of all clips, then without each group.
    """

    sounds: Mapping[str, Sequence[ClipRecord]]
    taggers: Sequence[str]
    seen_classes: Sequence[Sequence[frozenset[str]]]
    seen_impulsive: Sequence[Sequence[bool]]
    fd: Mapping[str, Values]


def gates_of(run: ScoredRun) -> tuple[Gate, ...]:
    """All gates of a scored run; none if it lacks a model or a model's controls.

    Raises:
        UserError: The track is gone, or a system lacks a sound.
    """
    model = run.evaluation.facts.get("model", {}).get("model")
    if model is None or all(s.name != seen_only_name(model) for s in run.systems):
        return ()
    return compute_gates({part: _part_result(run, model, part) for part in ("main", "offscreen")})


def _part_result(run: ScoredRun, model: str, part: Part) -> PartResult:
    track = read_track(run.track).limited(run.limit)
    clips = [c for c in track.clips if c.part == part]
    facts = run.evaluation.facts
    many_steps = facts["model"]["many_steps"]
    keys: dict[str, SystemKey] = {s.name: s.key for s in run.systems if s.is_baseline}
    keys[ORACLE] = (ORACLE, None)
    for task in TASKS if part == "main" else ("VT2A",):
        keys[task] = (model, task)
    if part == "offscreen":
        keys[SEEN_ONLY] = (seen_only_name(model), "VT2A")
    elif many_steps is not None:
        keys[MANY_STEPS] = (many_steps_name(model, many_steps), "VT2A")
    records = {((r.system, r.task), r.clip_id): r for r in run.evaluation.clips}
    sounds: dict[str, list[ClipRecord]] = {}
    for name, key in keys.items():
        if name not in (NOISE, REAL_ELSEWHERE):
            if missing := [c.clip_id for c in clips if (key, c.clip_id) not in records]:
                raise UserError(
                    f"gates compare systems on the same clips; {key[0]} has no sound of "
                    f"{missing[0]} (and {len(missing) - 1} more)"
                )
            sounds[name] = [records[key, c.clip_id] for c in clips]
    taggers = facts["judges"][:2]
    known = [
        frozenset(facts[f"oracle_rates{end}"]) - frozenset(facts[f"classes_left_out{end}"])
        for end, _ in zip(("", "_2nd"), taggers, strict=False)
    ]
    events = [read_truth(track.path(c.truth))[1] for c in clips if c.truth is not None]
    seen = [frozenset(e.class_id for e in clip if e.on_screen) for clip in events]
    rows = {(r.system, r.task): r for r in run.evaluation.rows if _has_fd(r, part, taggers[0])}
    return PartResult(
        sounds=sounds,
        taggers=taggers,
        seen_classes=[[classes & one for classes in seen] for one in known],
        seen_impulsive=[is_impulsive_seen(track, c) for c in clips],
        fd={name: _fd_values(rows[key]) for name, key in keys.items() if key in rows},
    )


def _has_fd(row: Row, part: Part, tagger: str) -> bool:
    return row.part == part and row.protocol == f"{tagger}-8s-v1" and "FD" in row.left_out


def _fd_values(row: Row) -> Values:
    (value,) = (s.estimate.value for s in row.scores if s.name == "FD")
    return np.array([value, *row.left_out["FD"]])


def compute_gates(parts: Mapping[Part, PartResult]) -> tuple[Gate, ...]:
    """All gates that the systems of both parts allow."""
    main, offscreen = _Draws(parts["main"], seed=0), _Draws(parts["offscreen"], seed=1)
    with np.errstate(invalid="ignore"):  # infinity against infinity: such a resample says nothing
        gates = [*_v2a(main), *_t2a(main), *_vt2a(main), *_offscreen(main, offscreen)]
        gates += _distances(main, offscreen)
        gates += _copies(main)
        if MANY_STEPS in main.result.sounds:
            gates += _few_steps(main)
    return tuple(gates)


class _Draws:
    """Measures of one part's systems over all resamples."""

    def __init__(self, result: PartResult, *, seed: int) -> None:
        self.result = result
        self.num_clips = len(result.seen_impulsive)
        rng = np.random.default_rng(seed)
        share = np.full(self.num_clips, 1 / self.num_clips)
        drawn = rng.multinomial(self.num_clips, share, NUM_RESAMPLES - 1)
        self._weights_RN = np.concatenate([np.ones((1, self.num_clips)), drawn])

    def ratio(self, top_N: ArrayLike, bottom_N: ArrayLike) -> Values:
        """Sum of one over sum of the other."""
        top, bottom = np.asarray(top_N, np.float64), np.asarray(bottom_N, np.float64)
        return _divided(self._weights_RN @ top, self._weights_RN @ bottom)

    def mean(self, values_N: Sequence[float | None]) -> Values:
        """Over the clips that have one."""
        return self.ratio([v or 0.0 for v in values_N], [v is not None for v in values_N])

    def f1(self, system: str) -> Values:
        """Onset F1 at 100 ms."""
        scores = self._scores(system)
        return self.ratio([2 * s.pairs for s in scores], [s.num_found + s.num_true for s in scores])

    def in_sync(self, system: str) -> Values:
        """Share of on-screen events in sync."""
        offsets = [s.own_offsets_s for s in self._scores(system)]
        hits = [sum(onset_hit(o, 0.0) for o in clip) for clip in offsets]
        return self.ratio(hits, [len(clip) for clip in offsets])

    def seen(self, system: str, tagger: int) -> Values:
        """Share of on-screen classes heard, by the first (0) or the second tagger (1)."""
        scores = self._scores(system)
        return self.mean([s.seen_heard_2nd if tagger else s.seen_heard for s in scores])

    def unseen(self, system: str) -> Values:
        """Share of off-screen classes heard, by the first tagger."""
        return self.mean([s.unseen_heard for s in self._scores(system)])

    def impulsive_offset_ms(self, system: str) -> Values:
        """Median |offset| of impulsive on-screen events; one without an onset counts 0.5 s."""
        offsets, clips = [], []
        pairs = zip(self._scores(system), self.result.seen_impulsive, strict=True)
        for clip, (score, flags) in enumerate(pairs):
            for offset_s, impulsive in zip(score.own_offsets_s, flags, strict=True):
                if impulsive:
                    far = OWN_REACH_S if offset_s is None else min(abs(offset_s), OWN_REACH_S)
                    offsets.append(1000 * far)
                    clips.append(clip)
        found, times_RE = np.array(offsets), self._weights_RN[:, clips].astype(int)
        medians = [
            np.median(np.repeat(found, times_E)) if times_E.any() else np.nan
            for times_E in times_RE
        ]
        return np.array(medians, np.float64)

    def above_shuffled_prompts(self, system: str, tagger: int) -> Estimate:
        """Share of classes heard, minus that of all other clips' classes."""
        asked = self.result.seen_classes[tagger]
        kept = [i for i, classes in enumerate(asked) if classes]
        sounds, name = self.result.sounds[system], self.result.taggers[tagger]
        heard = [set(sounds[i].heard[name]) for i in kept]
        hits_NN = [[len(h & asked[j]) / len(asked[j]) for j in kept] for h in heard]
        return Resamples(kept, num_resamples=NUM_RESAMPLES).above_mismatched_pairs(hits_NN)

    def estimate(self, values_R: Values) -> Estimate:
        return _estimate(values_R, self.num_clips)

    def _scores(self, system: str) -> list[ClipScore]:
        return [s.stage for s in self.result.sounds[system] if s.stage is not None]


_SUFFIXES = ("", " (2nd tagger)")


def _taggers(draws: _Draws) -> Iterable[tuple[int, str]]:
    """The taggers that know classes of two clips or more, and the endings of their gates' names."""
    known = draws.result.seen_classes
    return [(i, _SUFFIXES[i]) for i, asked in enumerate(known) if sum(map(bool, asked)) >= 2]


def _v2a(main: _Draws) -> list[Gate]:
    f1, estimate = main.f1("V2A"), main.estimate
    gates = [
        _at_least("V2A: onset F1, of the oracle's", estimate(_divided(f1, main.f1("oracle"))), 0.7)
    ]
    gates += [
        _at_least(f"V2A: onset F1 minus {other}", estimate(f1 - main.f1(other)), 0.0)
        for other in ("shuffled", "motion-energy", "motion + retrieval")
    ]
    if any(any(flags) for flags in main.result.seen_impulsive):
        offset = estimate(main.impulsive_offset_ms("V2A"))
        gates.append(_at_most("V2A: median |offset|, impulsive", offset, 40.0, unit="ms"))
    for tagger, name in _taggers(main):
        hits = _divided(main.seen("V2A", tagger), main.seen("oracle", tagger))
        gates.append(_at_least(f"V2A: classes heard, of the oracle's{name}", estimate(hits), 0.65))
    return gates


def _t2a(main: _Draws) -> list[Gate]:
    gates = []
    for tagger, name in _taggers(main):
        hits = main.estimate(_divided(main.seen("T2A", tagger), main.seen("oracle", tagger)))
        gates.append(_at_least(f"T2A: classes heard, of the oracle's{name}", hits, 0.75))
        above = main.above_shuffled_prompts("T2A", tagger)
        gates.append(_at_least(f"T2A: classes heard minus shuffled prompts{name}", above, 0.3))
    return gates


def _vt2a(main: _Draws) -> list[Gate]:
    better = np.maximum(main.f1("V2A"), main.f1("T2A"))
    change = main.estimate(main.f1("VT2A") - better)
    gates = [_at_least("VT2A: onset F1 minus the better of V2A, T2A", change, 0.0)]
    for tagger, name in _taggers(main):
        better = np.maximum(main.seen("V2A", tagger), main.seen("T2A", tagger))
        change = main.estimate(main.seen("VT2A", tagger) - better)
        gates.append(
            _at_least(f"VT2A: classes heard minus the better of V2A, T2A{name}", change, 0.0)
        )
    return gates


def _offscreen(main: _Draws, offscreen: _Draws) -> list[Gate]:
    named, left_out = offscreen.unseen("VT2A"), offscreen.unseen(SEEN_ONLY)
    of_oracle = offscreen.estimate(_divided(named, offscreen.unseen("oracle")))
    times = offscreen.estimate(_divided(named, left_out))
    here = _divided(offscreen.in_sync("VT2A"), offscreen.in_sync("oracle"))
    there = _divided(main.in_sync("VT2A"), main.in_sync("oracle"))
    kept = offscreen.estimate(_divided(here, there))
    return [
        _at_least("off-screen: named and heard, of the oracle's", of_oracle, 0.6),
        _at_least("off-screen: named and heard, times that of not named", times, 3.0),
        _at_least("off-screen: in sync of the oracle's, of the plain track's", kept, 0.9),
    ]


def _distances(main: _Draws, offscreen: _Draws) -> list[Gate]:
    gates, of_reconstruction = [], []
    for draws, task, name in (
        (main, "V2A", "V2A"),
        (main, "T2A", "T2A"),
        (main, "VT2A", "VT2A"),
        (offscreen, "VT2A", "off-screen VT2A"),
    ):
        fd, judged = draws.result.fd, draws.num_clips >= MIN_CLIPS_FOR_VERDICT
        way = _divided(fd[NOISE] - fd[task], fd[NOISE] - fd[REAL_ELSEWHERE])
        gates.append(
            _at_least(f"{name}: FD, way from noise to real", _jack(way, draws), 0.6, judged)
        )
        if RECONSTRUCTION in fd:
            of_reconstruction.append(_jack(_divided(fd[task], fd[RECONSTRUCTION]), draws))
    if of_reconstruction:
        second = sorted(of_reconstruction, key=lambda e: (np.isnan(e.value), e.value))[1]
        gates.append(
            _at_most("FD over the reconstruction's, second best track", second, 2.0, judged)
        )
    return gates


def _copies(main: _Draws) -> list[Gate]:
    def copies(system: str) -> Values:
        near = [sound.nearness for sound in main.result.sounds[system]]
        asked = [None if n is None else n.is_copy for n in near]
        return main.mean([None if c is None else float(c) for c in asked])

    more = main.estimate(copies("VT2A") - copies("oracle"))
    name = f"VT2A: copies of recordings of {MIN_SOURCE_S:g} s or more, minus real test sound's"
    gate = _at_most(name, more, 0.05, judged=bool(np.isfinite(more.value)))
    # Retrieval plays training recordings, mixed: how many copies there are to be found.
    return [replace(gate, control=main.estimate(copies("retrieval")))]


def _few_steps(main: _Draws) -> list[Gate]:
    f1 = main.estimate(_divided(main.f1("VT2A"), main.f1(MANY_STEPS)))
    fd = main.result.fd
    judged = main.num_clips >= MIN_CLIPS_FOR_VERDICT
    distance = _jack(_divided(fd["VT2A"], fd[MANY_STEPS]), main)
    return [
        _at_least("VT2A: onset F1, of many steps'", f1, 0.9),
        _at_most("VT2A: FD, over many steps'", distance, 1.1, judged),
    ]


def _at_least(name: str, measured: Estimate, limit: float, judged: bool = True) -> Gate:
    return Gate(name=name, measured=measured, need=">=", limit=limit, judged=judged)


def _at_most(
    name: str, measured: Estimate, limit: float, judged: bool = True, *, unit: str = ""
) -> Gate:
    return Gate(name=name, measured=measured, need="<=", limit=limit, judged=judged, unit=unit)


def _divided(top: Values, bottom: Values) -> Values:
    """Something by 0 is infinity; 0 by 0 says nothing, is NaN, and so passes no gate."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.divide(top, bottom), np.float64)


def _estimate(values_R: Values, num_clips: int) -> Estimate:
    drawn = values_R[1:][~np.isnan(values_R[1:])]
    if not len(drawn):  # nothing was asked in any resample: no gate passes
        return Estimate(value=np.nan, low=np.nan, high=np.nan, num_clips=num_clips)
    tail = (1 - LEVEL) / 2
    return Estimate(
        value=float(values_R[0]),
        low=float(np.quantile(drawn, tail, method="lower")),
        high=float(np.quantile(drawn, 1 - tail, method="higher")),
        num_clips=num_clips,
    )


def _jack(values: Values, draws: _Draws) -> Estimate:
    return jackknife_estimate(float(values[0]), values[1:], draws.num_clips)


_HEADER = ("verdict", "criterion", "value", "95 % interval", "need")
_VERDICTS = {True: "pass", False: "MISS", None: "none"}


def gate_rows(gates: Sequence[Gate]) -> list[tuple[str, ...]]:
    """Cells of a table: a header, then a row a gate."""
    return [_HEADER, *(_cells(gate) for gate in gates)]


def gates_as_markdown(gates: Sequence[Gate]) -> str:
    """A table, and the numbers of verdicts."""
    return "\n".join(
        ["### gates", "", *markdown_lines(gate_rows(gates)), "", count_verdicts(gates)]
    )


def count_verdicts(gates: Sequence[Gate]) -> str:
    """How many gates passed, missed and had no verdict."""
    passed, missed, open_ = (sum(g.passed is v for g in gates) for v in (True, False, None))
    rest = f"{open_} without a verdict: FD takes {MIN_CLIPS_FOR_VERDICT} clips"
    return f"{passed} gates passed, {missed} missed; {rest if open_ else 'all were judged'}"


def _cells(gate: Gate) -> tuple[str, ...]:
    digits = 1 if gate.unit else 3
    measured = gate.measured
    unit = f" {gate.unit}" if gate.unit else ""
    control = f" (retrieval: {gate.control.value:.{digits}f})" if gate.control else ""
    return (
        _VERDICTS[gate.passed],
        gate.name,
        f"{measured.value:.{digits}f}",
        f"[{measured.low:.{digits}f}, {measured.high:.{digits}f}]",
        f"{gate.need} {gate.limit:g}{unit}{control}",
    )


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    return None if isinstance(data, float) and not np.isfinite(data) else data
