"""CSV, JSON and JSON Lines, row by row, by their standards.

In:   files as published or exported, damaged rows included.
Out:  `Line`s: cells by column; `Problem`s with file, line and reason.

A damaged row never ends the reading: it is reported and the next one is read. What not to get
wrong: only CR and LF end a line. Captions may hold U+2028, U+0085 or a form feed, at which
`str.splitlines` splits; a quoted CSV cell may hold line breaks, too. And with one unbalanced quote
a CSV reader swallows the rest of the file: a record whose quotes never close is reported, and
reading resumes at the line after its first.

Spreadsheets write semicolons where the comma is the decimal sign, and tabs on request; they
write empty rows and columns beside the table. pandas writes its index as a column without a name.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omni2sound.errors import UserError
from omni2sound.readers import DECODER, byte_lines, loads, read_bytes

csv.field_size_limit(2**24)  # descriptions of whole albums are longer than the default of 2**17


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A row that is malformed."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One row: cells by column name."""

    number: int
    cells: Mapping[str, Any]


_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|\Z)")
_MOST_TIMES = 20
"""How often a file's characters are gone through in the search for ends of quoted cells."""
MAX_PROBLEMS = 200_000
"""Of one table; a file with more malformed rows is another file."""
_MAX_CELLS = 1_000_000
_MAX_ITEM_CHARS = 2**20
"""Of one object of a JSON list, and of a value before the list."""
_OPEN = "unexpected end of data"
"""What the strict CSV parser says of a cell whose quotes are still open."""


def csv_lines(
    path: Path,
    columns: Sequence[str] | None = None,
    *,
    comment: str | None = None,
    encodings: Sequence[str] = ("utf-8-sig",),
    strip: bool = True,
    record_start: re.Pattern[str] | None = None,
) -> Iterator[Line | Problem]:
    """Read a CSV file (RFC 4180), or one with semicolons or tabs.

    Rows of empty cells without quotes are left out, and so are columns without a name.

    Args:
        path: The file.
        columns: Names of the columns. Default: the first record has them.
        comment: Lines that begin with this are ignored.
        encodings: Tried in order on each record.
        strip: Remove blanks around cells, also before an opening quote.
        record_start: How a record begins. If given, a whole record that begins so ends an open
            quoted cell before it, which is then reported. Default: only quotes count.

    Raises:
        UserError: The file is UTF-16, or more than `MAX_PROBLEMS` of its rows are malformed.
    """
    num_problems = 0
    for row in _rows(path, columns, comment, encodings, strip, record_start):
        if isinstance(row, Problem):
            num_problems += 1
            if num_problems > MAX_PROBLEMS:
                raise UserError(
                    f"{path}:{row.line}: more than {MAX_PROBLEMS} malformed rows ({row.reason}); "
                    "expected another table"
                )
        yield row


def _rows(
    path: Path,
    columns: Sequence[str] | None,
    comment: str | None,
    encodings: Sequence[str],
    strip: bool,
    record_start: re.Pattern[str] | None,
) -> Iterator[Line | Problem]:
    """Name the cells of each record."""
    for record in _records(path, comment, encodings, strip, record_start, columns):
        if isinstance(record, Problem):
            yield record
            continue
        number, cells = record
        if columns is None:
            columns = [c.strip() for c in cells]
        elif len(cells) != len(columns):
            reason = f"expected {len(columns)} columns ({', '.join(columns)}), got {len(cells)}"
            yield Problem(file=path.name, line=number, reason=reason)
        else:
            named = zip(columns, cells, strict=True)
            own = {n: c.strip() if strip else c for n, c in named if n}
            yield Line(number=number, cells=own)


