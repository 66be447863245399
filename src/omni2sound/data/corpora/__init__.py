"""Importers of public corpora: one module each, one manifest format for all.

In:   a folder (or file) as the project publishes it, and a folder of media.
Out:  `Draft`s of usable rows, and `Problem`s of the others.

Nothing is downloaded. What an importer knows of a format stands in its docstring, with the
page that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

from omni2sound.data.corpora.rows import Item
from omni2sound.plugins import Registry

__all__ = ["IMPORTERS", "Importer", "importer"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Importer:
    """How the published files of one corpus are read.

    Attributes:
        reads: The files, for `omni2sound data import list`.
        read: Takes the published folder (or file) and yields its rows.
    """

    reads: str
    read: Callable[[Path], Iterator[Item]]


def _read(name: str, published: Path) -> Iterator[Item]:
    yield from import_module(f"{__name__}.{name}").read(published)


_BUILT_IN = {
    "annotations": "what `omni2sound annotate` exports: a manifest or Parquet files",
    "audiocaps": "train.csv, val.csv, test.csv",
    "audioset": "*_segments.csv and class_labels_indices.csv",
    "clotho": "clotho_captions_*.csv and clotho_metadata_*.csv",
    "fma": "fma_metadata: tracks.csv and genres.csv",
    "fsd50k": "FSD50K.ground_truth and FSD50K.metadata",
    "hub": "Parquet files of the Hub, after `omni2sound data unpack`",
    "msd": "track_metadata.db or unique_tracks.txt; artist_term.db",
    "musiccaps": "musiccaps-public.csv",
    "scenes": "a folder made by `omni2sound scenes build`",
    "vggsound": "vggsound.csv",
    "wavcaps": "json_files",
}
IMPORTERS: Registry[Importer] = Registry(
    "importer",
    {n: Importer(reads=r, read=partial(_read, n)) for n, r in _BUILT_IN.items()},
    kind=Importer,
)


def importer(name: str) -> Callable[[Path], Iterator[Item]]:
    """The function that reads a corpus's published files.

    Raises:
        ConfigError: If there is none of this name.
    """
    return IMPORTERS.find(name).read
