"""Jobs: requests with an id, from a file or from code.

In:   a file with one JSON object per line, or CSV whose first row names the columns.
Out:  a `Job` for each, or what is wrong with its line.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from omni2sound.config import from_json
from omni2sound.errors import ConfigError, UserError
from omni2sound.generate.studio.times import parse_time
from omni2sound.readers import loads, read_text

Destination = Literal["youtube", "podcast", "broadcast"]
LOUDNESS_LUFS: Mapping[Destination, float] = {
    "youtube": -14.0,
    "podcast": -16.0,
    "broadcast": -23.0,
}
"""Integrated loudness by where a film goes: Apple's "Audio requirements" for podcasts, EBU R 128
for broadcast. YouTube publishes none; -14 is the level to which its player turns louder
films down, as its "Stats for nerds" shows."""

_MAX_ID_BYTES = 220
"""A file name has at most 255; suffixes and the mark of an unfinished file take the rest."""
_MAX_LINES = 500_000
_TIMES = ("start_s", "end_s", "duration_s")
_BESIDE = "|"
"""Stands between the cues, or the names, of a CSV cell."""
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One line of a jobs file: an id, a `GenerationRequest`, and where its result goes.

    None leaves a setting to the request, or to the options of the batch.
    """

    id: str
    video: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    duration_s: float | None = None
    seed: int | None = None
    takes: int = 1
    steps: int | None = None
    guidance: float | None = None
    text_guidance: float | None = None
    recognise: bool | None = None
    seen: str | None = None
    leave_out: tuple[str, ...] = ()
    """Names of recognised things that make no sound."""
    cues: tuple[str, ...] = ()
    """Each as "0.5-2: a dog barks"."""
    ambience: bool = True
    stems: bool = False
    rate: int | None = None
    channels: int | None = None
    bits: int | None = None
    keep_audio: bool | None = None
    mix_db: float | None = None
    duck_db: float | None = None
    loudness_lufs: float | None = None
    destination: Destination | None = None
    """"for" in a jobs file."""
    reencode: bool | None = None
    preview: bool | None = None
    output: str | None = None


def loudness_for(destination: Destination | None, loudness_lufs: float | None) -> float | None:
    """Return the target loudness of a destination, or the one that was asked for.

    Raises:
        UserError: Both are given.
    """
    if destination is None:
        return loudness_lufs
    if loudness_lufs is not None:
        raise UserError("has a loudness of its own; leave out `loudness_lufs`", field="destination")
    return LOUDNESS_LUFS[destination]


_NAMES = {"for": "destination"}
COLUMNS = tuple(f.name if f.name != "destination" else "for" for f in fields(Job))
"""Keys of a jobs file."""


def read_jobs(path: Path) -> list[tuple[int, Job | UserError]]:
    """Parse a jobs file to line numbers and jobs, or to what is wrong with a malformed line.

    Args:
        path: Ends in .csv for CSV; anything else holds one JSON object a line.

    Raises:
        UserError: The file can't be read, holds no job, or is CSV with unknown columns.
    """
    try:
        rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _json_rows(path)
    except OSError as error:
        raise UserError(f"{path}: jobs can't be read: {error.strerror}") from None
    lines: list[tuple[int, Job | UserError]] = []
    line_of: dict[str, int] = {}
    for number, row in rows:
        try:
            if isinstance(row, UserError):
                raise row
            job = read_job(row)
            first = line_of.setdefault(job.id, number)
            if first != number:
                raise UserError(f"the id {job.id!r} is that of line {first}; choose another")
            lines.append((number, job))
        except UserError as error:
            lines.append((number, error))
    if not lines:
        raise UserError(f"{path}: holds no jobs; write one JSON object a line, or a CSV table")
    return lines


