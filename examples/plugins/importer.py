"""Your own importer: `omni2sound --plugin examples/plugins/importer.py data import notes ...`.

It reads `notes.csv`, with the columns file, caption and split.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omni2sound.data.corpora import IMPORTERS, Importer
from omni2sound.data.corpora.rows import Draft, Item, drafts, find_published
from omni2sound.data.tables import csv_lines


def read(published: Path) -> Iterator[Item]:
    """One clip for each row; a row that cannot be used is reported with its line."""
    for path in find_published(published, "notes.csv", wanted="columns file, caption, split"):
        yield from drafts(path, csv_lines(path), parse)


def parse(row: Mapping[str, Any]) -> Draft:
    """A clip whose sound or video file is then found by its name below `--media`."""
    if row["split"] not in ("train", "val", "test"):
        raise ValueError(f"split: expected train, val or test, got {row['split']!r}")
    name = Path(row["file"]).stem
    return Draft(clip_id=name, split=row["split"], stems=(name,), captions=(row["caption"],))


IMPORTERS.register("notes", Importer(reads="notes.csv: file, caption, split", read=read))
