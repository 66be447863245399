"""Tracks from published corpora and tables, and a track under another annotator's captions.

In:   clips of an imported corpus; a table with columns that the user names; a track.
Out:  a track.

AudioCaps has five captions per test clip: one is drawn by seed and id, all are kept with the
clip. Kling-Audio-Eval is read as a table (CSV, JSON Lines or Parquet) with the columns named by
the user: its published layout was not available when this was written.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from omni2sound.bench.tracks.scenes import CATALOGUE, RECORDINGS
from omni2sound.bench.tracks.track import TASKS, Track, TrackClip, TrackInfo, write_track
from omni2sound.data.corpora.manifest import Clip, read_manifest
from omni2sound.data.tables import Line, Problem, csv_lines, json_lines
from omni2sound.errors import UserError
from omni2sound.files import atomic_path
from omni2sound.generate.request import Task
from omni2sound.readers import parquet_rows
from omni2sound.weights import ATTRIBUTION_FILE

_MAX_ROWS = 1_000_000

VERSION = "1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Names of a table's columns."""

    clip_id: str = "id"
    caption: str = "caption"
    video: str | None = "video"
    audio: str | None = None


def build_corpus_track(
    name: str, clips: Sequence[Clip], media: Path, out: Path, *, clip_s: float, seed: int
) -> Track:
    """Build a track of an imported corpus, with one caption per clip.

    Args:
        name: Name of the track.
        clips: Clips; those without captions are left out.
        media: Folder of their media.
        out: Folder of the track; created if missing.
        clip_s: Duration of clips without one, in seconds.
        seed: Random seed for the choice of captions.

    Raises:
        UserError: No clip has a caption.
    """
    captioned = [c for c in sorted(clips, key=lambda c: c.clip_id) if c.captions]
    tasks: tuple[Task, ...] = TASKS if captioned and all(c.video for c in captioned) else ("T2A",)
    written = []
    for clip in captioned:
        digest = hashlib.sha256(f"{seed}/{clip.clip_id}".encode()).digest()
        at = int.from_bytes(digest[:8], "big") % len(clip.captions)
        written.append(
            TrackClip(
                clip_id=clip.clip_id,
                part="main",
                caption=clip.captions[at],
                duration_s=clip.duration_s or clip_s,
                audio=f"media:{clip.sound_file}",
                video=None if clip.video is None else f"media:{clip.video}",
                label=", ".join(clip.labels),
                origin={"source": clip.source, "captions": list(clip.captions), "caption": at},
            )
        )
    out.mkdir(parents=True, exist_ok=True)
    info = TrackInfo(name=name, version=VERSION, tasks=tasks, built={"seed": seed})
    return write_track(out, info, written, media=media)


def build_table_track(
    name: str,
    rows: Iterable[Mapping[str, Any]],
    media: Path,
    out: Path,
    *,
    columns: Columns,
    clip_s: float,
) -> Track:
    """Build a track of a table that names a file for each clip.

    Args:
        name: Name of the track.
        rows: Rows of the table.
        media: Folder that the table's paths are relative to.
        out: Folder of the track; created if missing.
        columns: Names of the columns.
        clip_s: Duration of each clip in seconds.

    Raises:
        UserError: A column or a file is missing; the message names the row.
    """
    written = []
    for number, row in enumerate(rows, start=1):
        wanted = [c for c in (columns.clip_id, columns.caption, columns.video, columns.audio) if c]
        absent = [c for c in wanted if not str(row.get(c) or "").strip()]
        if absent:
            raise UserError(f"row {number}: no {absent[0]!r}; it has {', '.join(map(str, row))}")
        video = None if columns.video is None else str(row[columns.video])
        audio = video if columns.audio is None else str(row[columns.audio])
        for path in (video, audio):
            if path is not None and not (media / path).is_file():
                raise UserError(f"row {number}: no file {media / path}")
        written.append(
            TrackClip(
                clip_id=str(row[columns.clip_id]),
                part="main",
                caption=str(row[columns.caption]).strip(),
                duration_s=clip_s,
                audio=f"media:{audio}",
                video=None if video is None else f"media:{video}",
            )
        )
    out.mkdir(parents=True, exist_ok=True)
    tasks: tuple[Task, ...] = TASKS if columns.video is not None else ("T2A",)
    info = TrackInfo(name=name, version=VERSION, tasks=tasks, built={"clip_s": clip_s})
    return write_track(out, info, written, media=media)


