"""Exports of `omni2sound annotate`: a manifest, or the same clips as Parquet.

In:   a folder with `manifest.jsonl`, else with `*.parquet` files whose columns are the fields of
      `manifest.Clip` (other columns are ignored). Or one such file.
Out:  drafts whose paths are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omni2sound.config import from_json
from omni2sound.data.corpora import rows
from omni2sound.data.corpora.manifest import Clip
from omni2sound.data.tables import Line, Problem, json_lines
from omni2sound.readers import parquet_rows

_FIELDS = tuple(Clip.__dataclass_fields__)


def read(published: Path) -> Iterator[rows.Item]:
    """Read every clip of the export."""
    manifest = published / "manifest.jsonl" if published.is_dir() else published
    if manifest.suffix == ".jsonl" and manifest.is_file():
        yield from rows.drafts(manifest, json_lines(manifest, skip=1), _draft)
        return
    for path in rows.find_published(
        published, "*.parquet", wanted="manifest.jsonl or Parquet files"
    ):
        yield from rows.drafts(path, _rows(path), _draft)


def _rows(path: Path) -> Iterator[Line | Problem]:
    for number, row in enumerate(parquet_rows(path, columns=_FIELDS), start=1):
        yield Line(number=number, cells={k: v for k, v in row.items() if v is not None})


def _draft(row: Mapping[str, Any]) -> rows.Draft:
    known = {k: v for k, v in row.items() if k in _FIELDS}
    return rows.Draft(**asdict(from_json(Clip, known, where="clip")))