def _json_rows(path: Path) -> list[tuple[int, Any]]:
    rows: list[tuple[int, Any]] = []
    text = read_text(path, encoding="utf-8-sig")
    if text.count("\n") > _MAX_LINES:
        raise UserError(f"{path}: more than {_MAX_LINES} lines; split it")
    if text.lstrip()[:1] == "[" and text.rstrip()[-1] == "]":
        raise UserError(f"{path}: holds a JSON list; write one object a line (JSON Lines)")
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append((number, loads(line)))
        except ValueError as error:
            rows.append((number, UserError(f"is not JSON: {error}")))
    return rows


def _csv_rows(path: Path) -> list[tuple[int, Any]]:
    from omni2sound.data.tables import Problem, csv_lines

    rows: list[tuple[int, Any]] = []
    for line in csv_lines(path):
        if len(rows) > _MAX_LINES:
            raise UserError(f"{path}: more than {_MAX_LINES} rows; split it")
        if isinstance(line, Problem):
            rows.append((line.line, UserError(line.reason)))
            continue
        unknown = [name for name in line.cells if name not in COLUMNS]
        if unknown or "id" not in line.cells:
            what = f"there is no {unknown[0][:80]!r}" if unknown else "'id' is missing"
            raise UserError(f"{path}: columns: {what}; known are {', '.join(COLUMNS)}")
        try:
            rows.append((line.number, _typed(line.cells)))
        except UserError as error:
            rows.append((line.number, error))
    return rows


def _typed(cells: Mapping[str, str]) -> dict[str, Any]:
    """Cells as JSON data; empty ones are not given."""
    kinds = {f.name: str(f.type) for f in fields(Job)}
    row: dict[str, Any] = {}
    for name, cell in cells.items():
        kind = kinds[_NAMES.get(name, name)]
        if not cell:
            continue
        if name in ("cues", "leave_out"):
            row[name] = [part.strip() for part in cell.split(_BESIDE) if part.strip()]
        elif name in _TIMES or "str" in kind or name == "for":
            row[name] = cell
        elif "bool" in kind:
            if cell.lower() not in _TRUE + _FALSE:
                raise UserError(f"expected true or false, got {cell[:40]!r}", field=name)
            row[name] = cell.lower() in _TRUE
        else:
            try:
                row[name] = int(cell) if "int" in kind and cell.isdigit() else float(cell)
            except ValueError:
                raise UserError(f"expected a number, got {cell[:40]!r}", field=name) from None
    return row


def read_job(data: Any) -> Job:
    """Read a job from the JSON object of a line.

    Raises:
        ConfigError: A field is unknown, missing or of another type.
        UserError: The id is no file name, or a time is none.
    """
    if isinstance(data, Mapping):
        for name in sorted(set(data) - set(COLUMNS) - set(_NAMES.values())):
            near = "".join(f", perhaps {n!r}" for n in get_close_matches(name, COLUMNS, 1))
            raise ConfigError(
                f"job: unknown field {name[:80]!r}{near}; known: {', '.join(COLUMNS)}"
            )
        data = {_NAMES.get(name, name): value for name, value in data.items()}
        for name in _TIMES:
            if isinstance(data.get(name), str):
                data[name] = parse_time(data[name], name)
        for field in fields(Job):
            # pandas writes whole numbers as 2.0 where a column has holes.
            value = data.get(field.name)
            if "int" in str(field.type) and isinstance(value, float) and value.is_integer():
                data[field.name] = int(value)
    job = from_json(Job, data, where="job")
    check_id(job.id)
    return job


def check_id(text: str) -> None:
    """Refuse an id that can't be a file name.

    Ids of YouTube begin with "-" or "_" in one of 32 cases; names of recordings hold blanks.

    Raises:
        UserError: It is none.
    """
    try:
        num_bytes = len(text.encode())
    except UnicodeEncodeError:  # half of a character
        num_bytes = 0
    if not (
        0 < num_bytes <= _MAX_ID_BYTES
        and text not in (".", "..")
        and not set(text) & {"/", "\\"}
        and not any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in text)
    ):
        raise UserError(
            f"{text[:80]!r}: expected a file name, since it names the output: no '/' or '\\', "
            f"no control characters, at most {_MAX_ID_BYTES} bytes",
            field="id",
        )
