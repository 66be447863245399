"""VGGSound-TVC: videos with a text that agrees with them, or contradicts them more and more.

In:   the published table (tab-separated), a level.
Out:  drafts of VGGSound's clips, with the level's text as caption and the published label.

One level makes one track: L0 agrees, L1-subject and L1-action change who sounds or how, L2 is of
another kind with a similar rhythm, L3 is a random label. What not to get wrong: the real sound
fits L0 only, so distances to it say how far a system leaves the picture, not how good it is.

Source: github.com/xiaomi-research/controlfoley, VGGSound-TVC/conflict_dataset_full.tsv: 5,001
videos of VGG-SS, texts by a language model. For research and evaluation only, by its README.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from omni2sound.data.corpora import rows
from omni2sound.data.corpora.rows import Draft, Item
from omni2sound.data.tables import Line, Problem
from omni2sound.errors import UserError
from omni2sound.readers import read_text

Level = Literal["L0", "L1-subject", "L1-action", "L2", "L3"]
COLUMNS = (
    "video_id",
    "label_L0_raw",
    "label_L0",
    "label_L1_subject",
    "label_L1_action",
    "label_L2",
    "label_L3",
)
CLIP_S = 10.0
_ID = re.compile(r"([\w-]{11})_(\d{6})")


def read_tvc(table: Path, level: Level) -> Iterator[Item]:
    """Read every row of the table.

    Raises:
        UserError: It has other columns.
    """
    lines = read_text(table).splitlines()
    header = tuple(lines[0].split("\t")) if lines else ()
    if header != COLUMNS:
        raise UserError(
            f"{table}: expected the columns {', '.join(COLUMNS)}, tab-separated; got "
            f"{', '.join(header)[:200] or 'none'}"
        )
    column = f"label_{level.replace('-', '_')}"
    yield from rows.drafts(table, _lines(table.name, lines[1:]), lambda row: _draft(row, column))


def _lines(file: str, lines: list[str]) -> Iterator[Line | Problem]:
    for number, line in enumerate(lines, start=2):
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != len(COLUMNS) or not all(cells):
            reason = f"expected {len(COLUMNS)} cells with text, got {sum(map(bool, cells))}"
            yield Problem(file=file, line=number, reason=reason)
        else:
            yield Line(number=number, cells=dict(zip(COLUMNS, cells, strict=True)))


def _draft(row: Mapping[str, Any], column: str) -> Draft:
    found = _ID.fullmatch(row["video_id"])
    if found is None:
        raise ValueError(f"video_id {row['video_id']!r}: expected ID_SSSSSS as in VGGSound")
    return Draft(
        clip_id=found[0],
        split="test",
        youtube_id=found[1],
        duration_s=CLIP_S,
        captions=(row[column],),
        labels=(row["label_L0_raw"],),
        source=f"youtube:{found[1]}",
        source_start_s=float(found[2]),
        licence="annotation for research only, video of its owner",
    )
