"""A track: clips, captions and ground truth as versioned data that two people can reproduce.

    DIR/track.json      name, version, settings, digests of the two files below
    DIR/clips.jsonl     one line per clip: id, part, caption, paths of its files, origin
    DIR/digests.jsonl   one line per clip: sha256 of its video, sound and truth
    DIR/media.json      folder of media outside the track; differs between people

In:   clips chosen by a builder (`build_*`), or an existing folder.
Out:  the folder; `Track`.

What not to get wrong: there are two digests. Equal `clips_sha256` means the same clips, captions
and decisions; equal `media_sha256` means the same bytes too, which copies of one YouTube video
seldom are. Scores are comparable if both agree.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar, get_args

from omni2sound.config import from_json
from omni2sound.data.corpora.manifest import tell_media_outside
from omni2sound.errors import ConfigError, IntegrityError, UserError
from omni2sound.files import file_sha256, split_lines, write_json, write_text
from omni2sound.generate.request import Task
from omni2sound.readers import (
    MAX_TABLE_BYTES,
    as_object,
    parse_json,
    read_object,
    read_text,
    real_path,
)

TASKS: tuple[Task, ...] = ("VT2A", "V2A", "T2A")
"""In the order of reports."""
Part = Literal["main", "offscreen"]
PARTS: tuple[Part, ...] = get_args(Part)

FORMAT = 1
TRACK, CLIPS, DIGESTS, MEDIA = "track.json", "clips.jsonl", "digests.jsonl", "media.json"
_OWN, _MEDIA = "own:", "media:"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackClip:
    """One clip. Paths begin with "own:" (in the track) or "media:" (in its media folder).

    Raises:
        ConfigError: A field has an invalid value.
    """

    clip_id: str
    """Name of the clip's file in every system's folder."""
    part: Part
    """"main": every source is visible. "offscreen": some are not."""
    caption: str
    duration_s: float
    audio: str
    """The real sound; may be the audio stream of the video."""
    video: str | None = None
    truth: str | None = None
    """Exact events, for synthetic scenes."""
    label: str = ""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """Source, seeds, signal-to-noise ratio, decisions."""

    def __post_init__(self) -> None:
        name = self.clip_id
        if not name or name in (".", "..") or any(c in name for c in '/\\:\n"'):
            raise ConfigError(f"clip id {name!r}: expected a name that can be a file's")
        if not self.duration_s > 0:
            raise ConfigError(f"clip {name}: duration {self.duration_s} s; expected more than 0")
        if self.part not in PARTS:
            raise ConfigError(f"clip {name}: part {self.part!r}; expected main or offscreen")
        for path in (self.audio, self.video, self.truth):
            _check_path(path)


def _check_path(path: str | None) -> None:
    if path is None:
        return
    root, colon, below = path.partition(":")
    pure = PurePosixPath(below)
    if f"{root}{colon}" not in (_OWN, _MEDIA) or pure.is_absolute() or ".." in pure.parts:
        raise ConfigError(f"path {path!r}: expected own:... or media:..., and nothing above it")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipDigests:
    """SHA-256 of a clip's files."""

    clip_id: str
    audio: str
    video: str | None = None
    truth: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackInfo:
    """Name, version and settings of a track."""

    name: str
    """"stage-omni", "vggsound-omni", ..."""
    version: str
    """Version of the rules that build it."""
    tasks: tuple[Task, ...] = TASKS
    built: Mapping[str, Any] = field(default_factory=dict)
    """Seeds, thresholds, models, digests of the sources."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Track:
    """A track on disk."""

    folder: Path
    media: Path | None
    info: TrackInfo
    clips: tuple[TrackClip, ...]
    digests: Mapping[str, ClipDigests]
    clips_sha256: str
    media_sha256: str

    @property
    def has_truth(self) -> bool:
        """Whether every clip has exact events, as in synthetic scenes."""
        return all(clip.truth is not None for clip in self.clips)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Parts with at least one clip."""
        return tuple(p for p in PARTS if any(c.part == p for c in self.clips))

    def path(self, stored: str) -> Path:
        """Resolve a clip's path.

        Raises:
            UserError: The track's media folder is not known here.
        """
        if stored.startswith(_OWN):
            return self.folder / stored.removeprefix(_OWN)
        if self.media is None:
            raise UserError(f"{self.folder / MEDIA}: is missing; it holds the folder of the media")
        return self.media / stored.removeprefix(_MEDIA)

    def limited(self, limit: int | None) -> Track:
        """Keep the first clips only.

        Raises:
            UserError: The limit is below 1.
        """
        if limit is None or limit >= len(self.clips):
            return self
        if limit < 1:
            raise UserError(f"expected 1 clip or more, got {limit}", field="limit")
        return replace(self, clips=self.clips[:limit])

    @property
    def identity(self) -> dict[str, Any]:
        """Name, version, digests and numbers of clips, for reports."""
        return {
            "name": self.info.name,
            "version": self.info.version,
            "clips_sha256": self.clips_sha256,
            "media_sha256": self.media_sha256,
            "num_clips": len(self.clips),
            "num_by_part": {p: sum(c.part == p for c in self.clips) for p in self.parts},
        }


