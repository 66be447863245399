"""A track: clips, captions and truth as versioned data that two people build alike.

    DIR/track.json      name, version, how it was made, digests of the two files below
    DIR/clips.jsonl     a line a clip: id, part, caption, where its files lie, where it is from
    DIR/digests.jsonl   a line a clip: sha256 of its video, sound and truth
    DIR/media.json      where the media lie that the track does not own; differs between people

In:   clips that a builder chose (`build_*`), or a folder that was written before.
Out:  the folder; `Track`.

What not to get wrong: two digests. `clips_sha256` says that two people have the same clips,
captions and decisions; `media_sha256` says that they have the same bytes too, which copies of
one YouTube video seldom are. Scores are comparable as far as both agree.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from omni2sound.errors import ConfigError, IntegrityError, UserError
from omni2sound.files import atomic_path

__all__ = [
    "CLIPS",
    "TASKS",
    "TRACK",
    "ClipDigests",
    "Part",
    "Task",
    "Track",
    "TrackClip",
    "TrackInfo",
    "file_sha256",
    "read_track",
    "write_track",
]

Task = Literal["VT2A", "V2A", "T2A"]
TASKS: tuple[Task, ...] = get_args(Task)
Part = Literal["main", "offscreen"]

FORMAT = 1
TRACK, CLIPS, DIGESTS, MEDIA = "track.json", "clips.jsonl", "digests.jsonl", "media.json"
_OWN, _MEDIA = "own:", "media:"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackClip:
    """One clip. Paths begin with "own:" (below the track) or "media:" (below its media).

    Raises:
        ConfigError: A field can't be.
    """

    clip_id: str
    """Names the files of every system that is scored."""
    part: Part
    """"main": what is heard is seen. "offscreen": something is only heard."""
    caption: str
    duration_s: float
    audio: str
    """The real sound; it may be a video's own."""
    video: str | None = None
    truth: str | None = None
    """Of stage clips: what sounds when, exactly."""
    label: str = ""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """Source, seeds, signal-to-noise ratio, decisions: whatever made the clip what it is."""

    def __post_init__(self) -> None:
        name = self.clip_id
        if not name or name in (".", "..") or any(c in name for c in '/\\:\n"'):
            raise ConfigError(f"clip id {name!r}: expected a name that can be a file's")
        if not self.duration_s > 0:
            raise ConfigError(f"clip {name}: lasts {self.duration_s} s; expected more than 0")
        if self.part not in get_args(Part):
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
    """sha256 of a clip's files."""

    clip_id: str
    audio: str
    video: str | None = None
    truth: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackInfo:
    """What holds for the whole track."""

    name: str
    """"stage-omni", "vggsound-omni", ..."""
    version: str
    """Of the rules by which it is made."""
    tasks: tuple[Task, ...] = TASKS
    built: Mapping[str, Any] = field(default_factory=dict)
    """Seeds, thresholds, models, digests of what it was made from."""


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
        """Whether it is a stage track."""
        return all(clip.truth is not None for clip in self.clips)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Parts with at least one clip."""
        return tuple(p for p in get_args(Part) if any(c.part == p for c in self.clips))

    def path(self, stored: str) -> Path:
        """Where a file of a clip lies.

        Raises:
            UserError: The track has no folder of media here.
        """
        if stored.startswith(_OWN):
            return self.folder / stored.removeprefix(_OWN)
        if self.media is None:
            raise UserError(f"{self.folder / MEDIA}: says where the media are, and is missing")
        return self.media / stored.removeprefix(_MEDIA)

    def limited(self, limit: int | None) -> Track:
        """The first clips only.

        Raises:
            UserError: The limit is below 1.
        """
        if limit is None or limit >= len(self.clips):
            return self
        if limit < 1:
            raise UserError(f"limit: expected 1 clip or more, got {limit}")
        return replace(self, clips=self.clips[:limit])

    @property
    def identity(self) -> dict[str, Any]:
        """What a report says of the track."""
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
        folder: Holds what the track owns already.
        info: Of the track.
        clips: In the order that a limit cuts.
        media: Folder of the media that it does not own.

    Raises:
        UserError: There are no clips, or a file is missing.
        ConfigError: Two clips have one id.
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
        media=None if media is None else media.resolve(),
        info=info,
        clips=clips,
        digests={},
        clips_sha256="",
        media_sha256="",
    )
    digests = [_digests(track, clip) for clip in clips]
    lines = "".join(_line(asdict(clip)) for clip in clips)
    hashes = "".join(_line(asdict(d)) for d in digests)
    header = {
        "omni2sound_track": FORMAT,
        **asdict(info),
        "num_clips": len(clips),
        "clips_sha256": _sha256(lines),
        "media_sha256": _sha256(hashes),
    }
    _write(folder / CLIPS, lines)
    _write(folder / DIGESTS, hashes)
    if media is not None:
        _write(folder / MEDIA, _line({"media": str(media.resolve())}))
    _write(folder / TRACK, json.dumps(header, indent=1, ensure_ascii=False) + "\n")
    return read_track(folder)


def read_track(folder: Path) -> Track:
    """Read a track strictly.

    Raises:
        UserError: The folder holds none.
        ConfigError: A line is malformed.
        IntegrityError: A file is not the one that was written.
    """
    if not (folder / TRACK).is_file():
        raise UserError(f"{folder}: holds no track; make one with: omni2sound bench build")
    header = _json(folder / TRACK, (folder / TRACK).read_text(encoding="utf-8"))
    if header.get("omni2sound_track") != FORMAT:
        raise ConfigError(f"{folder / TRACK}: not a track of format {FORMAT}")
    texts = {}
    for name, key in ((CLIPS, "clips_sha256"), (DIGESTS, "media_sha256")):
        texts[name] = (folder / name).read_text(encoding="utf-8")
        if _sha256(texts[name]) != header.get(key):
            raise IntegrityError(f"{folder / name}: changed since the track was built; build again")
    clips = tuple(_record(TrackClip, folder / CLIPS, line) for line in texts[CLIPS].splitlines())
    digests = (_record(ClipDigests, folder / DIGESTS, line) for line in texts[DIGESTS].splitlines())
    media = None
    if (folder / MEDIA).is_file():
        media = Path(_json(folder / MEDIA, (folder / MEDIA).read_text(encoding="utf-8"))["media"])
    try:
        info = TrackInfo(
            name=header["name"],
            version=header["version"],
            tasks=tuple(header["tasks"]),
            built=header["built"],
        )
    except KeyError as error:
        raise ConfigError(f"{folder / TRACK}: no field {error.args[0]!r}") from None
    return Track(
        folder=folder,
        media=media,
        info=info,
        clips=clips,
        digests={d.clip_id: d for d in digests},
        clips_sha256=header["clips_sha256"],
        media_sha256=header["media_sha256"],
    )


def file_sha256(path: Path) -> str:
    """Digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digests(track: Track, clip: TrackClip) -> ClipDigests:
    found = {
        kind: None if stored is None else file_sha256(track.path(stored))
        for kind, stored in (("audio", clip.audio), ("video", clip.video), ("truth", clip.truth))
    }
    return ClipDigests(clip_id=clip.clip_id, **found)  # type: ignore[arg-type]


def _record(kind: type[Any], path: Path, line: str) -> Any:
    data = _json(path, line)
    names = {f.name for f in fields(kind)}
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    if not needed <= data.keys() <= names:
        wrong = sorted((needed - data.keys()) | (data.keys() - names))
        raise ConfigError(f"{path}: field {wrong[0]!r} is missing or unknown")
    return kind(**data)


def _json(path: Path, text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error})") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected an object, got {data!r}")
    return data


def _line(data: Mapping[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, sort_keys=True) + "\n"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
