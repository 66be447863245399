"""AudioCaps: human captions of AudioSet segments.

In:   `train.csv`, `val.csv`, `test.csv`: "audiocap_id,youtube_id,start_time,caption", the first
      of which some copies lack; val and test have five rows, one a caption, for each segment.
Out:  drafts; rows of one segment become one clip with all of its captions (`assemble`). Files are
      found by YouTube id and times, or by the number of a row, `<audiocap_id>`.

Source: https://github.com/cdjkim/audiocaps, folders `dataset` and `dataset2.0`; Kim et al. 2019.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from omni2sound.data.corpora import rows
from omni2sound.data.corpora.manifest import SPLITS, Split
from omni2sound.data.tables import Problem, csv_lines
from omni2sound.errors import UserError

CLIP_S = 10.0
_ROW = re.compile(r"\d+,[\w-]{11},")


def read(published: Path) -> Iterator[rows.Item]:
    """Read every row of the tables in the folder."""
    wanted = "train.csv, val.csv, test.csv"
    tables = {p.stem: p for p in rows.find_published(published, "*.csv", wanted=wanted)}
    if not set(tables) & set(SPLITS):
        raise UserError(f"{published}: expected {wanted}, found {', '.join(sorted(tables))}")
    for name in sorted(set(tables) - set(SPLITS)):
        reason = f"is no split and was not read; expected {wanted}"
        yield Problem(file=tables[name].name, line=1, reason=reason)
    for split in SPLITS:
        if split in tables:
            lines = csv_lines(tables[split], record_start=_ROW)
            yield from rows.drafts(tables[split], lines, partial(_draft, split))


def _draft(split: Split, row: Mapping[str, Any]) -> rows.Draft:
    video, start = rows.youtube_id(row["youtube_id"]), rows.number(row["start_time"], "start_time")
    if not row["caption"]:
        raise ValueError("caption: empty")
    row_id = row.get("audiocap_id", "")
    return rows.Draft(
        clip_id=f"{video}_{round(start * 1000)}",
        split=split,
        youtube_id=video,
        stems=(row_id,) if row_id.isdigit() else (),
        duration_s=CLIP_S,
        captions=(row["caption"],),
        source=f"youtube:{video}",
        source_start_s=start,
        licence="captions for academic use, video of its owner",
    )
