"""MusicCaps: captions that musicians wrote for ten seconds of AudioSet's music.

In:   `musiccaps-public.csv`: "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,
      author_id,is_balanced_subset,is_audioset_eval".
Out:  drafts; clips of AudioSet's evaluation set are test clips. Files are found as for AudioSet.

Source: https://www.kaggle.com/datasets/googleai/musiccaps; Agostinelli et al. 2023,
arXiv:2301.11325. The aspects ("low quality", "sad piano") describe style and no sources of sound,
so they are no labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omni2sound.data.corpora import rows
from omni2sound.data.tables import csv_lines

_TRUTHS = {"true": True, "false": False}


def read(published: Path) -> Iterator[rows.Item]:
    """Read every row of the table."""
    for path in rows.find_published(published, "musiccaps*.csv", wanted="musiccaps-public.csv"):
        yield from rows.drafts(path, csv_lines(path), _draft)


def _draft(row: Mapping[str, Any]) -> rows.Draft:
    video = rows.youtube_id(row["ytid"])
    start = rows.number(row["start_s"], "start_s")
    end = rows.number(row["end_s"], "end_s")
    held_out = _TRUTHS.get(row["is_audioset_eval"].strip().lower())
    if held_out is None:
        raise ValueError(
            f"is_audioset_eval: expected True or False, got {row['is_audioset_eval']!r}"
        )
    if end <= start:
        raise ValueError(f"end_s: expected more than start_s, got {end:g} after {start:g}")
    if not row["caption"]:
        raise ValueError("caption: empty")
    return rows.Draft(
        clip_id=f"{video}_{round(start * 1000)}",
        split="test" if held_out else "train",
        youtube_id=video,
        duration_s=end - start,
        captions=(row["caption"],),
        source=f"youtube:{video}",
        source_start_s=start,
        licence="captions CC BY-SA 4.0, video of its owner",
    )
