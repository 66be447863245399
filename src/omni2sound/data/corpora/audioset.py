"""AudioSet: 10-second segments of YouTube videos with labels of an ontology.

In:   `balanced_train_segments.csv`, `unbalanced_train_segments.csv`, `eval_segments.csv`:
      lines that begin with "#", then "YTID, start_seconds, end_seconds, positive_labels", the
      labels as one quoted cell of ids ("/m/03v3yw,/m/0k4j"). For the names of the labels
      `class_labels_indices.csv` ("index,mid,display_name") or `ontology.json` (objects with
      "id" and "name"); without them the ids stay.
Out:  drafts; evaluation segments are the test split.

The project does not name media files; they are found by YouTube id and times, by the names of
common downloaders (`finding.names`).

Source: https://research.google.com/audioset/download.html and
https://github.com/audioset/ontology; Gemmeke et al. 2017. Labels are CC BY 4.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from omni2sound.data.corpora import rows
from omni2sound.data.corpora.manifest import Split
from omni2sound.data.tables import Problem, csv_lines
from omni2sound.errors import UserError
from omni2sound.readers import interpreting, read_json

_COLUMNS = ("YTID", "start_seconds", "end_seconds", "positive_labels")
_ROW = re.compile(r"[\w-]{11}, *\d")


def read(published: Path) -> Iterator[rows.Item]:
    """Read every segment of the tables in the folder."""
    names = class_names(published if published.is_dir() else published.parent)
    for path in rows.find_published(
        published, "*_segments.csv", wanted="eval_segments.csv and others"
    ):
        split: Split = "test" if path.name.startswith("eval") else "train"
        lines = csv_lines(path, _COLUMNS, comment="#", record_start=_ROW)
        yield from rows.drafts(path, lines, partial(_draft, split, names))


def class_names(folder: Path) -> Mapping[str, str]:
    """Map ids of the ontology to names; empty if there is neither file.

    Raises:
        UserError: A row of the table can't be read: every clip with that label would be lost.
    """
    for table in folder.rglob("class_labels_indices.csv"):
        names = {}
        with interpreting(table, "a table of labels"):
            for line in csv_lines(table):
                if isinstance(line, Problem):
                    raise UserError(f"{table}:{line.line}: {line.reason}; mend or remove the row")
                names[line.cells["mid"]] = line.cells["display_name"]
        return names
    for ontology in folder.rglob("ontology.json"):
        data = read_json(ontology)
        with interpreting(ontology, "the ontology of AudioSet"):
            return {str(c["id"]): str(c["name"]) for c in data}
    return {}


def _draft(split: Split, names: Mapping[str, str], row: Mapping[str, Any]) -> rows.Draft:
    video = rows.youtube_id(row["YTID"])
    start, end = rows.number(row["start_seconds"], "start"), rows.number(row["end_seconds"], "end")
    if end <= start:
        raise ValueError(f"end_seconds {end:g} is not after start_seconds {start:g}")
    ids = [i.strip() for i in row["positive_labels"].split(",") if i.strip()]
    unknown = [i for i in ids if names and i not in names]
    if not ids or unknown:
        raise ValueError(f"unknown label {unknown[0]!r}" if unknown else "no labels")
    return rows.Draft(
        clip_id=f"{video}_{round(start * 1000)}",
        split=split,
        youtube_id=video,
        duration_s=end - start,
        labels=tuple(names.get(i, i) for i in ids),
        source=f"youtube:{video}",
        source_start_s=start,
        licence="labels CC-BY-4.0, video of its owner",
    )
