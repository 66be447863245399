"""A `SpineReport` as text for a terminal.

In:   the report.
Out:  one table of scores, one list of checks; plain characters, at most 100 columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from omni2sound.bench.metrics import Estimate, OnsetErrors
from omni2sound.bench.spine import Check, Row, SpineReport

__all__ = ["as_text"]

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
