"""What every step found out, on the disk before the next one starts.

In:   clips by name, steps by name, content keys.
Out:  records; one SQLite file in the run's folder.

A result counts only under its key: the digest of everything that it follows from (the clip,
the results before it, models, prompts, thresholds). Whoever changes the junior's prompt gets
new captions and keeps routing. What not to get wrong: there is one writer, and `put` returns
only once the results are on the disk.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omni2sound.annotate.executor import Effort
from omni2sound.annotate.records import Record, from_json, to_json
from omni2sound.errors import UserError
from omni2sound.files import Closing

__all__ = ["STEPS_FILE", "Found", "StepStore", "step_key"]

STEPS_FILE = "steps.sqlite"
_VERSION = 1
"""Of keys."""
_FILE_VERSION = 2
"""Of the tables below; files of version 1 lack `effort`, which is added."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS steps (
    clip TEXT NOT NULL,
    step TEXT NOT NULL,
    key TEXT NOT NULL,
    record TEXT NOT NULL,
    made_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    PRIMARY KEY (clip, step)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS effort (
    job TEXT PRIMARY KEY,
    num INTEGER NOT NULL,
    cpu_s REAL NOT NULL
) STRICT, WITHOUT ROWID;
"""


def step_key(step: str, identity: Any, inputs: Iterable[str]) -> str:
    """Content key of a step's result.

    Args:
        step: Its name.
        identity: Everything about the step that can change its result; JSON data.
        inputs: Keys of the results that it reads.
    """
    text = json.dumps([_VERSION, step, identity, *inputs], sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A result to keep."""

    clip: str
    key: str
    record: Record


class StepStore(Closing):
    """Results of one run's steps. Open it with `StepStore.open`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.pending_effort: dict[str, Effort] = {}
        """What jobs took since the last `put`, which keeps it together with their results."""

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> StepStore:
        """Open or make the file.

        Raises:
            UserError: It is no such store, of another version, or not there to be read.
        """
        if read_only and not path.is_file():
            raise UserError(f"{path.parent}: no annotation run; start one: omni2sound annotate run")
        try:
            db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            if read_only:
                db.execute("PRAGMA query_only=ON")
            else:
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=FULL")
                (version,) = db.execute("PRAGMA user_version").fetchone()
                if version < _FILE_VERSION:
                    db.executescript(_SCHEMA)
                    db.execute(f"PRAGMA user_version={_FILE_VERSION}")
            (version,) = db.execute("PRAGMA user_version").fetchone()
        except sqlite3.DatabaseError as error:
            raise UserError(f"{path}: not a store of annotation steps ({error})") from None
        if version != _FILE_VERSION:
            raise UserError(f"{path} has version {version}; this release reads {_FILE_VERSION}")
        return cls(db)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def put(self, step: str, found: Iterable[Found]) -> None:
        """Keep results and the effort that is pending, all or none; on the disk when it returns."""
        rows = [(f.clip, step, f.key, to_json(f.record)) for f in found]
        spent = [(job, e.jobs, e.cpu_s) for job, e in self.pending_effort.items()]
        if not rows and not spent:
            return
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR REPLACE INTO steps (clip, step, key, record) VALUES (?, ?, ?, ?)", rows
            )
            self._db.executemany(
                "INSERT INTO effort (job, num, cpu_s) VALUES (?, ?, ?) ON CONFLICT (job)"
                " DO UPDATE SET num = num + excluded.num, cpu_s = cpu_s + excluded.cpu_s",
                spent,
            )
        self.pending_effort.clear()

    def get(self, step: str, keys: Mapping[str, str]) -> dict[str, Record]:
        """Results by clip, of those clips whose key is the one that is kept.

        Args:
            step: Its name.
            keys: Clip -> key.
        """
        kept = {}
        names = list(keys)
        for first in range(0, len(names), 500):  # SQLite binds a limited number of values
            some = names[first : first + 500]
            marks = ",".join("?" * len(some))
            rows = self._db.execute(
                f"SELECT clip, key, record FROM steps WHERE step = ? AND clip IN ({marks})",
                (step, *some),
            )
            kept.update({c: from_json(r) for c, key, r in rows if keys[c] == key})
        return kept

    def of_clip(self, clip: str) -> dict[str, tuple[str, Record]]:
        """Everything that is kept of one clip: step -> (key, record)."""
        rows = self._db.execute("SELECT step, key, record FROM steps WHERE clip = ?", (clip,))
        return {step: (key, from_json(record)) for step, key, record in rows}

    def effort(self) -> dict[str, tuple[int, float]]:
        """Jobs and their processor time, by kind, over all runs into this file."""
        return {job: (n, s) for job, n, s in self._db.execute("SELECT job, num, cpu_s FROM effort")}

    def counts(self) -> dict[str, int]:
        """How many results are kept of each step."""
        return dict(self._db.execute("SELECT step, count(*) FROM steps GROUP BY step"))

    def times(self, step: str) -> tuple[str, str] | None:
        """When the first and the last result of a step were kept, in UTC."""
        query = "SELECT min(made_at), max(made_at) FROM steps WHERE step = ?"
        first, last = self._db.execute(query, (step,)).fetchone()
        return None if first is None else (first, last)

    def records(self, step: str) -> Iterator[Record]:
        """All results of a step, one at a time."""
        for (record,) in self._db.execute("SELECT record FROM steps WHERE step = ?", (step,)):
            yield from_json(record)