def _records(
    path: Path,
    comment: str | None,
    encodings: Sequence[str],
    strip: bool,
    record_start: re.Pattern[str] | None,
    columns: Sequence[str] | None,
) -> Iterator[tuple[int, list[str]] | Problem]:
    """Split a file to records with the number of their first line, from 1."""
    lines = _Lines(path)
    num_columns = None if columns is None else len(columns)
    separator, at = _separator(lines, comment, encodings)
    most, parsed = len(lines.data) * _MOST_TIMES + 2**24, 0
    while at[1] < len(lines.data):
        first = at[0]
        raw, at = lines.after(at)
        text = _decoded(raw, encodings)
        if text is None:
            yield Problem(file=path.name, line=first + 1, reason=f"not {encodings[0][:5].upper()}")
            continue
        if not text.strip(f"{separator} \t\r\n") or (comment and text.startswith(comment)):
            continue
        cells, reason = _parse(text, strip, separator)
        end = at
        while cells is None and reason == _OPEN and end[1] < len(lines.data):
            raw, after = lines.after(end)
            following = _decoded(raw, encodings)
            if following is None:
                break
            parsed += len(text)
            if parsed > most:
                raise UserError(f"{path}:{first + 1}: a quote is never closed; expected CSV")
            if record_start is not None and record_start.match(following):
                alone, _ = _parse(following, strip, separator)
                if alone is not None and num_columns in (None, len(alone)):
                    break
            end = after
            text += following
            if '"' in following:
                cells, reason = _parse(text, strip, separator)
        if cells is None or (num_columns not in (None, len(cells)) and end > at):
            reason = "a quote is never closed" if end > at or reason == _OPEN else reason
            yield Problem(file=path.name, line=first + 1, reason=f"not CSV: {reason}")
            continue
        num_columns = num_columns or len(cells)
        at = end
        yield first + 1, cells


class _Lines:
    """Lines of a file with their ends, by place: number of the line, from 0, and byte."""

    def __init__(self, path: Path) -> None:
        self.data = read_bytes(path)
        if self.data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise UserError(f"{path}: is UTF-16 text; save it as UTF-8")

    def after(self, at: tuple[int, int]) -> tuple[bytes, tuple[int, int]]:
        """Return the line at a place, and the place of the next one."""
        found = _LINE.match(self.data, at[1])
        assert found is not None  # it matches everything
        return found[0], (at[0] + 1, found.end())


def _separator(
    lines: _Lines, comment: str | None, encodings: Sequence[str]
) -> tuple[str, tuple[int, int]]:
    """Return what separates cells, told by the first line, and the place where records begin."""
    at = (0, 0)
    while at[1] < len(lines.data):
        raw, after = lines.after(at)
        text = (_decoded(raw, encodings) or "").rstrip("\r\n")
        if text[:4].lower() == "sep=" and len(text) == 5:  # Excel's own first line
            return text[4], after
        if text.strip() and not (comment and text.startswith(comment)):
            bare = re.sub('"[^"]*"', "", text)
            return next((s for s in ",;\t" if s in bare), ","), at
        at = after
    return ",", at


def _parse(text: str, strip: bool, separator: str) -> tuple[list[str] | None, str]:
    """Parse one record; returns its cells, or None and the reason."""
    # An end of line is data inside quotes and ends the record outside.
    text = text.removesuffix("\n").removesuffix("\r")
    if text.count(separator) > _MAX_CELLS:
        return None, f"more than {_MAX_CELLS} cells"
    try:
        records = list(csv.reader([text], strict=True, skipinitialspace=strip, delimiter=separator))
    except (csv.Error, ValueError) as error:
        return None, str(error)
    return (records[0], "") if len(records) == 1 else (None, "a line break without quotes")


def _decoded(raw: bytes, encodings: Sequence[str]) -> str | None:
    for encoding in encodings:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return None


_NEXT_ITEM = re.compile(r"\}\s*,\s*(?=\{)")
_BLANKS = re.compile(r"[ \t\r\n]*")


def json_items(path: Path, *, key: str = "data") -> Iterator[Line | Problem]:
    """Read the objects of a JSON list, which may be the value of `key`, one at a time.

    A damaged object is reported, and reading resumes at the next one.
    """
    # Bytes that are no UTF-8 become lone surrogates, which `_line` reports.
    text = read_bytes(path).decode("utf-8-sig", errors="surrogateescape")
    values = _Values(text)
    try:
        start = _list_start(values, key)
    except (ValueError, RecursionError) as error:
        yield Problem(file=path.name, line=1, reason=_not_json(error))
        return
    if start is None:
        yield Problem(file=path.name, line=1, reason=f"expected a list, or one under {key!r}")
        return
    at, line, counted = start, 1, 0
    while at < len(text) and text[at] != "]":
        line += text.count("\n", counted, at)
        counted = at
        try:
            item, at = values.at(at)
        except (ValueError, RecursionError) as error:
            yield Problem(file=path.name, line=line, reason=_not_json(error))
            following = _NEXT_ITEM.search(text, at)
            if following is None:
                return
            at = following.end()
            continue
        yield _line(path, line, item)
        at = _after_blanks(text, at)
        if text.startswith(",", at):
            at = _after_blanks(text, at + 1)
    if at >= len(text):
        reason = "the list is never closed; the file is cut off"
        yield Problem(file=path.name, line=line, reason=reason)


