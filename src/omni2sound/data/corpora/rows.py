"""From rows of published tables to drafts of clips.

In:   `Line`s and `Problem`s of a table (`data.tables`).
Out:  `Draft`s that a corpus's parser makes of lines, each with its file and line; `Problem`s.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omni2sound.data.corpora.manifest import Split
from omni2sound.data.tables import Line, Problem
from omni2sound.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Excluded:
    """A row that the corpus or its importer excludes."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A clip whose media are not found yet.

    Attributes:
        youtube_id: Id of the video that it is a segment of; files are found by it.
        stems: Possible file names of the media without suffix, best first; with a folder in
            front ("FreeSound/1234") only below a folder whose name begins so.
        is_named_in_words: The names are titles, which archives and file systems may change.
        parent: Name of the folder that the corpus keeps the file in, if it tells of the clip.
        folder_words: Words in names of folders of the clip's split.
        other_folder_words: Words in names of folders of the other splits.
        audio: Sound file if its path is known, relative to the media folder.
        video: Video file if its path is known.
        corpus: Name of the corpus. Default: that of the importer.

    The other fields are those of `manifest.Clip`.
    """

    clip_id: str
    split: Split
    corpus: str = ""
    youtube_id: str = ""
    stems: tuple[str, ...] = ()
    is_named_in_words: bool = False
    parent: str = ""
    folder_words: frozenset[str] = frozenset()
    other_folder_words: frozenset[str] = frozenset()
    audio: str | None = None
    video: str | None = None
    start_s: float = 0.0
    duration_s: float | None = None
    captions: tuple[str, ...] = ()
    audio_captions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    source: str = ""
    source_start_s: float | None = None
    licence: str = ""
    author: str = ""
    quality: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Located:
    """A draft and the row it was made from."""

    file: str
    line: int
    draft: Draft


Item = Located | Problem | Excluded


def find_published(published: Path, pattern: str, *, wanted: str) -> list[Path]:
    """Find the files of a published folder whose name matches, sorted; or return the one file.

    Raises:
        UserError: If there are none.
    """
    if published.is_file():
        return [published]
    if not published.exists():
        raise UserError(f"{published}: no such file or folder; expected {wanted}")
    found = sorted(p for p in published.rglob(pattern) if p.is_file())
    if not found:
        raise UserError(f"{published}: no {pattern} in it; expected {wanted}")
    return found


def drafts(
    path: Path,
    lines: Iterator[Line | Problem],
    parse: Callable[[Mapping[str, Any]], Draft],
    *,
    exclude: Callable[[Mapping[str, Any]], str | None] = lambda cells: None,
) -> Iterator[Item]:
    """Parse lines to drafts; a `ValueError` or missing field becomes a problem.

    Args:
        path: The file.
        lines: Its rows.
        parse: Makes a draft of a row's cells.
        exclude: Returns the reason why a row is excluded, or None.
    """
    for line in lines:
        if isinstance(line, Problem):
            yield line
            continue
        try:
            reason = exclude(line.cells)
            if reason is not None:
                yield Excluded(file=path.name, line=line.number, reason=reason)
            else:
                yield Located(file=path.name, line=line.number, draft=parse(line.cells))
        except KeyError as error:
            yield Problem(file=path.name, line=line.number, reason=f"no field {error.args[0]!r}")
        except ValueError as error:
            yield Problem(file=path.name, line=line.number, reason=str(error))
        except (AttributeError, TypeError) as error:  # JSON of another shape
            yield Problem(file=path.name, line=line.number, reason=f"malformed: {error}")


def number(value: object, what: str) -> float:
    """Parse a finite number >= 0 from text or JSON.

    Raises:
        ValueError: If it is not valid.
    """
    try:
        result = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        result = -1.0
    if not 0 <= result < 1e9:
        raise ValueError(f"{what}: expected a number, got {value!r}")
    return result


def youtube_id(text: str) -> str:
    """Check the id of a YouTube video: eleven letters, digits, - or _.

    Raises:
        ValueError: If it is not valid.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{11}", text):
        raise ValueError(f"YouTube id: expected 11 letters, digits, - or _, got {text!r}")
    return text
