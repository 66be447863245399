"""Manifests: the clips of a corpus, their captions and sources, in one format.

    {"omni2sound_manifest": 1, "media": "media"}
    {"clip_id": "---g-f_I2yQ_000001", "corpus": "vggsound", "split": "test", "video": ...}
    ...

In:   clips, from an importer, from annotation, or made by hand; the folder of their media.
Out:  a JSON Lines file as above.

What not to get wrong: paths are relative to the media folder and never lead out of it, so a foreign
manifest cannot name other files. The media folder is relative to the manifest if one holds the
other, so that both can move together; one that lies elsewhere is said when it is read.
"""

from __future__ import annotations

import json
import logging
import os
from array import array
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

import numpy as np

from omni2sound.config import from_json
from omni2sound.errors import ConfigError, UserError
from omni2sound.files import atomic_path
from omni2sound.readers import parse_json, real_path, text_lines

_log = logging.getLogger(__name__)
_told: set[tuple[Path, Path]] = set()

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
FORMAT = 1
_HEADER = "omni2sound_manifest"


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """One clip of sound, with or without pictures.

    Attributes:
        clip_id: Unique in its corpus.
        corpus: Name of the corpus.
        split: "train", "val" or "test".
        audio: Sound file, relative to the media folder; None: the video's own sound.
        video: Video file, relative to the media folder; None: sound only.
        start_s: Start of the clip in those files.
        duration_s: Length of the clip; None: to the end of the file.
        captions: Captions of what is heard.
        audio_captions: Captions by ear alone.
        labels: Classes that are heard, as words.
        source: Source of the file, e.g. "youtube:dQw4w9WgXcQ", "freesound:1234".
        source_start_s: Start of the clip in that source; None if unknown.
        licence: Licence of the sound, as the corpus states it.
        author: Author of the sound.
        quality: Score of how well sound and caption agree (higher is better), or None.

    Raises:
        ConfigError: If a field is invalid.
    """

    clip_id: str
    corpus: str
    split: Split
    audio: str | None = None
    video: str | None = None
    start_s: float = 0.0
    duration_s: float | None = None
    captions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    source: str = ""
    source_start_s: float | None = None
    licence: str = ""
    author: str = ""
    quality: float | None = None
    audio_captions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.clip_id:
            raise ConfigError("clip_id is empty; each clip needs a name")
        if self.split not in SPLITS:
            raise ConfigError(f"split {self.split!r}: expected one of {', '.join(SPLITS)}")
        if self.audio is None and self.video is None:
            raise ConfigError("neither audio nor video is given")
        for path in (self.audio, self.video):
            if path is not None and (
                not path
                or "\0" in path
                or PurePosixPath(path).is_absolute()
                or ".." in PurePosixPath(path).parts
            ):
                raise ConfigError(f"path {path!r}: expected one below the media folder")
        if not self.start_s >= 0:
            raise ConfigError(f"start_s={self.start_s}: expected 0 or more seconds")
        if self.duration_s is not None and not self.duration_s > 0:
            raise ConfigError(f"duration_s={self.duration_s}: expected more than 0 seconds")

    @property
    def sound_file(self) -> str:
        """File with the clip's sound, relative to the media folder."""
        path = self.audio or self.video
        assert path is not None  # refused above
        return path


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The clips of a corpus and the folder of their media."""

    path: Path
    media: Path
    clips: tuple[Clip, ...]

    def of_split(self, split: Split) -> tuple[Clip, ...]:
        """Select the clips of one split, in order.

        Raises:
            UserError: If there are none.
        """
        chosen = tuple(c for c in self.clips if c.split == split)
        if not chosen:
            there = sorted({c.split for c in self.clips})
            raise UserError(f"{self.path}: no clips in split {split!r}; it has {', '.join(there)}")
        return chosen


_FIELDS = {f.name: f for f in fields(Clip)}
_LISTS = ("captions", "labels", "audio_captions")


def tell_media_outside(file: Path, media: Path) -> None:
    """Say once that the media that a file names lie outside its folder; it may be a stranger's."""
    media = real_path(media)
    if not media.is_relative_to(real_path(file.parent)) and (file, media) not in _told:
        _told.add((file, media))
        _log.info("%s: its media lie outside its folder, in %s", file, media)