def build_recaptioned_track(
    track: Track, captions: Mapping[str, str], annotator: str, out: Path
) -> tuple[Track, tuple[str, ...]]:
    """Build a track of the same clips under another annotator's captions.

    Args:
        track: Source of the clips.
        captions: Captions by clip id.
        annotator: Author of the captions; part of the track's name.
        out: Folder of the new track; the old one's own files are linked or copied into it.

    Returns:
        The track, and the ids of clips without a caption, which are left out.

    Raises:
        UserError: No clip has a caption.
    """
    kept = [c for c in track.clips if captions.get(c.clip_id, "").strip()]
    left_out = tuple(c.clip_id for c in track.clips if not captions.get(c.clip_id, "").strip())
    if not kept:
        raise UserError(f"{annotator} has no caption of any clip of {track.folder}")
    out.mkdir(parents=True, exist_ok=True)
    owned = [p for c in kept for p in (c.audio, c.video, c.truth) if p and p.startswith("own:")]
    owned += [f"own:{CATALOGUE}", f"own:{ATTRIBUTION_FILE}"]
    recordings = track.folder / RECORDINGS
    if recordings.is_dir():
        owned += [f"own:{RECORDINGS}/{p.name}" for p in sorted(recordings.iterdir())]
    for stored in owned:
        source, target = track.path(stored), out / stored.removeprefix("own:")
        if source.is_file() and not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(target) as temporary:
                try:
                    os.link(source, temporary)
                except OSError:  # another file system, or one without links
                    shutil.copyfile(source, temporary)
    info = replace(
        track.info,
        name=f"{track.info.name}+captions-{annotator}",
        built={
            **track.info.built,
            "captions_by": annotator,
            "clips_of": track.clips_sha256,
            "left_out": list(left_out),
        },
    )
    clips = [
        replace(
            c,
            caption=captions[c.clip_id].strip(),
            origin={**c.origin, "caption_before": c.caption},
        )
        for c in kept
    ]
    return write_track(out, info, clips, media=track.media), left_out


def read_table(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a CSV, JSON Lines or Parquet file.

    Raises:
        UserError: The file is of another kind, or can't be read.
    """
    try:
        rows = list(islice(_rows(path), _MAX_ROWS + 1))
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error})") from None
    if len(rows) > _MAX_ROWS:
        raise UserError(f"{path}: more than {_MAX_ROWS} rows; expected the table of a benchmark")
    return rows


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        yield from map(_cells, csv_lines(path, strip=False))
    elif suffix == ".jsonl":
        yield from map(_cells, json_lines(path))
    elif suffix == ".parquet":
        yield from parquet_rows(path)
    else:
        raise UserError(f"{path}: expected a .csv, .jsonl or .parquet file")


def _cells(line: Line | Problem) -> dict[str, Any]:
    """Return the cells of a row; a damaged one is refused, since a track has all rows."""
    if isinstance(line, Problem):
        raise UserError(f"{line.file}:{line.line}: {line.reason}")
    return dict(line.cells)


def read_caption_rows(path: Path) -> dict[str, dict[str, Any]]:
    """Read captions by clip from a manifest or from a table with `name` and `caption`.

    Raises:
        UserError: The file is neither.
    """
    rows = read_table(path)
    if path.suffix == ".jsonl" and rows and "omni2sound_manifest" in rows[0]:
        clips = read_manifest(path).clips
        return {c.clip_id: {"caption": c.captions[0]} for c in clips if c.captions}
    for number, row in enumerate(rows, start=1):
        if not row.get("name") or "caption" not in row:
            raise UserError(f"{path}: row {number}: expected the columns name and caption")
    return {str(row["name"]): row for row in rows}
