"""Reads published CSV and JSON files row by row.

In:   CSV and JSON files as published, damaged lines included.
Out:  `Line`s; `Problem`s with file, line and reason; `Draft`s that a parser makes of lines.

A damaged row never ends the reading: it is reported and the next one is read. What not to get
wrong: with one unbalanced quote a CSV reader swallows the rest of the file, so lines are parsed
one by one, except where cells hold line breaks (FMA).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omni2sound.data.corpora.manifest import Split
from omni2sound.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A row that is malformed."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Excluded:
    """A row that the corpus or its importer excludes."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One row: cells by column name."""

    number: int
    cells: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A clip whose media are not found yet.

    Attributes:
        stems: Possible file names of the media without suffix, best first; with a folder in
            front ("FreeSound/1234") only below a folder whose name begins so.
        audio: Sound file if its path is known, relative to the media folder.
        video: Video file if its path is known.
        corpus: Name of the corpus. Default: that of the importer.

    The other fields are those of `manifest.Clip`.
    """

    clip_id: str
    split: Split
    corpus: str = ""
    stems: tuple[str, ...] = ()
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
    found = sorted(p for p in published.rglob(pattern) if p.is_file())
    if not found:
        raise UserError(f"{published}: no {pattern} in it; expected {wanted}")
    return found


def csv_lines(
    path: Path,
    columns: Sequence[str] | None = None,
    *,
    comment: str | None = None,
    encodings: Sequence[str] = ("utf-8-sig",),
) -> Iterator[Line | Problem]:
    """Read a CSV file in which no cell holds a line break.

    Args:
        path: The file.
        columns: Names of the columns. Default: the first row has them.
        comment: Lines that begin with this are ignored.
        encodings: Tried in order on each line.
    """
    with path.open("rb") as file:
        for number_, raw in enumerate(file, start=1):
            text = _decoded(raw.rstrip(b"\r\n"), encodings)
            if text is None:
                yield Problem(file=path.name, line=number_, reason="not UTF-8")
                continue
            if not text.strip() or (comment is not None and text.startswith(comment)):
                continue
            try:
                (cells,) = csv.reader([text], strict=True, skipinitialspace=True)
            except (csv.Error, ValueError) as error:
                yield Problem(file=path.name, line=number_, reason=f"not CSV: {error}")
                continue
            if columns is None:
                columns = [c.strip() for c in cells]
                continue
            if len(cells) != len(columns):
                reason = f"expected {len(columns)} columns ({', '.join(columns)}), got {len(cells)}"
                yield Problem(file=path.name, line=number_, reason=reason)
                continue
            stripped = {n: c.strip() for n, c in zip(columns, cells, strict=True)}
            yield Line(number=number_, cells=stripped)


def _decoded(raw: bytes, encodings: Sequence[str]) -> str | None:
    for encoding in encodings:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return None


_NEXT_ITEM = re.compile(r"\}\s*,\s*(?=\{)")


def json_items(path: Path, *, key: str = "data") -> Iterator[Line | Problem]:
    """Read the objects of a JSON list, which may be the value of `key`, one at a time.

    A damaged object is reported, and reading resumes at the next one.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    start = re.compile(r"\s*(\{.*?" + re.escape(json.dumps(key)) + r"\s*:\s*)?\[\s*", re.DOTALL)
    opening = start.match(text)
    if opening is None:
        yield Problem(file=path.name, line=1, reason=f"expected a list, or one under {key!r}")
        return
    decoder, at = json.JSONDecoder(), opening.end()
    line, counted = 1, 0
    while at < len(text) and text[at] != "]":
        line += text.count("\n", counted, at)
        counted = at
        try:
            item, at = decoder.raw_decode(text, at)
        except ValueError as error:
            yield Problem(file=path.name, line=line, reason=f"not JSON: {error}")
            following = _NEXT_ITEM.search(text, at)
            if following is None:
                return
            at = following.end()
            continue
        yield _line(path, line, item)
        separator = re.compile(r"\s*,?\s*").match(text, at)
        assert separator is not None  # it matches nothing, too
        at = separator.end()


def json_lines(path: Path, *, skip: int = 0) -> Iterator[Line | Problem]:
    """Read the objects of a JSON Lines file after `skip` lines of header."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number_, text in enumerate(file, start=1):
            if number_ <= skip or not text.strip():
                continue
            try:
                cells = json.loads(text)
            except ValueError as error:
                yield Problem(file=path.name, line=number_, reason=f"not JSON: {error}")
                continue
            yield _line(path, number_, cells)


def _line(path: Path, number_: int, cells: object) -> Line | Problem:
    if isinstance(cells, dict):
        return Line(number=number_, cells=cells)
    return Problem(file=path.name, line=number_, reason=f"expected an object, got {cells!r}")


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
