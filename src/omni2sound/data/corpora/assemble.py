"""Assembles clips from drafts: finds media, lists missing ones, merges repeated rows.

In:   the items that an importer yields, a folder of media.
Out:  clips, and an `ImportReport` of everything that did not become one.

Media are found by name anywhere below the folder. A draft without media becomes no clip: most
copies of video corpora are incomplete.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path, PurePosixPath

from omni2sound.data.corpora.manifest import Clip
from omni2sound.data.corpora.rows import Draft, Excluded, Item, Located
from omni2sound.data.tables import Problem
from omni2sound.errors import ConfigError, UserError
from omni2sound.files import write_text

_AUDIO = frozenset(
    [".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".wma"]
)
_VIDEO = frozenset([".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".3gp", ".flv"])


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportReport:
    """Result of an import.

    Attributes:
        corpus: Name of the importer.
        num_rows: Number of rows, without blank ones and headers.
        num_clips: Number of clips by split.
        missing: Ids of clips without media.
        problems: Malformed rows.
        excluded: Excluded rows.
    """

    corpus: str
    num_rows: int
    num_clips: Mapping[str, int]
    missing: tuple[str, ...]
    problems: tuple[Problem, ...]
    excluded: tuple[Excluded, ...]


class MediaFolder:
    """Sound and video files below a folder, by name."""

    def __init__(self, root: Path) -> None:
        """List the folder once.

        Raises:
            UserError: If it does not exist.
        """
        if not root.is_dir():
            raise UserError(f"{root}: no such folder of media")
        self.root = root
        self._by_stem: dict[str, list[PurePosixPath]] = {}
        for folder, below, files in os.walk(root):
            below[:] = sorted(b for b in below if not b.startswith("."))
            at = PurePosixPath(Path(folder).relative_to(root).as_posix())
            for name in sorted(files):
                path = at / name
                if path.suffix.lower() in (*_AUDIO, *_VIDEO) and not name.startswith("."):
                    self._by_stem.setdefault(path.stem, []).append(path)

    def find(self, draft: Draft) -> tuple[str | None, str | None]:
        """Find sound and video file of a draft, relative to the folder; None if missing."""
        if draft.audio is not None or draft.video is not None:
            return self._if_there(draft.audio), self._if_there(draft.video)
        for stem in draft.stems:
            folder, _, name = stem.rpartition("/")
            paths = [p for p in self._by_stem.get(name, ()) if _is_below(p, folder)]
            if paths:
                audio = next((str(p) for p in paths if p.suffix.lower() in _AUDIO), None)
                video = next((str(p) for p in paths if p.suffix.lower() in _VIDEO), None)
                return audio, video
        return None, None

    def _if_there(self, path: str | None) -> str | None:
        return path if path is not None and (self.root / path).is_file() else None


def _is_below(path: PurePosixPath, folder: str) -> bool:
    return not folder or any(part.startswith(folder) for part in path.parts[:-1])


def assemble(
    corpus: str, items: Iterable[Item], media: MediaFolder
) -> tuple[tuple[Clip, ...], ImportReport]:
    """Find the media of each draft; report malformed, excluded and missing rows.

    Repeated rows of a clip add their captions to it (AudioCaps has five rows a clip).
    """
    clips: dict[tuple[str, str], Clip] = {}
    lines: dict[tuple[str, str], Located] = {}
    missing: dict[str, None] = {}
    problems: list[Problem] = []
    excluded: list[Excluded] = []
    num_rows = 0
    for item in items:
        num_rows += 1
        if isinstance(item, Problem):
            problems.append(item)
        elif isinstance(item, Excluded):
            excluded.append(item)
        else:
            try:
                reason = _take(item, corpus, media, clips, lines, missing)
            except ConfigError as error:
                reason = str(error)
            if reason is not None:
                problems.append(Problem(file=item.file, line=item.line, reason=reason))
    by_split = Counter(clip.split for clip in clips.values())
    return tuple(clips.values()), ImportReport(
        corpus=corpus,
        num_rows=num_rows,
        num_clips={str(split): by_split[split] for split in sorted(by_split)},
        missing=tuple(missing),
        problems=tuple(problems),
        excluded=tuple(excluded),
    )


_SHARED = tuple(f.name for f in fields(Draft) if f.name not in ("stems", "audio", "video"))


def _take(
    item: Located,
    corpus: str,
    media: MediaFolder,
    clips: dict[tuple[str, str], Clip],
    lines: dict[tuple[str, str], Located],
    missing: dict[str, None],
) -> str | None:
    """Add the clip of a row; return what is wrong with the row, or None."""
    draft = item.draft
    key = (draft.corpus or corpus, draft.clip_id)
    before = lines.setdefault(key, item)
    if before is not item:
        new = [c for c in draft.captions if c not in before.draft.captions]
        if before.draft.split != draft.split or not new:
            return f"repeats {before.file}:{before.line} ({before.draft.split})"
        lines[key] = replace(
            before, draft=replace(before.draft, captions=(*before.draft.captions, *new))
        )
        if key in clips:
            clips[key] = replace(clips[key], captions=lines[key].draft.captions)
        return None
    audio, video = media.find(draft)
    if audio is None and video is None:
        missing[draft.clip_id] = None
        return None
    known = {name: getattr(draft, name) for name in _SHARED} | {"corpus": key[0]}
    clips[key] = Clip(audio=audio, video=video, **known)
    return None


def write_report(path: Path, report: ImportReport) -> None:
    """Write the report as JSON."""
    write_text(path, json.dumps(asdict(report), indent=1, ensure_ascii=False) + "\n")
