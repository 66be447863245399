"""Results as text for a terminal.

In:   a `QuickReport`; scores of avbench-8s-v1; or classes found in real recordings.
Out:  one table of scores, one list of checks or of what is missing; plain characters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from omni2sound.bench.metrics.avbench.scores import PROTOCOL
from omni2sound.bench.metrics.onsets import OnsetErrors
from omni2sound.bench.metrics.tagging import RealTags
from omni2sound.bench.quick.score import Check, QuickReport, Row
from omni2sound.bench.stats.estimate import Estimate, Score

_HEADER = ("task", "system", "hit rate", "95 % interval", "clips", "median |error|", "silent")


def as_text(report: QuickReport) -> str:
    """The whole report."""
    lines = _table([_HEADER, *(_row_cells(row) for row in report.rows)])
    lines += ["", *(_check_line(check) for check in report.checks)]
    left_out = report.facts.get("classes_left_out") or ()
    rates = report.facts.get("oracle_rates", {})
    if left_out:
        listed = ", ".join(f"{name} ({rates[name]:.2f})" for name in left_out)
        lines += ["", f"not scored, since real recordings are hit too rarely: {listed}"]
    if left_out_2nd := report.facts.get("classes_left_out_2nd") or ():
        rates_2nd = report.facts["oracle_rates_2nd"]
        listed = ", ".join(f"{name} ({rates_2nd[name]:.2f})" for name in left_out_2nd)
        lines += ["", f"not scored by the second tagger, for the same reason: {listed}"]
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
        dropped: "generated", "reference" or "videos", then network, clip and reason.
        missing: Networks that are not installed, and why.
    """
    header = ("score", "value", "95 % interval", "better", "clips")
    lines = [PROTOCOL, *_table([header, *(_av_cells(score) for score in scores)])]
    lines += ["", *(f"no {network}: {reason}" for network, reason in missing.items())]
    for kind, networks in dropped.items():
        for network, clips in networks.items():
            listed = "; ".join(f"{name}: {reason}" for name, reason in list(clips.items())[:3])
            more = f"; and {len(clips) - 3} more" if len(clips) > 3 else ""
            lines.append(f"{kind}, {network}: {len(clips)} left out ({listed}{more})")
    return "\n".join(lines).rstrip()


def _av_cells(score: Score) -> tuple[str, ...]:
    e = score.estimate
    interval = f"[{e.low:.4f}, {e.high:.4f}]"
    return (score.name, f"{e.value:.4f}", interval, score.direction, str(e.num_clips))


def taggers_as_text(found: Mapping[str, RealTags]) -> str:
    """One line a class: how often each tagger finds it in its real recordings, and in others.

    The second column of a tagger is its rate of false positives: the share of *other* classes'
    recordings in which it finds this one.
    """
    classes = list(dict.fromkeys(c for real in found.values() for c in real.tags))
    header = ["class", "recordings"]
    for name in found:
        header += [name, f"{name}, others"]
    rows = [header]
    false_rates: dict[str, list[float]] = {name: [] for name in found}
    for class_id in classes:
        row = [class_id, str(len(next(iter(found.values())).tags[class_id]))]
        for name, real in found.items():
            others = [
                class_id in h.classes for c, hs in real.tags.items() if c != class_id for h in hs
            ]
            false_rates[name].append(sum(others) / len(others))
            row += [f"{real.rates[class_id]:.2f}", f"{false_rates[name][-1]:.3f}"]
        rows.append(row)
    mean = ["mean of classes", ""]
    for name, real in found.items():
        mean += [f"{sum(real.rates.values()) / len(real.rates):.2f}"]
        mean += [f"{sum(false_rates[name]) / len(classes):.3f}"]
    lines = _table([*rows, mean])
    for name, real in found.items():
        left_out = [c for c in real.tags if c not in real.scorable]
        listed = ", ".join(f"{c} ({real.rates[c]:.2f})" for c in left_out) or "none"
        lines += ["", f"{name}: left out, since real recordings are hit in less than 0.7: {listed}"]
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
