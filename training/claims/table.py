"""The table of the claims: every comparison with its interval, a verdict a claim, the power.

In:   cells, as lines of JSON: one for each recipe and seed.
Out:  Markdown, and a plot of each measure's differences.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from training.claims.differences import LEVEL, Difference, Table, compare, detectable, seeds_needed
from training.claims.matrix import (
    CLAIMS,
    COMPARISONS,
    LEADING,
    RECIPES,
    SEEDS,
    TRACKS,
    Comparison,
    check_cell,
    read_cell,
)

from omni2sound.bench.compare import holm
from omni2sound.bench.report.plots import Bar, interval_plot
from omni2sound.bench.stats.estimate import Estimate
from omni2sound.files import split_lines, write_text

CELLS = Path(__file__).parent / "results" / "cells.jsonl"
AGAIN = CELLS.with_name("again.jsonl")
"""Cells that were run a second time from nothing."""
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
MEASURES = ("KL", "onset F1", "loss")
KLS = ("kl_yamnet", "kl_tagger")
MANY_SCENES = 500
_STYLE = (
    "<style>text{font:12px sans-serif;fill:#777}line{stroke:#999}.model{stroke:#c43;fill:#c43}"
    "text.model{stroke:none}</style>"
)

Cell = Mapping[str, Any]
Cells = Mapping[tuple[str, int], Cell]


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A comparison and what was found; None where fewer than two seeds have both recipes."""

    comparison: Comparison
    found: Difference | None
    sign: int
    """Expected sign of the difference."""
    p_holm: float
    """Corrected for all registered comparisons of its family, also those that are missing."""

    @property
    def verdict(self) -> str:
        """One of "as expected", "against", "can't tell", "not run" and "N of 5 seeds".

        Who tests again and again while seeds come in finds too much, so nothing is decided before
        all registered seeds are there.
        """
        if self.found is None:
            return "not run"
        if not is_finished(self.found):
            return f"{self.found.num_seeds} of {len(SEEDS)} seeds"
        if not self.p_holm < LEVEL:
            return "can't tell"
        return "as expected" if self.found.value * self.sign > 0 else "against"


def is_finished(found: Difference) -> bool:
    """Whether all registered seeds are in it."""
    return found.num_seeds >= len(SEEDS)


def collect(folder: Path, out: Path) -> int:
    """Add all cells of a folder to a file of lines; return how many it has then.

    Raises:
        UserError: A cell of either is of another matrix.
    """
    found = [read_cell(path) for path in (folder / "cells").glob("*.json")]
    kept = read_cells(out) | {(c["recipe"], c["seed"]): c for c in found}
    cells = sorted(kept.values(), key=lambda c: (list(RECIPES).index(c["recipe"]), c["seed"]))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, "".join(json.dumps(c, separators=(",", ":")) + "\n" for c in cells))
    return len(cells)


def read_cells(path: Path) -> dict[tuple[str, int], Cell]:
    """Read the lines of `collect`; no file is no cells.

    Raises:
        UserError: A cell is of another matrix.
    """
    if not path.is_file():
        return {}
    cells = [json.loads(line) for line in split_lines(path.read_text(encoding="utf-8"))]
    return {(c["recipe"], c["seed"]): check_cell(c, path) for c in cells}


def measured(cell: Cell, track: str, measure: str) -> Table:
    """A measure of one cell for each scene, (N, 2): numerator and denominator.

    Args:
        cell: A line of `collect`.
        track: One of `matrix.TRACKS`.
        measure: "onset F1", "KL", "loss", or "KL" of one tagger: "kl_yamnet", "kl_tagger".
    """
    lists = cell["tracks"][track]
    if measure == "onset F1":
        pairs, found, true = (np.array(lists[n], float) for n in ("pairs", "num_found", "num_true"))
        return np.stack([2 * pairs, found + true], axis=1)
    names = KLS if measure == "KL" else (measure,)
    values_N = np.mean([lists[n] for n in names], axis=0)
    return np.stack([values_N, np.ones_like(values_N)], axis=1)


