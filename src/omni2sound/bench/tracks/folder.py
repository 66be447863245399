"""A track from a folder of clips: anybody's, or a benchmark's with categories such as FoleyBench's.

In:   a folder of videos or sounds; captions in a table or in text files beside them.
Out:  a track; a clip's label is its category.

    FOLDER/doors/creak.mp4       category "doors", clip "doors-creak"
    FOLDER/doors/creak.wav       its sound, if the video has none of its own
    FOLDER/doors/creak.txt       its caption, unless a table has it

A table (CSV, JSON Lines or Parquet) names a file in `file_name`, `file`, `path`, `name` or `id`,
with or without suffix and folder, and may have `category` or `label`, which go before the folder's
name. What not to get wrong: clips without sound or caption are left out and named, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omni2sound.bench.tracks.public import read_table
from omni2sound.bench.tracks.track import TASKS, Track, TrackClip, TrackInfo, write_track
from omni2sound.errors import ConfigError, MediaError, UserError
from omni2sound.generate.request import Task
from omni2sound.media.info import probe
from omni2sound.readers import read_text

VERSION = "1"
CATEGORIES = "category"
"""What labels of such a track are, in `TrackInfo.built["labels"]`; reports then have a table."""
_VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi")
_SOUNDS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a")
_FILE_COLUMNS = ("file_name", "file", "path", "name", "id")
_CAPTION_COLUMNS = ("caption", "text", "prompt", "description")
_CATEGORY_COLUMNS = ("category", "label")


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderReport:
    """What became of the files."""

    track: Track
    left_out: tuple[tuple[str, str], ...]
    """Clips that are not in the track, each with the reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Files:
    """The files of one clip, below the folder."""

    video: Path | None
    audio: Path | None


def build_folder_track(
    name: str,
    folder: Path,
    out: Path,
    *,
    table: Path | None = None,
    max_s: float = 10.0,
    on_clip: Callable[[int, int], None] | None = None,
) -> FolderReport:
    """Build a track of the clips in a folder.

    Args:
        name: Name of the track.
        folder: Videos and sounds, in any depth.
        out: Folder of the track, not inside of `folder`; created if missing.
        table: Captions and categories by file. Default: text files beside the clips.
        max_s: Longest clip in seconds; longer files are used from their beginning.
        on_clip: Called with files read and in all.

    Raises:
        UserError: The folder has no clips, none can be used, or the table has no captions.
    """
    clips = _clips_in(folder)
    rows = None if table is None else _rows_by_file(table)
    used: list[TrackClip] = []
    left_out: list[tuple[str, str]] = []
    for number, (stem, files) in enumerate(sorted(clips.items()), start=1):
        row = _row_of(rows, stem) if rows is not None else {}
        clip = _clip(folder, stem, files, row, max_s=max_s)
        if isinstance(clip, TrackClip):
            used.append(clip)
        else:
            left_out.append((stem, clip))
        if on_clip is not None:
            on_clip(number, len(clips))
    if not used:
        raise UserError(f"{folder}: no clip can be used; the first: {': '.join(left_out[0])}")
    tasks: tuple[Task, ...] = TASKS if all(clip.video for clip in used) else ("T2A",)
    built = {"labels": CATEGORIES, "max_s": max_s}
    out.mkdir(parents=True, exist_ok=True)
    info = TrackInfo(name=name, version=VERSION, tasks=tasks, built=built)
    return FolderReport(track=write_track(out, info, used, media=folder), left_out=tuple(left_out))


def _clips_in(folder: Path) -> dict[str, _Files]:
    """Find the clips of a folder: stems of paths below it, with "/"."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.rglob("*")):
        kind = next((k for k, s in _KINDS if path.suffix.lower() in s), None)
        if kind is None or not path.is_file():
            continue
        inside = path.relative_to(folder)
        files = found.setdefault(inside.with_suffix("").as_posix(), {})
        if kind in files:
            raise UserError(f"{folder}: {files[kind]} and {inside} are the {kind} of one clip")
        files[kind] = inside
    if not found:
        raise UserError(f"{folder}: no videos or sounds ({', '.join((*_VIDEOS, *_SOUNDS))})")
    return {
        stem: _Files(video=files.get("video"), audio=files.get("sound"))
        for stem, files in found.items()
    }


_KINDS = (("video", _VIDEOS), ("sound", _SOUNDS))


def _rows_by_file(table: Path) -> dict[str, Mapping[str, Any]]:
    """Read a table by the stems of its files."""
    rows = read_table(table)
    columns = [*rows[0]] if rows else []
    keys = [c for c in _FILE_COLUMNS if c in columns]
    if not keys or not any(c in columns for c in _CAPTION_COLUMNS):
        raise UserError(
            f"{table}: expected a column of files ({', '.join(_FILE_COLUMNS)}) and one of captions "
            f"({', '.join(_CAPTION_COLUMNS)}); it has {', '.join(map(str, columns)) or 'none'}"
        )
    found: dict[str, Mapping[str, Any]] = {}
    for number, row in enumerate(rows, start=1):
        stem = _stem(str(row.get(keys[0]) or ""))
        if stem in found:
            raise UserError(f"{table}: row {number}: {stem!r} stands in an earlier row, too")
        found[stem] = row
    return found


def _stem(file: str) -> str:
    path = Path(file)
    known = path.suffix.lower() in (*_VIDEOS, *_SOUNDS)
    return (path.with_suffix("") if known else path).as_posix()


def _row_of(rows: Mapping[str, Mapping[str, Any]], stem: str) -> Mapping[str, Any]:
    """Find a clip's row by its path below the folder, or by its name alone."""
    return rows.get(stem) or rows.get(stem.rpartition("/")[2]) or {}


def _clip(
    folder: Path, stem: str, files: _Files, row: Mapping[str, Any], *, max_s: float
) -> TrackClip | str:
    """Make a clip, or say why it can't be used."""
    beside = folder / f"{stem}.txt"
    caption = _first(row, _CAPTION_COLUMNS)
    if not caption and beside.is_file():
        caption = " ".join(read_text(beside).split())
    if not caption:
        return "has no caption"
    try:
        media = [probe(folder / path) for path in (files.audio, files.video) if path is not None]
        sounds = [info for info in media if info.audio is not None]
        if not sounds:
            return "has no sound"
        duration_s = min(max_s, *(float(info.duration_s) for info in media))
        sound = files.audio or files.video
        assert sound is not None  # a clip has one of them
        return TrackClip(
            clip_id=stem.replace("/", "-"),
            part="main",
            caption=caption,
            duration_s=duration_s,
            audio=f"media:{sound.as_posix()}",
            video=None if files.video is None else f"media:{files.video.as_posix()}",
            label=_first(row, _CATEGORY_COLUMNS) or stem.rpartition("/")[0],
        )
    except (MediaError, ConfigError) as error:
        return str(error)


def _first(row: Mapping[str, Any], columns: tuple[str, ...]) -> str:
    return next((text for c in columns if (text := str(row.get(c) or "").strip())), "")
