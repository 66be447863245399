"""Clotho: sounds of Freesound, 15 to 30 s, each with five captions.

In:   `clotho_captions_<split>.csv`: "file_name,caption_1,...,caption_5", and
      `clotho_metadata_<split>.csv`: "file_name,keywords,sound_id,sound_link,
      start_end_samples,manufacturer,license", keywords parted by ";", the samples as
      "[first, last]" at 44.1 kHz. Splits: development, validation, evaluation.
Out:  drafts; development is the training split.

Lines of the metadata of version 2.1 that are not UTF-8 are read as Latin-1.

Source: https://zenodo.org/records/4783391; Drossos et al. 2020, arXiv:1910.09387. Licence and
author of each sound are in the metadata.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from omni2sound.data.corpora import rows
from omni2sound.data.corpora.manifest import Split
from omni2sound.data.tables import Line, Problem, csv_lines

_SPLITS: Mapping[str, Split] = {"development": "train", "validation": "val", "evaluation": "test"}
_RATE_HZ = 44_100


def read(published: Path) -> Iterator[rows.Item]:
    """Read every sound of the splits in the folder."""
    wanted = "clotho_captions_development.csv and others"
    for path in rows.find_published(published, "clotho_captions_*.csv", wanted=wanted):
        name = path.stem.removeprefix("clotho_captions_")
        if name not in _SPLITS:
            yield Problem(file=path.name, line=1, reason=f"unknown split {name!r}")
            continue
        about: dict[str, Mapping[str, Any]] = {}
        metadata = path.with_name(f"clotho_metadata_{name}.csv")
        if metadata.is_file():
            for row in csv_lines(metadata, encodings=("utf-8-sig", "latin-1")):
                if isinstance(row, Line):
                    about[row.cells["file_name"]] = row.cells
                else:
                    yield row
        yield from rows.drafts(path, csv_lines(path), partial(_draft, _SPLITS[name], about))


def _draft(
    split: Split, about: Mapping[str, Mapping[str, Any]], row: Mapping[str, Any]
) -> rows.Draft:
    file = row["file_name"]
    captions = tuple(dict.fromkeys(c for k, c in row.items() if k.startswith("caption_") and c))
    if not file or not captions:
        raise ValueError("file_name or captions: empty")
    more = about.get(file, {})
    span = re.fullmatch(r"\[(\d+), *(\d+)\]", more.get("start_end_samples", ""))
    sound_id = more.get("sound_id", "")
    return rows.Draft(
        clip_id=Path(file).stem,
        split=split,
        stems=(Path(file).stem,),
        captions=captions,
        labels=tuple(k.strip() for k in more.get("keywords", "").split(";") if k.strip()),
        source=f"freesound:{sound_id}" if sound_id.isdigit() else "",
        source_start_s=int(span[1]) / _RATE_HZ if span else None,
        licence=more.get("license", ""),
        author=more.get("manufacturer", ""),
    )
