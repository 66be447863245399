"""Clotho: sounds of Freesound, 15 to 30 s, each with five captions.

In:   `clotho_captions_<split>.csv`: "file_name,caption_1,...,caption_5", and
      `clotho_metadata_<split>.csv`: "file_name,keywords,sound_id,sound_link,
      start_end_samples,manufacturer,license", keywords parted by ";", the samples as
      "[first, last]" at 44.1 kHz. Splits: development, validation, evaluation.
Out:  drafts; development is the training split.

Titles of Freesound are the names, blanks at their ends included, in the tables and on disk. A
title that two splits share is two sounds, in two folders; such clips are named SPLIT-TITLE.

Lines of the metadata of version 2.1 that are not UTF-8 are read as Latin-1.

Source: https://zenodo.org/records/4783391; Drossos et al. 2020, arXiv:1910.09387. Licence and
author of each sound are in the metadata.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from omni2sound.data.corpora import rows
from omni2sound.data.corpora.manifest import Split
from omni2sound.data.tables import Line, Problem, csv_lines
from omni2sound.errors import ConfigError

_SPLITS: Mapping[str, Split] = {"development": "train", "validation": "val", "evaluation": "test"}
_RATE_HZ = 44_100


_WORDS = {
    "development": frozenset(["development", "dev", "train", "training"]),
    "validation": frozenset(["validation", "val", "valid"]),
    "evaluation": frozenset(["evaluation", "eval", "test"]),
}
"""Words in names of the folders that people unpack the archives of a split to."""
_SUFFIX = re.compile(r"\.(wav|flac|mp3|ogg)$", re.IGNORECASE)


def read(published: Path) -> Iterator[rows.Item]:
    """Read every sound of the splits in the folder."""
    wanted = "clotho_captions_development.csv and others"
    found = rows.find_published(published, "clotho_captions_*.csv", wanted=wanted)
    # Splits share a few titles of different sounds.
    splits_of: Counter[str] = Counter()
    for path in found:
        lines = (x for x in csv_lines(path, strip=False) if isinstance(x, Line))
        splits_of.update({str(x.cells.get("file_name") or "") for x in lines})
    shared = frozenset(name for name, count in splits_of.items() if name and count > 1)
    for path in found:
        name = path.stem.removeprefix("clotho_captions_")
        if name not in _SPLITS:
            yield Problem(file=path.name, line=1, reason=f"unknown split {name!r}")
            continue
        about: dict[str, Mapping[str, Any]] = {}
        metadata = path.with_name(f"clotho_metadata_{name}.csv")
        if metadata.is_file():
            encodings = ("utf-8-sig", "latin-1")
            for row in csv_lines(metadata, encodings=encodings, strip=False):
                if isinstance(row, Problem):
                    yield row
                elif "file_name" not in row.cells:
                    raise ConfigError(f"{metadata}: expected a column file_name")
                else:
                    about[row.cells["file_name"]] = row.cells
        table = csv_lines(path, strip=False)
        yield from rows.drafts(path, table, partial(_draft, name, about, shared))


def _draft(
    name: str,
    about: Mapping[str, Mapping[str, Any]],
    shared: frozenset[str],
    row: Mapping[str, Any],
) -> rows.Draft:
    file = row["file_name"]
    cells = (c.strip() for k, c in row.items() if k.startswith("caption_"))
    captions = tuple(dict.fromkeys(c for c in cells if c))
    if not file.strip() or not captions:
        raise ValueError("file_name or captions: empty")
    more = about.get(file, {})
    span = re.fullmatch(r"\[(\d+), *(\d+)\]", more.get("start_end_samples", "").strip())
    sound_id = more.get("sound_id", "").strip()
    stem = _SUFFIX.sub("", file)
    return rows.Draft(
        clip_id=f"{name}-{stem}" if file in shared else stem,
        split=_SPLITS[name],
        stems=(stem.replace("/", "_"),),
        is_named_in_words=True,
        folder_words=_WORDS[name],
        other_folder_words=frozenset().union(*_WORDS.values()) - _WORDS[name],
        captions=captions,
        labels=tuple(k.strip() for k in more.get("keywords", "").split(";") if k.strip()),
        source=f"freesound:{sound_id}" if sound_id.isdigit() else "",
        source_start_s=int(span[1]) / _RATE_HZ if span else None,
        licence=more.get("license", "").strip(),
        author=more.get("manufacturer", "").strip(),
    )
