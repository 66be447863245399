"""Rows of Hub Parquet files: what they say, and where `unpack` puts their media.

In:   a folder of Parquet files, or one. A column of media is a struct of `bytes` and `path`; the
      schema's metadata may call it Audio or Video, and name the classes of a column of numbers.
Out:  `HubTable`s; drafts of their rows, without reading any media.

Source: https://huggingface.co/docs/datasets/about_dataset_features.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from omni2sound.data.corpora import rows
from omni2sound.data.corpora.manifest import Split
from omni2sound.data.tables import Line
from omni2sound.errors import UserError
from omni2sound.readers import arrow_file, loads, parquet_rows

_CAPTIONS = ("caption", "captions", "text", "description", "prompt")
_LABELS = ("label", "labels", "category", "tags")
_LICENCES = ("license", "licence")
_NUMBER = ""
"""Key of a row's number among its cells."""
_SPLITS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class HubTable:
    """One Parquet file.

    Attributes:
        path: The file.
        name: Its path below the published folder, as one name; the folder of its media.
        media: Column of the media: of videos if there is one, else of sounds.
        texts: Its columns of captions, labels and licences.
        classes: Names of the classes of a column of numbers.
    """

    path: Path
    name: str
    media: str
    texts: tuple[str, ...]
    classes: Mapping[str, tuple[str, ...]]

    def stem(self, number: int) -> str:
        """Path of a row's media file without suffix, below the media folder; rows count from 1."""
        return f"{self.name}/{number:07d}"


def hub_tables(published: Path) -> Iterator[HubTable]:
    """Read the schemas of the Parquet files of a folder, or of one file.

    Raises:
        UserError: There is none, or one has no column of media.
        ConfigError: A file is no Parquet file.
    """
    for path in rows.find_published(published, "*.parquet", wanted="Parquet files of the Hub"):
        inside = path.relative_to(published) if published.is_dir() else Path(path.name)
        yield _table(path, "-".join(inside.with_suffix("").parts))


def _table(path: Path, name: str) -> HubTable:
    import pyarrow.parquet as pq

    with arrow_file(path, "a Parquet file"), pq.ParquetFile(path) as file:
        schema = file.schema_arrow
    features = _features(schema)
    media = {
        field.name: str(features.get(field.name, {}).get("_type", "Audio"))
        for field in schema
        if pa.types.is_struct(field.type)
        and {"bytes", "path"} <= {field.type.field(k).name for k in range(field.type.num_fields)}
    }
    chosen = [c for kind in ("Video", "Audio") for c, is_of in media.items() if is_of == kind]
    if not chosen:
        raise UserError(
            f"{path}: no column of sounds or videos (a struct of bytes and path); it has "
            f"{', '.join(schema.names)[:200]}"
        )
    known = (*_CAPTIONS, *_LABELS, *_LICENCES)
    return HubTable(
        path=path,
        name=name,
        media=chosen[0],
        texts=tuple(column for column in schema.names if column in known),
        classes={column: names for column in _LABELS if (names := _classes(features, column))},
    )


def _features(schema: pa.Schema) -> Mapping[str, Any]:
    """The types that `datasets` gives the columns; none if a file is from elsewhere."""
    found: Any = {}
    with suppress(ValueError, TypeError, KeyError):
        found = loads((schema.metadata or {})[b"huggingface"].decode())["info"]["features"]
    if not isinstance(found, Mapping):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, Mapping)}


def _classes(features: Mapping[str, Any], column: str) -> tuple[str, ...]:
    feature = features.get(column, {})
    inner = feature.get("feature", feature)  # of a list
    names = inner.get("names") if isinstance(inner, Mapping) else None
    return tuple(str(name) for name in names) if isinstance(names, list) else ()


def read(published: Path) -> Iterator[rows.Item]:
    """Read the texts of every row.

    Raises:
        UserError: A table has neither captions nor labels.
    """
    for table in hub_tables(published):
        if not table.texts:
            known = ", ".join((*_CAPTIONS, *_LABELS))
            raise UserError(f"{table.path}: no column of captions or labels; known: {known}")
        found = enumerate(parquet_rows(table.path, columns=table.texts), start=1)
        lines = (Line(number=number, cells={**row, _NUMBER: number}) for number, row in found)
        yield from rows.drafts(table.path, lines, partial(_draft, table))


def _draft(table: HubTable, row: Mapping[str, Any]) -> rows.Draft:
    number = row[_NUMBER]

    def words(columns: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(w for c in columns for w in _words(row.get(c), c, table.classes.get(c, ())))

    captions, labels = words(_CAPTIONS), words(_LABELS)
    if not captions and not labels:
        raise ValueError("neither a caption nor a label")
    return rows.Draft(
        clip_id=f"{table.name}-{number:07d}",
        split=_split(table),
        stems=(table.stem(number),),
        captions=captions,
        labels=labels,
        licence=", ".join(words(_LICENCES)),
    )


def _words(value: object, column: str, classes: tuple[str, ...]) -> Iterator[str]:
    """Yield the texts of a cell: one, a list of them, or numbers of classes."""
    if isinstance(value, list):
        for inner in value:
            yield from _words(inner, column, classes)
    elif isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < len(classes):
            raise ValueError(f"{column}: no class {value}; there are {len(classes)}")
        yield classes[value]
    elif isinstance(value, str):
        if text := " ".join(value.split()):
            yield text
    elif value is not None:
        raise ValueError(f"{column}: expected text, got {json.dumps(value, default=str)[:80]}")


def _split(table: HubTable) -> Split:
    """The split that the name of a file begins with, else that of its folder; else training."""
    for part in (table.path.stem, table.path.parent.name):
        word = re.split(r"[^a-z]", part.lower(), maxsplit=1)[0]
        if word in _SPLITS:
            return _SPLITS[word]
    return "train"
