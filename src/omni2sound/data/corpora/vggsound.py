"""VGGSound: 10-second clips of YouTube videos with visible sources.

In:   `vggsound.csv`: no header; "YouTube ID, start seconds, label, train/test split".
Out:  drafts named as the media of the project's own archives, `<id>_<start, six digits>`; files
      are found by YouTube id and times (`finding.names`).

Source: https://www.robots.ox.ac.uk/~vgg/data/vggsound/ and the dataset card
https://huggingface.co/datasets/Loie/VGGSound; Chen et al. 2020, arXiv:2004.14368. The
annotations are CC BY 4.0, the videos remain their owners'.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omni2sound.data.corpora import rows
from omni2sound.data.tables import csv_lines

CLIP_S = 10.0
_COLUMNS = ("YouTube ID", "start seconds", "label", "split")
_ROW = re.compile(r"[\w-]{11},\d+,")


def read(published: Path) -> Iterator[rows.Item]:
    """Read every row of the table."""
    for path in rows.find_published(published, "vggsound*.csv", wanted="vggsound.csv"):
        yield from rows.drafts(path, csv_lines(path, _COLUMNS, record_start=_ROW), _draft)


def _draft(row: Mapping[str, Any]) -> rows.Draft:
    video, start = (
        rows.youtube_id(row["YouTube ID"]),
        rows.number(row["start seconds"], "start seconds"),
    )
    if row["split"] not in ("train", "test"):
        raise ValueError(f"split: expected train or test, got {row['split']!r}")
    if not row["label"]:
        raise ValueError("label: empty")
    name = f"{video}_{int(start):06d}"
    return rows.Draft(
        clip_id=name,
        split="train" if row["split"] == "train" else "test",
        youtube_id=video,
        duration_s=CLIP_S,
        labels=(row["label"],),
        source=f"youtube:{video}",
        source_start_s=start,
        licence="annotation CC-BY-4.0, video of its owner",
    )
