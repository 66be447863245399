"""A scored run as one HTML file: tables, plots and sounds to play.

In:   a `ScoredRun`, its examples.
Out:  the page as text. No script, no link, no font; sounds and pictures are inside.

What not to get wrong: everything from runs and tracks is escaped; the page must make no request
(`media.page`; tested).
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omni2sound.bench.report.examples import Example
from omni2sound.bench.report.gates import Gate, count_verdicts, gate_rows
from omni2sound.bench.report.notes import notes_of
from omni2sound.bench.report.paper_numbers import SOURCE, published_rows
from omni2sound.bench.report.plots import Bar, interval_plot
from omni2sound.bench.report.results import ScoredRun
from omni2sound.bench.report.tables import (
    Table,
    clips_of,
    interval_of,
    row_name,
    tables_of,
    value_of,
)
from omni2sound.bench.scoring.evaluate import Row
from omni2sound.bench.systems.folder import Problem
from omni2sound.media.page import data_uri, html_page

STYLE = Path(__file__).with_name("page.css")


def report_page(
    run: ScoredRun,
    examples: Sequence[Example],
    gates: Sequence[Gate] = (),
    categories: Sequence[Sequence[str]] = (),
) -> str:
    """Compose the page."""
    evaluation = run.evaluation
    track = evaluation.facts["track"]
    title = f"{track['name']} {track['version']}"
    models = list(dict.fromkeys(r.system for r in evaluation.rows if not r.is_baseline))
    tables = tables_of(evaluation)
    body = [
        f"<h1>{text(', '.join(models) or 'baselines')}</h1>",
        f'<p class="soft">on {text(title)}, {track["num_clips"]} clips ('
        f"{text(', '.join(f'{n} {p}' for p, n in track['num_by_part'].items()))}). Small numbers "
        "are 95 % intervals; arrows point to better; models in blue, baselines that learn "
        "nothing in grey.</p>",
        *(f"<p>{text(note)}</p>" for note in notes_of(evaluation)),
    ]
    for table in tables:
        body += [f"<h2>{text(table.title)}</h2>", score_table(table), _plots(table)]
    if categories:
        header, *rows = categories
        body += ["<h2>By category</h2>", _wide_table(header, map(_cells, rows))]
    if gates:
        body += ["<h2>Gates</h2>", _gates(gates)]
    if examples:
        body += ["<h2>Best and worst clips</h2>", _examples(examples)]
    body += [_problems(evaluation.problems), _published(), _facts(evaluation.facts)]
    return html_page(f"{title}: {', '.join(models)}", "".join(body), style=STYLE)


def text(value: object) -> str:
    """Escape for HTML."""
    return html.escape(str(value))


def _wide_table(header: Iterable[str], rows: Iterable[str]) -> str:
    """A table that scrolls sideways.

    Args:
        header: Texts of the first line.
        rows: The other lines, as HTML (`_cells`).
    """
    head = "".join(f"<th>{text(cell)}</th>" for cell in header)
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody>'
        "</table></div>"
    )


def _cells(cells: Iterable[object]) -> str:
    return f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in cells)}</tr>"


def score_table(table: Table) -> str:
    """Format scores and intervals as an HTML table."""
    return _wide_table(table.header, (_row(table, row) for row in table.rows))


def _gates(gates: Sequence[Gate]) -> str:
    header, *rows = gate_rows(gates)
    return f"{_wide_table(header, map(_cells, rows))}<p>{text(count_verdicts(gates))}</p>"


def _row(table: Table, row: Row) -> str:
    cells = [f"<td>{text(row_name(row))}</td><td>{text(clips_of(row))}</td>"]
    for column in table.columns:
        score = table.score(row, column)
        cells.append(
            "<td></td>"
            if score is None
            else f"<td>{text(value_of(score.estimate))}"
            f"<small>{text(interval_of(score.estimate))}</small></td>"
        )
    return f'<tr class="{"baseline" if row.is_baseline else "model"}">{"".join(cells)}</tr>'


def _plots(table: Table) -> str:
    figures = []
    for column, title in zip(table.columns, table.header[2:], strict=True):
        bars = [
            Bar(label=row_name(row), estimate=score.estimate, strong=not row.is_baseline)
            for row in table.rows
            # Silence is a hundred times as far as anything else, and would hide all.
            if (score := table.score(row, column)) is not None
            and not (column.name in ("FD", "KID") and row.system == "silence")
        ]
        figures.append(
            f"<figure><figcaption>{text(title)}</figcaption>"
            f"{interval_plot(bars, title=f'{table.title}, {title}')}</figure>"
        )
    return f'<div class="plots">{"".join(figures)}</div>'


def _examples(examples: Sequence[Example]) -> str:
    parts = []
    names = list(dict.fromkeys((e.system, e.task) for e in examples))
    for system, task in names:
        parts.append(f'<h3>{text(system)} {text(task)}</h3><div class="examples">')
        parts += [_example(e) for e in examples if (e.system, e.task) == (system, task)]
        parts.append("</div>")
    return "".join(parts)


def _example(example: Example) -> str:
    clip = example.clip
    strip = ""
    if example.strip_jpeg is not None:
        source = data_uri("image/jpeg", example.strip_jpeg)
        strip = f'<img class="strip" alt="eight pictures of the video" src="{source}">'
    marks = "".join(
        f'<i style="left:{100 * t / clip.duration_s:.2f}%"></i>' for t in example.onsets_s
    )
    sounds = "".join(
        f'<div class="sound"><span class="soft">{name}</span>'
        f'<audio controls preload="none" src="{data_uri("audio/flac", flac)}"></audio>'
        f'<div class="picture"><img alt="spectrogram of the {name} sound" '
        f'src="{data_uri("image/png", png)}">{marks}</div></div>'
        for name, flac, png in (
            ("made", example.made_flac, example.made_png),
            ("real", example.real_flac, example.real_png),
        )
    )
    return (
        f'<article class="example {example.verdict}"><strong>{example.verdict}</strong> '
        f'<span class="soft">{text(clip.clip_id)} · {text(example.measured)}</span>'
        f"<p>{text(clip.caption)}</p>{strip}{sounds}</article>"
    )


def _problems(problems: Mapping[str, Sequence[Problem]]) -> str:
    if not problems:
        return "<h2>Problems with sounds</h2><p>None.</p>"
    rows = (
        _cells((system, p.kind, p.name, p.told, "yes" if p.scored else "no"))
        for system, found in problems.items()
        for p in found
    )
    header = ("system", "problem", "clip or file", "found", "scored")
    return f"<h2>Problems with sounds</h2>{_wide_table(header, rows)}"


def _published() -> str:
    rows = published_rows()
    names = list(dict.fromkeys(n for row in rows for n in row.scores))
    body = (
        _cells((row.system, row.track, row.task, *(row.scores.get(n, "") for n in names)))
        for row in rows
    )
    return (
        f'<h2>Published elsewhere</h2><p class="soft">{text(SOURCE)}. Other clips and other '
        "networks than in the tables above: not to be compared with them.</p>"
        + _wide_table(("system", "track", "task", *names), body)
    )


def _facts(facts: Mapping[str, Any]) -> str:
    flat: list[tuple[str, object]] = []
    for name, value in facts.items():
        if name.startswith("oracle_rates"):
            continue
        if isinstance(value, Mapping):
            flat += [(f"{name}: {k}", v) for k, v in value.items()]
        else:
            flat.append((name, value))
    items = "".join(f"<dt>{text(n)}</dt><dd>{text(_told(v))}</dd>" for n, v in flat)
    return f"<h2>How it was made</h2><dl>{items}</dl>"


def _told(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return str(value)
