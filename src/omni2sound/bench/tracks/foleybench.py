"""A track from FoleyBench's Parquet files: videos as text in a column, a caption for each.

In:   Parquet files with the columns `video_data` (a video in base64), `caption` and perhaps
      categories, as FoleyBench/foleybench on the Hub has them.
Out:  videos as files and a table of captions, in one folder; a `folder` track of them.

What not to get wrong: the data set is gated and was not seen by us. Two columns are those of its
own example of use; that of categories is looked for under several names, or named by the caller.
A video that is there already stays only if it is the row's, byte for byte: rows are told apart by
their number alone, and another release may have another order.
"""

from __future__ import annotations

import base64
import binascii
import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from omni2sound.bench.tracks.folder import FolderReport, build_folder_track
from omni2sound.data.corpora.rows import find_published
from omni2sound.errors import UserError
from omni2sound.files import atomic_path
from omni2sound.readers import arrow_file, parquet_rows

VIDEO, CAPTION = "video_data", "caption"
CATEGORIES = ("ucs_category", "ucs", "category", "label")
_TABLE = "captions.csv"


def build_foleybench_track(
    published: Path,
    media: Path,
    out: Path,
    *,
    category: str | None = None,
    max_s: float = 10.0,
    on_clip: Callable[[int, int], None] | None = None,
) -> FolderReport:
    """Write the videos as files and build a track of them.

    Args:
        published: Folder of the Parquet files, or one.
        media: Folder of the videos; created if missing. Of an earlier build, videos that are the
            same stay, others are replaced.
        out: Folder of the track.
        category: Column of the categories. Default: the first of `CATEGORIES` that there is.
        max_s: Longest clip in seconds.
        on_clip: Called with clips read and in all.

    Raises:
        UserError: There is no Parquet file, a column is missing, or no clip can be used.
        ConfigError: A file is no Parquet file, or damaged.
    """
    if category in (VIDEO, CAPTION):
        raise UserError(f"expected a column of categories, got {category!r}", field="category")
    paths = find_published(published, "*.parquet", wanted="FoleyBench's Parquet files")
    labels_of = {path: _category_of(path, category) for path in paths}
    media.mkdir(parents=True, exist_ok=True)
    left_out: list[tuple[str, str]] = []
    number = 0
    with (
        atomic_path(media / _TABLE) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        table = csv.writer(file)
        table.writerow(["file_name", "caption", "category"])
        for path, labels in labels_of.items():
            wanted = [VIDEO, CAPTION, *([labels] if labels else [])]
            for row in parquet_rows(path, columns=wanted, rows_at_once=1):
                number += 1
                name = f"{number:07d}.mp4"
                if reason := _write(row[VIDEO], media / name):
                    left_out.append((name.removesuffix(".mp4"), reason))
                    continue
                text = " ".join(str(row[CAPTION] or "").split())
                table.writerow([name, text, row[labels] if labels else ""])
        if len(left_out) == number:
            first = f"; the first: {': '.join(left_out[0])}" if left_out else ""
            raise UserError(f"{published}: {number} rows, and none has a video{first}")
    made = build_folder_track(
        "foleybench", media, out, table=media / _TABLE, max_s=max_s, on_clip=on_clip
    )
    return replace(made, left_out=(*left_out, *made.left_out))


def _category_of(path: Path, category: str | None) -> str | None:
    with arrow_file(path, "a Parquet file"), pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
    needed = [VIDEO, CAPTION, *([category] if category else [])]
    if missing := [name for name in needed if name not in names]:
        raise UserError(f"{path}: no column {missing[0]!r}; it has {', '.join(names)[:300]}")
    return category or next((name for name in CATEGORIES if name in names), None)


def _write(data: Any, target: Path) -> str:
    """Write a video, unless it is there; return why it can't be."""
    if not data:
        return "has no video"
    if not isinstance(data, str | bytes):
        return f"its video is no text in base64, but {type(data).__name__}"
    text = data if isinstance(data, bytes) else data.encode()
    try:
        video = base64.b64decode(text.translate(None, b"\r\n"), validate=True)
    except binascii.Error:
        return "its video is not in base64"
    if not (target.is_file() and target.read_bytes() == video):
        with atomic_path(target) as temporary:
            temporary.write_bytes(video)
    return ""