def compare_cells(cells: Cells, a: str, b: str, track: str, measure: str) -> Difference | None:
    """Difference of two recipes over the seeds that both have; None below two."""
    seeds = sorted({s for name, s in cells if name == a} & {s for name, s in cells if name == b})
    if len(seeds) < 2:
        return None
    tables = [
        np.stack([measured(cells[name, seed], track, measure) for seed in seeds]) for name in (a, b)
    ]
    return compare(*tables)


def lines_of(cells: Cells, measure: str | None = None) -> list[Line]:
    """All registered comparisons; p-values are corrected by family, missing ones count as 1.

    Args:
        cells: Of `read_cells`.
        measure: Another measure than the registered primary ones; lower must be better.
    """
    found = [compare_cells(cells, c.a, c.b, c.track, measure or c.measure) for c in COMPARISONS]
    corrected = [0.0] * len(found)
    for family in _families(together=measure is not None):
        p_values = [f.p if (f := found[k]) is not None and is_finished(f) else 1.0 for k in family]
        for k, p in zip(family, holm(p_values), strict=True):
            corrected[k] = p
    signs = [(-1 if c.better == "A" else 1) if measure else c.sign for c in COMPARISONS]
    return [
        Line(comparison=c, found=f, sign=sign, p_holm=p)
        for c, f, sign, p in zip(COMPARISONS, found, signs, corrected, strict=True)
    ]


def _families(*, together: bool) -> list[list[int]]:
    """Positions of the comparisons that are corrected together: the leading ones, the others."""
    if together:
        return [list(range(len(COMPARISONS)))]
    leading = [k for k, c in enumerate(COMPARISONS) if c.name in LEADING]
    return [leading, [k for k in range(len(COMPARISONS)) if k not in leading]]


def verdict_of(claim: str, lines: Sequence[Line]) -> str:
    """Verdict of a claim from its leading comparison (`matrix.LEADING`)."""
    (leading,) = (
        line for line in lines if line.comparison.claim == claim and line.comparison.name in LEADING
    )
    decided = {
        "as expected": "holds",
        "against": "does not hold",
        "can't tell": "can't be told at this size",
        "not run": "not run",
    }
    return decided.get(leading.verdict, "not finished")


def as_markdown(cells: Cells, again: Cells) -> str:
    """All tables."""
    lines = lines_of(cells)
    parts = [_verdicts(lines), _differences(lines)]
    if cells:
        parts += [_power(lines), _by_loss(cells), _recipes(cells)]
    if again:
        parts.append(_again(cells, again))
    return "\n\n".join(parts)


def _verdicts(lines: Sequence[Line]) -> str:
    rows = ["| claim | verdict | comparisons, the deciding one first |", "|---|---|---|"]
    for claim, words in CLAIMS.items():
        own = [line for line in lines if line.comparison.claim == claim]
        own.sort(key=lambda line: line.comparison.name not in LEADING)
        told = ", ".join(f"{line.comparison.name} {line.verdict}" for line in own)
        rows.append(f"| {words} | **{verdict_of(claim, lines)}** | {told} |")
    return "\n".join(rows)


