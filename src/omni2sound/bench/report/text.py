"""Results as text for a terminal.

In:   a `QuickReport`, a `StageReport`; or scores of avbench-8s-v1 and what was left out.
Out:  one table of scores, one list of checks or of what is missing; plain characters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from omni2sound.bench.metrics.avbench.scores import PROTOCOL
from omni2sound.bench.metrics.onsets import OnsetErrors
from omni2sound.bench.metrics.tagger_8s import MIN_CLIPS_FOR_VERDICT
from omni2sound.bench.metrics.tagging import RealTags
from omni2sound.bench.quick.score import Check, QuickReport, Row
from omni2sound.bench.stage_table.gates import Gate
from omni2sound.bench.stage_table.run import StageReport, SystemScores
from omni2sound.bench.stats.estimate import Estimate, Score

__all__ = ["as_text", "avbench_as_text", "judges_as_text", "stage_as_text"]

SAME_SETS_NOTE = (
    "oracle and shuffled are the real set itself: no FD, KID, IS; the floor is: real, other scenes"
)
_HEADER = ("task", "system", "hit rate", "95 % interval", "clips", "median |error|", "silent")


def as_text(report: QuickReport) -> str:
    """The whole report."""
    lines = _table([_HEADER, *(_row_cells(row) for row in report.rows)])
    lines += ["", *(_check_line(check) for check in report.checks)]
    left_out = report.facts.get("classes_left_out") or ()
    rates = report.facts.get("oracle_rates", {})
    if left_out:
        told = ", ".join(f"{name} ({rates[name]:.2f})" for name in left_out)
        lines += ["", f"not scored, since real recordings are hit too rarely: {told}"]
    if left_out_2nd := report.facts.get("classes_left_out_2nd") or ():
        rates_2nd = report.facts["oracle_rates_2nd"]
        told = ", ".join(f"{name} ({rates_2nd[name]:.2f})" for name in left_out_2nd)
        lines += ["", f"not scored by the second judge, for the same reason: {told}"]
    return "\n".join(lines)


def avbench_as_text(
    scores: Sequence[Score],
    *,
    dropped: Mapping[str, Mapping[str, Mapping[str, str]]],
    missing: Mapping[str, str],
) -> str:
    """The table of a protocol.

    Args:
        scores: Its rows.
        dropped: "generated", "reference" or "videos", then judge, clip and reason.
        missing: Judges that were not at hand, and why.
    """
    header = ("score", "value", "95 % interval", "better", "clips")
    lines = [PROTOCOL, *_table([header, *(_av_cells(score) for score in scores)])]
    lines += ["", *(f"no {judge}: {reason}" for judge, reason in missing.items())]
    for kind, judges in dropped.items():
        for judge, clips in judges.items():
            told = "; ".join(f"{name}: {reason}" for name, reason in list(clips.items())[:3])
            more = f"; and {len(clips) - 3} more" if len(clips) > 3 else ""
            lines.append(f"{kind}, {judge}: {len(clips)} left out ({told}{more})")
    return "\n".join(lines).rstrip()


def _av_cells(score: Score) -> tuple[str, ...]:
    e = score.estimate
    interval = f"[{e.low:.4f}, {e.high:.4f}]"
    return (score.name, f"{e.value:.4f}", interval, score.direction, str(e.num_clips))


def stage_as_text(report: StageReport) -> str:
    """One table a track and judge, then the gates; ± is half the 95 % interval."""
    lines: list[str] = []
    for track in dict.fromkeys(row.track for row in report.rows):
        rows = [row for row in report.rows if row.track == track]
        scores: dict[str, Score] = {}
        for row in rows:
            for score in row.scores:
                scores.setdefault(score.name, score)
        columns = tuple(scores.values())
        protocols = ", ".join(dict.fromkeys(score.protocol for score in columns))
        lines += [f"{track}: {protocols}, {report.facts['num_clips']} clips", ""]
        header = ("system", *(_score_title(score) for score in columns))
        lines += [*_table([header, *(_system_cells(row, columns) for row in rows)]), ""]
    lines += [SAME_SETS_NOTE, *_left_out(report.facts)]
    if report.facts["num_clips"] < MIN_CLIPS_FOR_VERDICT:
        lines.append(f"under {MIN_CLIPS_FOR_VERDICT} clips FD and KID allow no verdict")
    if report.gates:
        lines += ["", *_table([_GATE_HEADER, *(_gate_cells(gate) for gate in report.gates)])]
        lines += ["", _verdict(report)]
    return "\n".join(lines)


def _verdict(report: StageReport) -> str:
    """The last line: what was missed, and what was not judged at all."""
    missed = sum(gate.passed is False for gate in report.gates)
    passed = sum(gate.passed is True for gate in report.gates)
    told = f"{passed} gates passed, {missed} missed"
    if not report.num_not_judged:
        return f"{told}; all were judged"
    return (
        f"{told}; {report.num_not_judged} gates not judged: FD takes {MIN_CLIPS_FOR_VERDICT} clips"
    )


def _left_out(facts: Mapping[str, Any]) -> list[str]:
    lines = []
    rates = facts["oracle_rates"]
    for key, words in (
        ("classes_left_out", "not scored, since real recordings are hit too rarely"),
        ("speech_not_asked", "real recordings are taken for speech, so not asked"),
        ("music_not_asked", "real recordings are taken for music, so not asked"),
    ):
        if facts[key]:
            told = ", ".join(
                f"{name} ({rates[name]:.2f})" if key == "classes_left_out" else name
                for name in facts[key]
            )
            lines.append(f"{words}: {told}")
    if facts["classes_left_out_2nd"]:
        told = ", ".join(
            f"{c} ({facts['oracle_rates_2nd'][c]:.2f})" for c in facts["classes_left_out_2nd"]
        )
        lines.append(f"not scored by the second judge (2nd), for the same reason: {told}")
    return lines


_GATE_HEADER = ("verdict", "what", "value", "95 % interval", "need")
_VERDICTS = {True: "pass", False: "MISS", None: "none"}


def _gate_cells(gate: Gate) -> tuple[str, ...]:
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


def judges_as_text(heard: Mapping[str, RealTags]) -> str:
    """One line a class: how often each judge hears its real recordings as it, and as another.

    The last column of a judge is the share of *other* classes' recordings that it hears as this
    one: a judge that hears everything everywhere has no worth.
    """
    classes = list(dict.fromkeys(c for real in heard.values() for c in real.tags))
    header = ["class", "recordings"]
    for name in heard:
        header += [name, f"{name}, others"]
    rows = [header]
    false_rates: dict[str, list[float]] = {name: [] for name in heard}
    for class_id in classes:
        row = [class_id, str(len(next(iter(heard.values())).tags[class_id]))]
        for name, real in heard.items():
            others = [
                class_id in h.classes for c, hs in real.tags.items() if c != class_id for h in hs
            ]
            false_rates[name].append(sum(others) / len(others))
            row += [f"{real.rates[class_id]:.2f}", f"{false_rates[name][-1]:.3f}"]
        rows.append(row)
    mean = ["mean of classes", ""]
    for name, real in heard.items():
        mean += [f"{sum(real.rates.values()) / len(real.rates):.2f}"]
        mean += [f"{sum(false_rates[name]) / len(classes):.3f}"]
    lines = _table([*rows, mean])
    for name, real in heard.items():
        left_out = [c for c in real.tags if c not in real.scorable]
        told = ", ".join(f"{c} ({real.rates[c]:.2f})" for c in left_out) or "none"
        lines += ["", f"{name}: left out, since real recordings are hit in less than 0.7: {told}"]
    return "\n".join(lines)


def _score_title(score: Score) -> str:
    arrow = "^" if score.direction == "higher" else "v"
    unit = f" {score.unit}" if score.unit else ""
    return f"{score.name}{unit} {arrow}"


def _system_cells(row: SystemScores, columns: Sequence[Score]) -> tuple[str, ...]:
    found = {score.name: score.estimate for score in row.scores}
    cells = [row.system]
    for column in columns:
        estimate = found.get(column.name)
        cells.append("" if estimate is None else _short(estimate))
    return tuple(cells)


def _short(estimate: Estimate) -> str:
    half = 0.5 * (estimate.high - estimate.low)
    digits = 0 if abs(estimate.value) >= 20 else 1 if abs(estimate.value) >= 10 else 2
    if abs(estimate.value) < 0.1:
        digits = 3
    return f"{estimate.value:.{digits}f}±{half:.{digits}f}"


def _row_cells(row: Row) -> tuple[str, ...]:
    rate, errors = row.rate, row.errors
    return (
        row.task,
        row.system,
        f"{rate.value:.3f}",
        _interval(rate),
        str(rate.num_clips),
        _median(errors),
        "" if errors is None else str(errors.num_without_onset),
    )


def _median(errors: OnsetErrors | None) -> str:
    if errors is None or math.isnan(errors.median_s):
        return ""
    return f"{1000 * errors.median_s:.0f} ms"


def _check_line(check: Check) -> str:
    verdict = "pass" if check.passed else "FAIL"
    value = f"{check.measured.value:.3f} {_interval(check.measured)}"
    return f"{verdict}  {check.name}: {value}, needs {check.minimum:g}"


def _interval(estimate: Estimate) -> str:
    return f"[{estimate.low:.3f}, {estimate.high:.3f}]"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)) for row in rows]
    return [line.rstrip() for line in (lines[0], "  ".join("-" * w for w in widths), *lines[1:])]
