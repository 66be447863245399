"""Rows of scores as cells, the same for Markdown and for the page.

In:   rows of an evaluation.
Out:  `Table`s: title, header, rows of text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from omni2sound.bench.scoring.evaluate import Evaluation, Row
from omni2sound.bench.stats.estimate import Estimate, Score


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """One part of a track under one protocol."""

    part: str
    protocol: str
    columns: tuple[Score, ...]
    """Names, units and directions; the values are the first system's."""
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """What stands above it."""
        return f"{self.part}: {self.protocol}"

    @property
    def header(self) -> tuple[str, ...]:
        """Titles of the columns; the arrow says which way is better."""
        titles = [
            f"{s.name}{f' ({s.unit})' if s.unit else ''} {'↑' if s.direction == 'higher' else '↓'}"
            for s in self.columns
        ]
        return ("system", "clips", *titles)

    def score(self, row: Row, column: Score) -> Score | None:
        """A row's score in a column; not every system is asked everything."""
        return next((s for s in row.scores if s.name == column.name), None)


def tables_of(evaluation: Evaluation) -> list[Table]:
    """One for each part and protocol, in order."""
    return tables_of_rows(evaluation.rows)


def tables_of_rows(rows: Sequence[Row]) -> list[Table]:
    """One for each part and protocol that follow each other."""
    tables = []
    for (part, protocol), some in groupby(rows, lambda r: (r.part, r.protocol)):
        kept = tuple(some)
        columns: dict[str, Score] = {}
        # In the order of who has most: the real sounds lack some.
        for row in sorted(kept, key=lambda r: -len(r.scores)):
            for score in row.scores:
                columns.setdefault(score.name, score)
        tables.append(
            Table(part=part, protocol=protocol, columns=tuple(columns.values()), rows=kept)
        )
    return tables


def row_name(row: Row) -> str:
    """System and task."""
    return row.system if row.task is None else f"{row.system} {row.task}"


def clips_of(row: Row) -> str:
    """How many clips were scored, and of how many."""
    if row.num_clips == row.num_expected:
        return str(row.num_clips)
    return f"{row.num_clips} of {row.num_expected}"


def value_of(estimate: Estimate) -> str:
    """A number with as many digits as mean something."""
    value = estimate.value
    if not math.isfinite(value):
        return "∞" if value > 0 else "-∞"
    if value == 0:
        return "0"
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 3
    return f"{value:.{digits}f}"


def interval_of(estimate: Estimate) -> str:
    """Its 95 % interval."""
    ends = [
        value_of(Estimate(value=e, low=e, high=e, num_clips=0))
        for e in (estimate.low, estimate.high)
    ]
    return f"[{ends[0]}, {ends[1]}]"


def as_markdown(table: Table) -> str:
    """The table as Markdown, under its title."""
    rows: list[Sequence[str]] = [table.header]
    for row in table.rows:
        cells = [row_name(row), clips_of(row)]
        for column in table.columns:
            score = table.score(row, column)
            cells.append(
                "" if score is None else f"{value_of(score.estimate)} {interval_of(score.estimate)}"
            )
        rows.append(cells)
    return "\n".join([f"### {table.title}", "", *markdown_lines(rows)])


def markdown_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; the first row is its header."""
    head, *body = rows
    return [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
        for row in (head, ["---"] * len(head), *body)
    ]