def write_track(
    folder: Path,
    info: TrackInfo,
    clips: Iterable[TrackClip],
    *,
    media: Path | None = None,
) -> Track:
    """Hash every clip's files and write the four files; `track.json` last.

    Args:
        folder: Already holds the track's own media.
        info: Name, version and settings.
        clips: Clips in order; a limit keeps the first.
        media: Folder of media outside the track. Default: none.

    Raises:
        UserError: There are no clips, or a file is missing.
        ConfigError: Two clips share an id.
    """
    clips = tuple(clips)
    if not clips:
        raise UserError(f"{folder}: a track needs at least one clip; none was left")
    ids = [clip.clip_id for clip in clips]
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise ConfigError(f"clip id {twice!r} is used twice")
    track = Track(
        folder=folder,
        media=None if media is None else real_path(media),
        info=info,
        clips=clips,
        digests={},
        clips_sha256="",
        media_sha256="",
    )
    digests = [_digests(track, clip) for clip in clips]
    lines = "".join(json_line(asdict(clip)) for clip in clips)
    hashes = "".join(json_line(asdict(d)) for d in digests)
    header = {
        "omni2sound_track": FORMAT,
        **asdict(info),
        "num_clips": len(clips),
        "clips_sha256": _sha256(lines),
        "media_sha256": _sha256(hashes),
    }
    write_text(folder / CLIPS, lines)
    write_text(folder / DIGESTS, hashes)
    if media is not None:
        write_text(folder / MEDIA, json_line({"media": str(real_path(media))}))
    write_json(folder / TRACK, header)
    return read_track(folder)


def read_track(folder: Path) -> Track:
    """Read and verify a track.

    Raises:
        UserError: The folder holds no track.
        ConfigError: A line is malformed.
        IntegrityError: A file was changed.
    """
    if not (folder / TRACK).is_file():
        raise UserError(f"{folder}: holds no track; make one with: omni2sound bench build")
    header = _json(folder / TRACK, read_text(folder / TRACK))
    if header.get("omni2sound_track") != FORMAT:
        raise ConfigError(f"{folder / TRACK}: not a track of format {FORMAT}")
    texts = {}
    for name, key in ((CLIPS, "clips_sha256"), (DIGESTS, "media_sha256")):
        texts[name] = read_text(folder / name, max_bytes=MAX_TABLE_BYTES)
        if _sha256(texts[name]) != header.get(key):
            raise IntegrityError(f"{folder / name}: changed since the track was built; build again")
    clips = [_record(TrackClip, folder / CLIPS, line) for line in split_lines(texts[CLIPS])]
    digests = [_record(ClipDigests, folder / DIGESTS, line) for line in split_lines(texts[DIGESTS])]
    media = None
    if (folder / MEDIA).is_file():
        media = _media_of(folder)
    known = {k: v for k, v in header.items() if k in {f.name for f in fields(TrackInfo)}}
    info = from_json(TrackInfo, known, where=str(folder / TRACK))
    return Track(
        folder=folder,
        media=media,
        info=info,
        clips=tuple(clips),
        digests={d.clip_id: d for d in digests},
        clips_sha256=header["clips_sha256"],
        media_sha256=header["media_sha256"],
    )


def as_task(text: str, field: str) -> Task:
    """Return the task that a text names.

    Raises:
        UserError: There is no such task.
    """
    for task in TASKS:
        if task == text:
            return task
    raise UserError(f"expected one of {', '.join(TASKS)}, got {text!r}", field=field)


open_track = cache(read_track)
"""`read_track`, once in each process; for jobs of workers."""


def _digests(track: Track, clip: TrackClip) -> ClipDigests:
    found = {
        kind: None if stored is None else file_sha256(track.path(stored))
        for kind, stored in (("audio", clip.audio), ("video", clip.video), ("truth", clip.truth))
    }
    return ClipDigests(clip_id=clip.clip_id, **found)  # type: ignore[arg-type]


def _record(kind: type[T], path: Path, line: str) -> T:
    return from_json(kind, _json(path, line), where=str(path))


def _json(path: Path, text: str) -> dict[str, Any]:
    return as_object(parse_json(text, path), path)


def _media_of(folder: Path) -> Path:
    path = folder / MEDIA
    media = read_object(path).get("media")
    if not isinstance(media, str) or "\0" in media:
        raise ConfigError(f"{path}: expected the folder of the media, got {repr(media)[:80]}")
    tell_media_outside(path, Path(media))
    return Path(media)


def json_line(data: Mapping[str, Any]) -> str:
    """Encode one line of a JSON Lines file, with sorted keys."""
    return json.dumps(data, ensure_ascii=False, sort_keys=True) + "\n"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
