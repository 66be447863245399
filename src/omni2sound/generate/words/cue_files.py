"""Cues from files: subtitles, tables, JSON.

In:   a .srt file, a .csv table with the columns start, end and text, or a .json list.
Out:  cues in the notation of the command line, in the order of the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omni2sound.errors import UserError
from omni2sound.generate.studio.times import parse_time
from omni2sound.generate.words.cues import MAX_CUES, parse_cue
from omni2sound.readers import read_json, read_text

_SRT_TIME = r"(\d+:\d{2}:\d{2})[,.](\d{1,3})"
_SRT_SPAN = re.compile(rf"\s*{_SRT_TIME}\s*-->\s*{_SRT_TIME}")
_KEYS = {"start", "end", "text"}
_TAG = re.compile(r"<[^>]*>|\{\\[^}]*\}")
"""Fonts and places of subtitles."""


def read_cues(path: Path) -> list[str]:
    """Read the cues of a file, each as "0.5-2: a dog barks".

    Args:
        path: Ends in .srt, .csv or .json. JSON is a list of such texts, or of objects with start,
            end and text; times are seconds or texts as "1:30". A cue without an end is a point.

    Raises:
        UserError: The file can't be read, a cue in it is malformed, or there is none or too many.
    """
    readers = {".srt": _srt, ".csv": _csv, ".json": _json}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path.name}: expected one of {' '.join(readers)}", field="cue_file")
    try:
        lines = reader(path)
    except OSError as error:
        raise UserError(f"{path.name}: {error.strerror}", field="cue_file") from None
    if not 0 < len(lines) <= MAX_CUES:
        raise UserError(
            f"{path.name}: expected 1 to {MAX_CUES} cues, got {len(lines)}", field="cue_file"
        )
    for line in lines:
        parse_cue(line)
    return lines


def _srt(path: Path) -> list[str]:
    rows = read_text(path, encoding="utf-8-sig").replace("\r", "").split("\n")
    spans = [(at, found) for at, row in enumerate(rows) if (found := _SRT_SPAN.match(row))]
    first = next((row for row in rows if row.strip()), "")
    if first and (not spans or (spans[0][1].string != first and not first.strip().isdecimal())):
        raise UserError(
            f"{path.name}: expected a span of times, got {first[:60]!r}", field="cue_file"
        )
    lines: list[str] = []
    for number, (at, found) in enumerate(spans):
        # Above a span stands its number, with or without an empty row before that.
        end = spans[number + 1][0] if number + 1 < len(spans) else len(rows)
        own = rows[at + 1 : end]
        if number + 1 < len(spans) and own and own[-1].strip().isdecimal():
            own.pop()
        text = " ".join(_TAG.sub("", " ".join(own)).split())
        begin, end_text = (f"{found[k]}.{found[k + 1].ljust(3, '0')}" for k in (1, 3))
        lines.append(f"{begin}-{end_text}: {text}")
    return lines


def _csv(path: Path) -> list[str]:
    from omni2sound.data.tables import Problem, csv_lines

    lines = []
    for row in csv_lines(path):
        if isinstance(row, Problem):
            raise UserError(f"{path.name}:{row.line}: {row.reason}", field="cue_file")
        lines.append(_line(row.cells, f"{path.name}:{row.number}"))
    return lines


def _json(path: Path) -> list[str]:
    data = read_json(path)
    if not isinstance(data, list):
        raise UserError(f"{path.name}: expected a list of cues", field="cue_file")
    return [
        item if isinstance(item, str) else _line(item, f"{path.name}: cue {number}")
        for number, item in enumerate(data, 1)
    ]


def _line(row: Any, where: str) -> str:
    if not isinstance(row, Mapping) or not {"start", "text"} <= set(row) <= _KEYS:
        raise UserError(f"{where}: expected start, end and text", field="cue_file")
    start_s = parse_time(str(row["start"]), "cue_file")
    text = " ".join(str(row["text"]).split())
    if row.get("end") in (None, ""):
        return f"{start_s:.3f}: {text}"
    return f"{start_s:.3f}-{parse_time(str(row['end']), 'cue_file'):.3f}: {text}"
