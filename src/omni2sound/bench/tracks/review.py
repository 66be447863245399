"""Review queue: clips that need a person's decision, in one CSV file for any editor.

In:   clips with reasons for doubt; the file as the reviewer filled it in.
Out:  the file; decisions: accept, edit (with a new caption) or reject, by whom and when.

A decision holds for the caption that it was made on: if that changes, the row is asked again.
What not to get wrong: a half-filled row is an error that names the line, never a decision.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

from omni2sound.errors import UserError
from omni2sound.files import atomic_path
from omni2sound.readers import check_regular

Choice = Literal["accept", "edit", "reject"]


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueRow:
    """One line; the reviewer fills in the last four fields."""

    clip_id: str
    part: str
    """Proposed part: main or offscreen."""
    label: str
    caption: str
    flags: str
    reason: str
    decision: str = ""
    new_caption: str = ""
    who: str = ""
    when: str = ""
    """ISO 8601."""

    @property
    def is_decided(self) -> bool:
        """Whether the row holds a decision; only meaningful for rows from `read_queue`."""
        return bool(self.decision)


_MOST_CHARACTERS = 1_000
"""Of the row of headers."""
_COLUMNS = tuple(f.name for f in fields(QueueRow))


def read_queue(path: Path) -> tuple[QueueRow, ...]:
    """Read and validate the file.

    Raises:
        UserError: The file is no queue, or a row is half filled in; the message names the line.
    """
    try:
        check_regular(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            if len(file.readline(_MOST_CHARACTERS)) == _MOST_CHARACTERS:
                raise UserError(f"{path}: expected the columns {', '.join(_COLUMNS)}")
            file.seek(0)
            reader = csv.DictReader(file, strict=True)
            if tuple(reader.fieldnames or ()) != _COLUMNS:
                raise UserError(f"{path}: expected the columns {', '.join(_COLUMNS)}")
            rows = []
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if None in row or None in row.values():
                    raise UserError(f"{where}: expected {len(_COLUMNS)} cells; is a quote missing?")
                rows.append(_checked(where, {name: cell.strip() for name, cell in row.items()}))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: can't be read ({error})") from None
    ids = [row.clip_id for row in rows]
    if len(set(ids)) != len(ids):
        raise UserError(f"{path}: clip {next(i for i in ids if ids.count(i) > 1)} appears twice")
    return tuple(rows)


def _checked(where: str, cells: dict[str, str]) -> QueueRow:
    row = QueueRow(**{name: cells[name] for name in _COLUMNS})
    if not row.decision:
        if row.who or row.when or row.new_caption:
            raise UserError(f"{where}: {row.clip_id} has no decision, but other cells filled in")
        return row
    if row.decision not in get_args(Choice):
        raise UserError(
            f"{where}: decision {row.decision!r}; expected {', '.join(get_args(Choice))}"
        )
    if not row.who or not _is_time(row.when):
        raise UserError(
            f"{where}: {row.clip_id} has the decision {row.decision}, but not who and when "
            "(ISO 8601: 2026-11-24T10:00:00+00:00)"
        )
    if (row.decision == "edit") != bool(row.new_caption):
        raise UserError(f"{where}: {row.clip_id}: edit needs a new_caption, and nothing else may")
    return row


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text) is not None
    except ValueError:
        return False


def write_queue(path: Path, rows: Sequence[QueueRow]) -> None:
    """Write the file whole or not at all."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def update_queue(path: Path, doubtful: Sequence[QueueRow]) -> tuple[QueueRow, ...]:
    """Update the file to the clips in doubt; decisions on unchanged captions are kept.

    Raises:
        UserError: See `read_queue`.
    """
    before = {row.clip_id: row for row in read_queue(path)} if path.is_file() else {}
    rows = []
    for row in doubtful:
        old = before.get(row.clip_id)
        if old is not None and (old.caption, old.part) == (row.caption, row.part):
            row = replace(
                row,
                decision=old.decision,
                new_caption=old.new_caption,
                who=old.who,
                when=old.when,
            )
        rows.append(row)
    if tuple(rows) != tuple(before.values()) or not path.is_file():
        write_queue(path, rows)
    return tuple(rows)


def decide(
    path: Path, clip_id: str, decision: Choice, *, who: str, when: datetime, new_caption: str = ""
) -> None:
    """Fill in one row.

    Raises:
        UserError: There is no such row, or the decision is incomplete.
    """
    rows = read_queue(path)
    if clip_id not in {row.clip_id for row in rows}:
        raise UserError(f"{path}: has no clip {clip_id!r}")
    changed = []
    for row in rows:
        if row.clip_id == clip_id:
            cells = asdict(row) | {
                "decision": decision,
                "new_caption": new_caption,
                "who": who,
                "when": when.isoformat(timespec="seconds"),
            }
            row = _checked(str(path), cells)
        changed.append(row)
    write_queue(path, changed)
