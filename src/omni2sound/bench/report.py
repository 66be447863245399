"""Results as text for a terminal.

In:   a `SpineReport`; or scores of avbench-8s-v1 and what was left out.
Out:  one table of scores, one list of checks or of what is missing; plain characters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from omni2sound.bench.avbench import PROTOCOL, AvScore
from omni2sound.bench.metrics import Estimate, OnsetErrors
from omni2sound.bench.spine import Check, Row, SpineReport

__all__ = ["as_text", "avbench_as_text"]

_HEADER = ("task", "system", "hit rate", "95 % interval", "clips", "median |error|", "silent")


def as_text(report: SpineReport) -> str:
    """The whole report."""
    lines = _table([_HEADER, *(_row_cells(row) for row in report.rows)])
    lines += ["", *(_check_line(check) for check in report.checks)]
    left_out = report.facts.get("classes_left_out") or ()
    rates = report.facts.get("oracle_rates", {})
    if left_out:
        told = ", ".join(f"{name} ({rates[name]:.2f})" for name in left_out)
        lines += ["", f"not scored, since real recordings are hit too rarely: {told}"]
    return "\n".join(lines)


def avbench_as_text(
    scores: Sequence[AvScore],
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
    lines = [PROTOCOL, *_table([header, *(_score_cells(score) for score in scores)])]
    lines += ["", *(f"no {judge}: {reason}" for judge, reason in missing.items())]
    for kind, judges in dropped.items():
        for judge, clips in judges.items():
            told = "; ".join(f"{name}: {reason}" for name, reason in list(clips.items())[:3])
            more = f"; and {len(clips) - 3} more" if len(clips) > 3 else ""
            lines.append(f"{kind}, {judge}: {len(clips)} left out ({told}{more})")
    return "\n".join(lines).rstrip()


def _score_cells(score: AvScore) -> tuple[str, ...]:
    interval = ""
    if score.interval is not None:
        interval = f"[{score.interval[0]:.4f}, {score.interval[1]:.4f}]"
    elif score.spread is not None:
        interval = f"(std {score.spread:.4f})"
    return (score.name, f"{score.value:.4f}", interval, score.better, str(score.num_clips))


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
