"""Writes the report of a scored run: JSON, Markdown and one HTML page.

In:   a folder with a scored run.
Out:  report.json, report.md, report.html beside it.

The same scores give the same three files, byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omni2sound.bench.report.categories import category_rows
from omni2sound.bench.report.examples import choose_examples
from omni2sound.bench.report.gates import Gate, gates_as_markdown, gates_of
from omni2sound.bench.report.html import report_page
from omni2sound.bench.report.notes import notes_of
from omni2sound.bench.report.paper_numbers import SOURCE, published_rows
from omni2sound.bench.report.results import ScoredRun
from omni2sound.bench.report.tables import as_markdown, markdown_lines, tables_of
from omni2sound.bench.tracks.track import read_track
from omni2sound.files import write_json, write_text

REPORTS = ("report.json", "report.md", "report.html")


def write_report(run: ScoredRun, gates: Sequence[Gate] | None = None) -> tuple[Path, ...]:
    """Write the three files.

    Args:
        run: The scored run.
        gates: From `gates_of`; None computes them here.

    Raises:
        UserError: The track is gone.
    """
    track = read_track(run.track).limited(run.limit)
    examples = choose_examples(track, run.systems, run.evaluation.clips)
    gates = gates_of(run) if gates is None else gates
    paths = tuple(run.folder / name for name in REPORTS)
    write_json(paths[0], _json_of(run, gates))
    categories = category_rows(track, run.evaluation.clips)
    write_text(paths[1], markdown_of(run, gates, categories))
    write_text(paths[2], report_page(run, examples, gates, categories))
    return paths


def _json_of(run: ScoredRun, gates: Sequence[Gate]) -> dict[str, Any]:
    evaluation = run.evaluation
    return {
        "facts": evaluation.facts,
        "notes": notes_of(evaluation),
        "rows": [asdict(row) for row in evaluation.rows],
        "gates": {
            "passed": all(gate.passed is not False for gate in gates),
            "complete": all(gate.passed is not None for gate in gates),
            "rows": [gate.to_json() for gate in gates],
        },
        "problems": {n: [asdict(p) for p in ps] for n, ps in evaluation.problems.items()},
        "published": {"source": SOURCE, "rows": [asdict(row) for row in published_rows()]},
    }


def markdown_of(
    run: ScoredRun, gates: Sequence[Gate] = (), categories: Sequence[Sequence[str]] = ()
) -> str:
    """All tables, gates, notes and problems."""
    evaluation = run.evaluation
    track = evaluation.facts["track"]
    parts = [f"# {track['name']} {track['version']}: {track['num_clips']} clips", ""]
    parts += [f"* {note}" for note in notes_of(evaluation)]
    for table in tables_of(evaluation):
        parts += ["", as_markdown(table)]
    if categories:
        parts += ["", "### By category", "", *markdown_lines(categories)]
    if gates:
        parts += ["", gates_as_markdown(gates)]
    parts += ["", "### Problems with sounds", ""]
    found = [(name, p) for name, problems in evaluation.problems.items() for p in problems]
    parts += [f"* {name}: {p.kind}: {p.name}: {p.told}" for name, p in found] or ["None."]
    return "\n".join([*parts, ""])
