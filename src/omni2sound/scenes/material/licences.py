"""Authors and licences of scene material.

In:   a `Catalogue`.
Out:  rows by licence, author and package, as Markdown and as JSON.

A model or a corpus made from the material carries this list; nothing may drop out of it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from omni2sound.files import split_lines

if TYPE_CHECKING:
    from omni2sound.scenes.material.catalogue import Catalogue, Picture, Recording


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class LicenceRow:
    """Items of one author in one package."""

    licence: str
    """SPDX identifier if there is one."""
    attribution: str
    package: str
    num_recordings: int
    num_pictures: int


def licence_rows(catalogue: Catalogue) -> tuple[LicenceRow, ...]:
    """Count items by (licence, attribution, package), sorted."""
    recordings = Counter((r.licence, r.attribution, r.package) for r in catalogue.recordings)
    pictures = Counter((p.licence, p.attribution, p.package) for p in catalogue.pictures)
    return tuple(
        LicenceRow(
            licence=licence,
            attribution=attribution,
            package=package,
            num_recordings=recordings[licence, attribution, package],
            num_pictures=pictures[licence, attribution, package],
        )
        for licence, attribution, package in sorted({*recordings, *pictures})
    )


def attribution_tsv(recordings: Iterable[Recording], pictures: Iterable[Picture]) -> str:
    """List every recording and picture with its licence and author, one a line."""
    rows = [("id", "licence", "attribution", "package", "path")]
    rows += [(r.recording_id, r.licence, r.attribution, r.package, r.path) for r in recordings]
    rows += [(p.picture_id, p.licence, p.attribution, p.package, p.path) for p in pictures]
    return "".join("\t".join(" ".join(cell.split()) for cell in row) + "\n" for row in rows)


def merge_attribution(lists: Iterable[str]) -> str:
    """Merge attribution lists, oldest first; the last row of an id wins."""
    rows: dict[str, str] = {}
    for text in lists:
        for line in split_lines(text):
            rows[line.partition("\t")[0]] = line + "\n"
    return "".join(rows.values())


def licences_markdown(catalogue: Catalogue) -> str:
    """Format the rows as a Markdown table."""
    lines = [
        "| licence | by | Debian package | recordings | pictures |",
        "|---|---|---|---:|---:|",
    ]
    lines += [
        f"| {row.licence} | {row.attribution} | {row.package} "
        f"| {row.num_recordings} | {row.num_pictures} |"
        for row in licence_rows(catalogue)
    ]
    return "\n".join(lines) + "\n"


def licences_json(catalogue: Catalogue) -> str:
    """Format the rows, and the licence of every recording and picture, as JSON."""
    items = {
        **{r.recording_id: [r.licence, r.attribution] for r in catalogue.recordings},
        **{p.picture_id: [p.licence, p.attribution] for p in catalogue.pictures},
    }
    rows = [asdict(row) for row in licence_rows(catalogue)]
    return json.dumps({"rows": rows, "items": items}, indent=1, ensure_ascii=False) + "\n"