class _Values:
    """JSON values of a long text, which are parsed out of a part of it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._begin, self._part = 0, ""

    def at(self, place: int) -> tuple[Any, int]:
        """Parse the value that begins at a place; return it and the place of its end.

        Raises:
            ValueError: It is not such JSON as `readers.loads` takes, or too long.
            RecursionError: It is nested too deeply.
        """
        if not self._begin <= place < self._begin + len(self._part):
            self._move(place)
        while True:
            is_last = self._begin + len(self._part) >= len(self.text)
            try:
                value, end = DECODER.raw_decode(self._part, place - self._begin)
            except ValueError as error:
                if is_last:
                    raise _located(error, self._begin) from None
                if self._begin == place:
                    is_cut = getattr(error, "pos", 0) + 20 > len(self._part)
                    if is_cut or "Unterminated" in str(error):
                        error = ValueError(f"longer than {_MAX_ITEM_CHARS} characters")
                    raise _located(error, self._begin) from None
            else:
                if is_last or end < len(self._part):  # a number may go on
                    return value, self._begin + end
                if self._begin == place:
                    raise ValueError(f"longer than {_MAX_ITEM_CHARS} characters")
            self._move(place)

    def _move(self, place: int) -> None:
        self._begin, self._part = place, self.text[place : place + _MAX_ITEM_CHARS]


def _located(error: ValueError, begin: int) -> ValueError:
    """Return an error with its place in the whole text."""
    if isinstance(error, json.JSONDecodeError):
        return ValueError(f"{error.msg} (char {begin + error.pos})")
    return error


def _list_start(values: _Values, key: str) -> int | None:
    """Find where the first item of the list is; None if there is no list.

    Raises:
        ValueError: What stands before the list is not JSON.
        RecursionError: It is nested too deeply.
    """
    text, at = values.text, _after_blanks(values.text, 0)
    # Keys inside other values may have the same name, so those values are read to their ends.
    more = text.startswith("{", at)
    while more:
        name, at = values.at(_after_blanks(text, at + 1))
        at = _after_blanks(text, at)
        if not isinstance(name, str) or not text.startswith(":", at):
            raise ValueError(f"expected a name and a colon at char {at}")
        at = _after_blanks(text, at + 1)
        if name == key:
            break
        _, at = values.at(at)
        at = _after_blanks(text, at)
        more = text.startswith(",", at)
    return _after_blanks(text, at + 1) if text.startswith("[", at) else None


def _after_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return at if found is None else found.end()


def _not_json(error: ValueError | RecursionError) -> str:
    return f"not JSON: {'nested too deeply' if isinstance(error, RecursionError) else error}"


def json_lines(path: Path, *, skip: int = 0) -> Iterator[Line | Problem]:
    """Read the objects of a JSON Lines file after `skip` lines of header."""
    for number, raw in enumerate(byte_lines(path), start=1):
        text = _decoded(raw, ("utf-8-sig" if number == 1 else "utf-8",))
        if number <= skip or (text is not None and not text.strip()):
            continue
        if text is None:
            yield Problem(file=path.name, line=number, reason="not UTF-8")
            continue
        try:
            cells = loads(text)
        except ValueError as error:
            yield Problem(file=path.name, line=number, reason=_not_json(error))
            continue
        yield _line(path, number, cells)


def _line(path: Path, number: int, cells: object) -> Line | Problem:
    if not isinstance(cells, dict):
        reason = f"expected an object, got {reprlib.repr(cells)}"
        return Problem(file=path.name, line=number, reason=reason)
    try:
        json.dumps(cells, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # "\ud83d" alone: half of a character, which no file can hold
        return Problem(file=path.name, line=number, reason="not Unicode: half of a character")
    except RecursionError as error:
        return Problem(file=path.name, line=number, reason=_not_json(error))
    return Line(number=number, cells=cells)