def _differences(lines: Sequence[Line]) -> str:
    rows = [
        "| | A - B | on | A | B | difference | bootstrap | by seed | p (Holm) | verdict |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        c, f = line.comparison, line.found
        head = f"| {c.name} | {c.a} - {c.b} | {c.track} {c.measure}, {_expected(c)} |"
        if f is None:
            rows.append(f"{head} | | | | | | not run |")
            continue
        seeds = " ".join(f"{v:+.3f}" for v in f.by_seed)
        rows.append(
            f"{head} {f.a:.3f} | {f.b:.3f} | {f.value:+.3f} [{f.low:+.3f}, {f.high:+.3f}] | "
            f"[{f.bootstrap[0]:+.3f}, {f.bootstrap[1]:+.3f}] | {seeds} | "
            f"{f.p:.3f} ({line.p_holm:.3f}) | {line.verdict} |"
        )
    return "\n".join(rows)


def _expected(c: Comparison) -> str:
    return f"{'>' if c.sign > 0 else '<'} 0 expected"


def _power(lines: Sequence[Line]) -> str:
    rows = [
        "| | variance: seed, scene, rest | found with 80 % | seeds needed | with "
        f"{MANY_SCENES} scenes |",
        "|---|---|---|---|---|",
    ]
    for line in lines:
        if (f := line.found) is None:
            continue
        leads = line.comparison.name in LEADING
        level = LEVEL / (len(LEADING) if leads else len(COMPARISONS) - len(LEADING))
        least = detectable(f.parts, f.num_seeds, f.num_scenes, level)
        needed = [seeds_needed(f, count, level) for count in (f.num_scenes, MANY_SCENES)]
        told = ["> 1000" if n is None else str(n) for n in needed]
        parts = ", ".join(f"{v:.2g}" for v in (f.parts.seed, f.parts.scene, f.parts.rest))
        rows.append(f"| {line.comparison.name} | {parts} | {least:.3f} | {told[0]} | {told[1]} |")
    return "\n".join(rows)


def _by_loss(cells: Cells) -> str:
    rows = [
        "| | on | difference of the loss | by seed | p (Holm) | verdict "
        "| KL, YAMNet | KL, in-domain |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for line in lines_of(cells, "loss"):
        c, f = line.comparison, line.found
        if f is None:
            continue
        seeds = " ".join(f"{v:+.4f}" for v in f.by_seed)
        judges = []
        for tagger in KLS:
            one = compare_cells(cells, c.a, c.b, c.track, tagger)
            assert one is not None
            judges.append(f"{one.value:+.2f} ± {(one.high - one.low) / 2:.2f}")
        rows.append(
            f"| {c.name} | {c.track} | {f.value:+.4f} [{f.low:+.4f}, {f.high:+.4f}] | {seeds} | "
            f"{f.p:.4f} ({line.p_holm:.3f}) | {line.verdict} | {judges[0]} | {judges[1]} |"
        )
    return "\n".join(rows)


def _recipes(cells: Cells) -> str:
    columns = [(t, m) for t in TRACKS for m in MEASURES]
    rows = [
        "| recipe | seeds | " + " | ".join(f"{t} {m}" for t, m in columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for name in RECIPES:
        own = [cell for (recipe, _), cell in cells.items() if recipe == name]
        if not own:
            continue
        values = []
        for track, measure in columns:
            sums = np.array([measured(cell, track, measure).sum(axis=0) for cell in own])
            values.append(f"{np.mean(sums[:, 0] / sums[:, 1]):.3f}")
        rows.append(f"| {name} | {len(own)} | {' | '.join(values)} |")
    return "\n".join(rows)


def _again(cells: Cells, again: Cells) -> str:
    rows = [
        "| cell | weights | largest difference of a measure of a scene |",
        "|---|---|---|",
    ]
    for key, second in again.items():
        first = cells[key]
        same = first["weights_sha256"] == second["weights_sha256"]
        apart = max(
            float(np.abs(measured(first, t, m) - measured(second, t, m)).max())
            for t in TRACKS
            for m in MEASURES
        )
        told = "the same" if same else "others"
        rows.append(f"| {key[0]}, seed {key[1]} | {told} | {apart:.3g} |")
    return "\n".join(rows)


def write_page(page: Path, cells: Cells, again: Cells) -> None:
    """Put the tables between the marks of a page, and the plots beside it."""
    text = page.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    write_text(page, f"{head}{BEGIN}\n\n{as_markdown(cells, again)}\n\n{END}{tail}")
    if not cells:
        return
    for measure, name in (("KL", "claims-kl.svg"), ("onset F1", "claims-onset.svg")):
        write_text(page.with_name(name), plot(lines_of(cells), measure))


def plot(lines: Sequence[Line], measure: str) -> str:
    """Intervals of the differences of one measure; decided ones are in colour."""
    bars = [
        Bar(
            label=f"{line.comparison.name} {_expected(line.comparison).removesuffix(' expected')}",
            estimate=Estimate(value=f.value, low=f.low, high=f.high, num_clips=f.num_scenes),
            strong=line.verdict in ("as expected", "against"),
        )
        for line in lines
        if (f := line.found) is not None and line.comparison.measure == measure
    ]
    svg = interval_plot(bars, title=f"Differences of {measure} with 95 % intervals")
    return (
        svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(
            "</title>", f"</title>{_STYLE}", 1
        )
        + "\n"
    )
