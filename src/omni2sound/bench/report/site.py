"""A results page that others can add rows to: one JSON file a run, one page of all of them.

In:   a scored run; a folder with files of earlier ones.
Out:  `results/NAME.json` with the run's rows and its track's digests; `index.html` over all files.

To add a row to somebody's page, send its file; `publish` reads every file anew, so a page never
shows what no file holds. What not to get wrong: rows share a table only if digests of clips and
media are the same; everything from files is escaped, and refused if it is no result.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from omni2sound.bench.report.html import STYLE, score_table, text
from omni2sound.bench.report.results import ScoredRun
from omni2sound.bench.report.tables import tables_of_rows
from omni2sound.bench.scoring.evaluate import Row
from omni2sound.config import from_json
from omni2sound.errors import ConfigError, UserError
from omni2sound.files import write_json, write_text
from omni2sound.media.page import html_page
from omni2sound.readers import read_object

RESULTS = "results"
PAGE = "index.html"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,60}")
_KIND = "omni2sound-results-1"
_MAX_TEXT = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedTrack:
    """The clips that were scored."""

    name: str
    version: str
    clips_sha256: str
    media_sha256: str
    num_clips: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedRun:
    """One file of results."""

    kind: str
    track: PublishedTrack
    judges: tuple[str, ...]
    by: str
    """Who scored it."""
    note: str
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        if self.kind != _KIND:
            raise ConfigError(f"kind {self.kind!r}: expected {_KIND!r}")
        if not self.by.strip() or max(len(self.by), len(self.note)) > _MAX_TEXT:
            raise ConfigError(f"expected who scored it and a note of at most {_MAX_TEXT} letters")
        if not self.rows:
            raise ConfigError("no rows")
        for row in self.rows:
            for score in row.scores:
                e = score.estimate
                if not (math.isfinite(e.value) and e.low <= e.value <= e.high):
                    raise ConfigError(
                        f"{row.system}: {score.name}: {e.value} in [{e.low}, {e.high}]"
                    )


def publish(site: Path, run: ScoredRun, *, name: str, by: str, note: str = "") -> tuple[Path, Path]:
    """Add a run to a page, or replace its earlier results.

    Args:
        site: Folder of the page, created if missing.
        run: The scored run.
        name: Name of its file.
        by: Who scored it.
        note: Anything that a reader should know.

    Returns:
        The file of results, and the page.

    Raises:
        UserError: The name can't be a file's, or a file of the page holds no results.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            f"expected small letters, digits, '-', '_' and '.', got {name!r}", field="name"
        )
    track = {k: run.evaluation.facts["track"][k] for k in PublishedTrack.__dataclass_fields__}
    # Distances without groups are for paired tests, and would be most of the file.
    rows = tuple(replace(row, left_out={}) for row in run.evaluation.rows)
    networks: Mapping[str, str] = run.evaluation.facts.get("clip_networks", {})
    published = PublishedRun(
        kind=_KIND,
        track=PublishedTrack(**track),
        judges=(
            *run.evaluation.facts["judges"],
            *(f"{name.replace('_', '-')} {sha256}" for name, sha256 in networks.items()),
        ),
        by=by,
        note=note,
        rows=rows,
    )
    (site / RESULTS).mkdir(parents=True, exist_ok=True)
    file = site / RESULTS / f"{name}.json"
    write_json(file, asdict(published))
    return file, build_page(site)


def build_page(site: Path) -> Path:
    """Write the page over all files of results.

    Raises:
        UserError: There are none, or one holds no results; the file is named.
    """
    runs = [(path.stem, _read(path)) for path in sorted((site / RESULTS).glob("*.json"))]
    if not runs:
        raise UserError(f"{site}: no files in {RESULTS}/")
    body = [
        "<h1>Results</h1>",
        '<p class="soft">Rows share a table if they were scored on the same clips and media. Small '
        "numbers are 95 % intervals; arrows point to better. Numbers are those of the files, "
        "as their authors sent them.</p>",
    ]
    for track in sorted({run.track for _, run in runs}, key=lambda t: (t.name, t.version, str(t))):
        own = [(name, run) for name, run in runs if run.track == track]
        body += [
            f"<h2>{text(track.name)} {text(track.version)}, {track.num_clips} clips</h2>",
            f'<p class="soft">clips {text(track.clips_sha256[:12])}, media '
            f"{text(track.media_sha256[:12])}</p>",
        ]
        named = [
            replace(row, system=f"{row.system} ({name})") for name, run in own for row in run.rows
        ]
        for table in tables_of_rows(sorted(named, key=lambda r: (r.part, r.protocol))):
            body += [f"<h3>{text(table.title)}</h3>", score_table(table)]
        body += ["<ul>", *(f"<li>{_said(name, run)}</li>" for name, run in own), "</ul>"]
    write_text(site / PAGE, html_page("Results", "".join(body), style=STYLE))
    return site / PAGE


def _said(name: str, run: PublishedRun) -> str:
    note = f": {run.note}" if run.note else ""
    return text(f"{name}, scored by {run.by} with {', '.join(run.judges)}{note}")


def _read(path: Path) -> PublishedRun:
    try:
        return from_json(PublishedRun, read_object(path), where=path.name)
    except (ConfigError, ValueError) as error:
        raise UserError(f"{path}: holds no results ({error})") from None
