"""FSD50K: sounds of Freesound, 0.3 to 30 s, with labels of the AudioSet ontology.

In:   `FSD50K.ground_truth/dev.csv` ("fname,labels,mids,split" with train and val) and
      `eval.csv` ("fname,labels,mids"); labels as one quoted cell ("Purr,Domestic_animals").
      `FSD50K.metadata/{dev,eval}_clips_info_FSD50K.json`: by file name an object with
      "license" and "uploader".
Out:  drafts; the evaluation set is the test split. Media are `<fname>.wav`, those of either set in
      a folder of its own.

Source: https://zenodo.org/records/4060432; Fonseca et al. 2022, arXiv:2010.00475. Licence and
author of each sound are in the metadata; some are non-commercial.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from omni2sound.data.corpora import rows
from omni2sound.data.corpora.manifest import Split
from omni2sound.data.tables import csv_lines
from omni2sound.errors import UserError
from omni2sound.readers import as_object, read_object

_ROW = re.compile(r"\d+,")
_FOLDER_WORDS = {
    "dev": frozenset(["dev", "development"]),
    "eval": frozenset(["eval", "evaluation"]),
}
_SPLITS: Mapping[str, Split] = {"train": "train", "val": "val"}


def read(published: Path) -> Iterator[rows.Item]:
    """Read every clip of both sets."""
    folder = published if published.is_dir() else published.parent
    wanted = "dev.csv and eval.csv of FSD50K.ground_truth"
    found = rows.find_published(published, "*.csv", wanted=wanted)
    tables = [p for p in found if p.stem in ("dev", "eval")]
    if not tables:
        raise UserError(f"{published}: no dev.csv or eval.csv in it; expected {wanted}")
    for path in tables:
        parse = partial(_draft, path.stem, _clips_info(folder, path.stem))
        yield from rows.drafts(path, csv_lines(path, record_start=_ROW), parse)


def _clips_info(folder: Path, name: str) -> Mapping[str, Any]:
    for path in folder.rglob(f"{name}_clips_info_FSD50K.json"):
        return {k: as_object(v, f"{path}: {k}") for k, v in read_object(path).items()}
    return {}


def _draft(table: str, info: Mapping[str, Any], row: Mapping[str, Any]) -> rows.Draft:
    name = row["fname"]
    if not name.isdigit():
        raise ValueError(f"fname: expected a number of Freesound, got {name!r}")
    split = _SPLITS.get(row["split"]) if table == "dev" else "test"
    if split is None:
        raise ValueError(f"split: expected train or val, got {row['split']!r}")
    labels = tuple(part.strip().replace("_", " ") for part in row["labels"].split(","))
    if not all(labels):
        raise ValueError("labels: empty label")
    about = info.get(name, {})
    return rows.Draft(
        clip_id=name,
        split=split,
        stems=(name,),
        folder_words=_FOLDER_WORDS[table],
        other_folder_words=_FOLDER_WORDS["eval" if table == "dev" else "dev"],
        labels=labels,
        source=f"freesound:{name}",
        licence=str(about.get("license", "")),
        author=str(about.get("uploader", "")),
    )
