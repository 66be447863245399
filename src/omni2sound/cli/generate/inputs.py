"""Videos as people type them: files, folders, patterns; and what they may have meant instead.

In:   arguments.
Out:  files in the order of the arguments, those of a folder or a pattern by name.
"""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from omni2sound.errors import MediaError, UserError

_SUFFIXES = "mp4 mov mkv webm m4v avi mpg mpeg ts mts m2ts mxf wmv flv ogv 3gp"
SUFFIXES = frozenset(f".{name}" for name in _SUFFIXES.split())
"""Of files that are taken from a folder."""
_OURS = ".omni2sound"
"""Marks outputs, which are not taken from a folder again."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)


def find_videos(typed: Sequence[Path]) -> list[Path]:
    """List the files that arguments stand for, each once.

    Raises:
        UserError: A folder or pattern holds no video, or an argument is no file but a sentence or
            an address.
    """
    found: dict[Path, None] = {}
    for path in typed:
        text = str(path)
        if path.is_dir():
            videos = [p for p in sorted(path.iterdir()) if _is_video(p)]
            if not videos:
                raise UserError(f"{text}: holds no videos ({_SUFFIXES})")
        elif not path.exists() and glob.has_magic(text):
            anchor = Path(path.anchor)
            matches = anchor.glob(str(path.relative_to(anchor)))
            videos = [p for p in sorted(matches) if p.is_file()]
            if not videos:
                raise UserError(f"{text}: matches no file; check the pattern")
        else:
            if not path.exists():
                _refuse(path)
            videos = [path]
        found |= dict.fromkeys(videos)
    return list(found)


def _is_video(path: Path) -> bool:
    name = path.name
    return (
        path.suffix.lower() in SUFFIXES
        and not name.startswith(".")
        and not re.fullmatch(rf".*{re.escape(_OURS)}(-\d+)?", path.stem)
    )


def _refuse(path: Path) -> None:
    text = str(path)
    if _ADDRESS.match(text):
        text = text.replace(":/", "://", 1)  # a path has no empty folder names
        raise MediaError(f"{text[:80]}: is an address; save the video and give the file")
    if " " in text and not path.suffix:
        shown = text if len(text) <= 80 else text[:77] + "..."
        raise MediaError(
            f'{shown}: no such file; for a sound from words: omni2sound generate --prompt "{shown}"'
        )


def stems(videos: Sequence[Path]) -> list[str]:
    """Name the outputs of videos by theirs; equal ones get their folder's or format's name, too."""
    names = [video.stem for video in videos]
    for more in (
        lambda video: f"{video.absolute().parent.name}-{video.stem}",
        lambda video: video.name,
    ):
        counts = Counter(names)
        names = [
            more(video) if counts[name] > 1 else name
            for video, name in zip(videos, names, strict=True)
        ]
    return [f"{name}{_OURS}" for name in names]