def clip_to_json(clip: Clip) -> dict[str, Any]:
    """Return the fields that differ from their default."""
    return {
        name: list(value) if name in _LISTS else value
        for name, field in _FIELDS.items()
        if (value := getattr(clip, name)) != field.default
    }


def write_manifest(path: Path, clips: Iterable[Clip], *, media: Path) -> None:
    """Write a manifest whole or not at all; an existing one is replaced."""
    folder, media = real_path(path.parent), real_path(media)
    near = media.is_relative_to(folder) or folder.is_relative_to(media)
    shown = Path(os.path.relpath(media, folder)) if near else media
    header = {_HEADER: FORMAT, "media": shown.as_posix()}
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for line in (header, *map(clip_to_json, clips)):
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_manifest(path: Path) -> Manifest:
    """Read a manifest strictly.

    Raises:
        UserError: If the file does not exist or is no manifest.
        ConfigError: If a line is malformed; the message names file and line.
    """
    media, lines = _open(path)
    clips = tuple(_lines(path, lines))
    _check_unique(path, clips)
    return Manifest(path=path, media=media, clips=clips)


def manifest_media(path: Path) -> Path:
    """Read the first line of a manifest; return the folder of its media.

    Raises:
        UserError: If the file does not exist or is no manifest.
        ConfigError: If the line is malformed.
    """
    return _open(path)[0]


def iter_clips(path: Path) -> Iterator[Clip]:
    """Yield the clips of a manifest, one in memory at a time; one that is there twice comes twice.

    Raises:
        UserError: If the file does not exist or is no manifest.
        ConfigError: If a line is malformed.
    """
    yield from _lines(path, _open(path)[1])


def count_clips(path: Path) -> int:
    """Check a manifest as `read_manifest` does, a line at a time, and count its clips.

    Raises:
        UserError: If the file does not exist or is no manifest.
        ConfigError: If a line is malformed, or a clip is there twice.
    """
    hashes = array("q", (hash((c.corpus, c.clip_id)) for c in iter_clips(path)))
    ordered = np.sort(np.frombuffer(hashes, np.int64)) if hashes else np.empty(0, np.int64)
    twice = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    if twice:  # seldom the hashes of two names
        _check_unique(path, iter_clips(path), of=twice)
    return len(hashes)


def parse_clip(line: str | bytes, where: str) -> Clip:
    """Read a clip from its line of a manifest.

    Raises:
        ConfigError: It is malformed; the message names `where` it stands.
    """
    data = parse_json(line.decode() if isinstance(line, bytes) else line, where)
    try:
        return from_json(Clip, data, where="clip")
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _open(path: Path) -> tuple[Path, Iterator[str]]:
    """Return the media folder and the lines of the clips."""
    if not path.is_file():
        raise UserError(f"{path}: no such manifest; make one with: omni2sound data import")
    lines = text_lines(path, encoding="utf-8-sig")
    header = parse_json(next(lines, ""), f"{path}:1")
    if not isinstance(header, Mapping) or header.get(_HEADER) != FORMAT:
        hint = ""
        if isinstance(header, Mapping) and "events" in header:
            folder = path.parent
            hint = (
                "; these are scenes, make one with: "
                f"omni2sound data import scenes {folder} --media {folder} -o clips.jsonl"
            )
        raise UserError(f"{path}: not a manifest of format {FORMAT}{hint}")
    media = header.get("media")
    if not isinstance(media, str) or "\0" in media:
        raise ConfigError(f"{path}:1: media: expected a folder, got {repr(media)[:80]}")
    tell_media_outside(path, path.parent / media)
    return real_path(path.parent / media), lines


def _check_unique(
    path: Path,
    clips: Iterable[Clip],
    *,
    of: Container[int] | None = None,
) -> None:
    """Refuse a clip that is there twice; with `of` only clips with these hashes are looked at."""
    seen: dict[tuple[str, str], int] = {}
    for line, clip in enumerate(clips, start=2):
        name = (clip.corpus, clip.clip_id)
        if of is None or hash(name) in of:
            before = seen.setdefault(name, line)
            if before != line:
                raise ConfigError(f"{path}:{line}: clip {clip.clip_id!r} is in line {before} too")


def _lines(path: Path, file: Iterable[str]) -> Iterator[Clip]:
    for number, line in enumerate(file, start=2):
        yield parse_clip(line, f"{path}:{number}")
