"""Store of step results, on disk before the next step starts.

In:   clips by name, steps by name, content keys.
Out:  records; one SQLite file in the run's folder.

A result is valid only under its key: the digest of everything that it follows from (the clip,
earlier results, models, prompts, thresholds). A new junior prompt gives new captions and keeps
the routing. What not to get wrong: there is one writer, and `put` returns only once the results
are on disk.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omni2sound.annotate.executor import Effort
from omni2sound.annotate.records import (
    Decision,
    Ending,
    Failure,
    Record,
    Verdict,
    from_json,
    to_json,
)
from omni2sound.errors import ConfigError, UserError
from omni2sound.files import Closing
from omni2sound.readers import sqlite_file
from omni2sound.redact import scrub

STEPS_FILE = "steps.sqlite"
START_ONE = "start one: omni2sound annotate run"
_VERSION = 1
"""Version of the keys."""
_KIND = "a store of annotation steps"
_FILE_VERSION = 2
"""Version of the tables; files of version 1 lack `effort`, which is added."""
_OUTCOME = """CASE substr(record, 1, 6)
    WHEN '{"Endi' THEN json_extract(record, '$.Ending.end')
    WHEN '{"Deci' THEN json_extract(record, '$.Decision.outcome') || ':'
        || coalesce(json_extract(record, '$.Decision.rule'), '')
    WHEN '{"Verd' THEN iif(json_extract(record, '$.Verdict.plausible'), 'plausible', 'implausible')
    WHEN '{"Fail' THEN 'failure:' || json_extract(record, '$.Failure.kind')
    ELSE '' END"""
"""`outcome_of` in SQL, for files without the column."""
_ADD_OUTCOME = (
    "BEGIN IMMEDIATE; ALTER TABLE steps ADD COLUMN outcome TEXT NOT NULL DEFAULT '';"
    " ALTER TABLE steps ADD COLUMN stamp TEXT NOT NULL DEFAULT '';"
    f" UPDATE steps SET outcome = {_OUTCOME}; COMMIT;"
)
"""For files of earlier releases."""
_INDEXES = """
CREATE INDEX IF NOT EXISTS outcomes ON steps (step, outcome, made_at);
CREATE INDEX IF NOT EXISTS ended ON steps (clip, outcome, stamp) WHERE step = 'end';
"""
"""Counts and ends read these alone: records lie between large ones, and all of them are read
otherwise."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS steps (
    clip TEXT NOT NULL,
    step TEXT NOT NULL,
    key TEXT NOT NULL,
    record TEXT NOT NULL,
    made_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    outcome TEXT NOT NULL DEFAULT '',
    stamp TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (clip, step)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS effort (
    job TEXT PRIMARY KEY,
    num INTEGER NOT NULL,
    cpu_s REAL NOT NULL
) STRICT, WITHOUT ROWID;
"""
_MEMO = "CREATE TABLE IF NOT EXISTS memo (number INTEGER PRIMARY KEY, key TEXT, data BLOB) STRICT;"
"""What follows from a manifest alone and takes long to compute; see `pending.py`."""


class KeyHead:
    """`step_key` of a step for clip after clip: what all clips share is encoded and hashed once."""

    def __init__(self, step: str, identity: Any) -> None:
        head = json.dumps([_VERSION, step, identity], sort_keys=True, allow_nan=False)[:-1]
        self._digest = hashlib.sha256(head.encode())

    @property
    def sha256(self) -> str:
        """Digest of the step and its identity."""
        return self._digest.hexdigest()

    def after(self, key: str) -> str:
        """Compute `step_key(step, identity, (key,))`."""
        digest = self._digest.copy()
        digest.update(f", {json.dumps(key)}]".encode())
        return digest.hexdigest()


def step_key(step: str, identity: Any, inputs: Iterable[str]) -> str:
    """Compute the content key of a step's result from the keys of the results that it reads.

    `identity` is JSON data of everything in the step itself that can change the result.
    """
    text = json.dumps([_VERSION, step, identity, *inputs], sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def outcome_of(record: Record) -> str:
    """Return what a record comes to in a word or two: "kept", "drop:sentence", "failure:media".

    Endings have their end, decisions outcome and rule, verdicts "plausible" or "implausible",
    failures their kind; other records nothing.
    """
    if isinstance(record, Ending):
        return record.end
    if isinstance(record, Decision):
        return f"{record.outcome}:{record.rule or ''}"
    if isinstance(record, Verdict):
        return "plausible" if record.plausible else "implausible"
    return f"failure:{record.kind}" if isinstance(record, Failure) else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Result of one clip under its key."""

    clip: str
    key: str
    record: Record
    stamp: str = ""
    """Of an ending: digest of the clip and of everything that can change any step's result."""


def _has_outcomes(db: sqlite3.Connection) -> bool:
    return any(row[1] == "outcome" for row in db.execute("PRAGMA table_xinfo(steps)"))


class StepStore(Closing):
    """Step results of one run; open it with `StepStore.open`."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self._path = path
        self._outcome = "outcome" if _has_outcomes(db) else _OUTCOME
        """Column of outcomes; computed in a file of an earlier release that is only read."""
        self.pending_effort: dict[str, Effort] = {}
        """Effort of jobs since the last `put`, which stores it together with their results."""

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> StepStore:
        """Open the file, or create it unless `read_only`.

        Raises:
            UserError: The file is no such store, has another version, or is missing.
        """
        if read_only and not path.is_file():
            raise UserError(f"{path.parent}: no annotation run; {START_ONE}")
        with sqlite_file(path, _KIND):
            db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if read_only:
                db.execute("PRAGMA query_only=ON")
            else:
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=FULL")
                if version < _FILE_VERSION:
                    db.executescript(_SCHEMA + f"PRAGMA user_version={_FILE_VERSION};")
                    version = _FILE_VERSION
                if version == _FILE_VERSION:
                    if not _has_outcomes(db):
                        db.executescript(_ADD_OUTCOME)
                    db.executescript(_INDEXES + _MEMO)
            if version != _FILE_VERSION:
                raise UserError(f"{path} has version {version}; this release reads {_FILE_VERSION}")
            return cls(db, path)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def put(self, step: str, found: Iterable[Found]) -> None:
        """Store results and pending effort in one transaction, on disk when it returns."""
        self.put_all([(step, f) for f in found])

    def put_all(self, found: Sequence[tuple[str, Found]]) -> None:
        """Store results of several steps and pending effort in one transaction."""
        rows = [
            (f.clip, step, f.key, scrub(to_json(f.record)), outcome_of(f.record), f.stamp)
            for step, f in found
        ]
        spent = [(job, e.jobs, e.cpu_s) for job, e in self.pending_effort.items()]
        if not rows and not spent:
            return
        with sqlite_file(self._path, _KIND), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            # An end is that of the steps beside it; one that changes makes it doubtful.
            self._db.executemany(
                "UPDATE steps SET stamp = '' WHERE clip = ? AND step = 'end' AND stamp <> ''",
                [(clip,) for clip, *_ in rows],
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO steps (clip, step, key, record, outcome, stamp)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                rows,
            )
            self._db.executemany(
                "INSERT INTO effort (job, num, cpu_s) VALUES (?, ?, ?) ON CONFLICT (job)"
                " DO UPDATE SET num = num + excluded.num, cpu_s = cpu_s + excluded.cpu_s",
                spent,
            )
        self.pending_effort.clear()

    def get(self, step: str, keys: Mapping[str, str]) -> dict[str, Record]:
        """Return a step's results that are stored under these keys (clip -> key), by clip."""
        kept = {}
        names = list(keys)
        for first in range(0, len(names), 500):  # SQLite binds a limited number of values
            some = names[first : first + 500]
            marks = ",".join("?" * len(some))
            rows = self._rows(
                f"SELECT clip, key, record FROM steps WHERE step = ? AND clip IN ({marks})",
                (step, *some),
            )
            kept.update({c: self.decoded(r) for c, key, r in rows if keys[c] == key})
        return kept

    def ended(self, clips: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Return outcome and stamp of those clips that have ended, by clip."""
        found: dict[str, tuple[str, str]] = {}
        for first in range(0, len(clips), 500):
            some = clips[first : first + 500]
            query = (
                "SELECT clip, outcome, stamp FROM steps INDEXED BY ended WHERE step = 'end'"
                f" AND clip IN ({','.join('?' * len(some))})"
            )
            with sqlite_file(self._path, _KIND):
                rows = self._db.execute(query, some).fetchall()
            found.update({clip: (end, stamp) for clip, end, stamp in rows})
        return found

    def of_clips(self, clips: Sequence[str]) -> dict[str, dict[str, tuple[str, str]]]:
        """Return the results of clips: step -> (key, record as JSON), by clip."""
        found: dict[str, dict[str, tuple[str, str]]] = {}
        for first in range(0, len(clips), 500):
            some = clips[first : first + 500]
            marks = ",".join("?" * len(some))
            query = f"SELECT clip, step, key, record FROM steps WHERE clip IN ({marks})"
            for clip, step, key, record in self._rows(query, some):
                found.setdefault(clip, {})[step] = (key, record)
        return found

    def failures(self) -> Iterator[tuple[str, str, Failure]]:
        """Yield clip, step and failure of all clips that failed, by name."""
        failed = "step IN (SELECT DISTINCT step FROM steps) AND"
        failed += f" {self._outcome} >= 'failure:' AND {self._outcome} < 'failure;'"
        query = (
            f"SELECT clip, step, record FROM steps WHERE {failed} AND EXISTS (SELECT 1 FROM steps"
            " AS e WHERE e.clip = steps.clip AND e.step = 'end'"
            ' AND e.record LIKE \'{"Ending":{"end":"failed"%\') ORDER BY clip, step'
        )
        for clip, step, text in self._rows(query):
            record = self.decoded(text)
            assert isinstance(record, Failure)
            yield clip, step, record

    def decoded(self, text: str) -> Record:
        """Decode a stored record.

        Raises:
            ConfigError: It is none; the error names the file.
        """
        try:
            return from_json(text)
        except ConfigError as error:
            raise ConfigError(f"{self._path}: {error}") from None

    def forget(self, steps: Iterable[tuple[str, str]]) -> None:
        """Drop results by clip and step, and the ends of their clips."""
        rows = [row for clip, step in steps for row in ((clip, step), (clip, "end"))]
        if rows:
            with sqlite_file(self._path, _KIND), self._db:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany("DELETE FROM steps WHERE clip = ? AND step = ?", rows)

    def of_clip(self, clip: str) -> dict[str, tuple[str, Record]]:
        """Return all results of one clip: step -> (key, record)."""
        rows = self._rows("SELECT step, key, record FROM steps WHERE clip = ?", (clip,))
        return {step: (key, self.decoded(record)) for step, key, record in rows}

    def memo(self, number: int, key: str) -> bytes | None:
        """Return what was noted under a number, if its key is this one."""
        query = "SELECT data FROM memo WHERE number = ? AND key = ?"
        return next((data for (data,) in self._rows(query, (number, key))), None)

    def put_memo(self, number: int, key: str, data: bytes) -> None:
        """Note something that can be computed again; replaces what has the number."""
        with sqlite_file(self._path, _KIND), self._db:
            self._db.execute("INSERT OR REPLACE INTO memo VALUES (?, ?, ?)", (number, key, data))

    def effort(self) -> dict[str, tuple[int, float]]:
        """Return number and CPU seconds of jobs by kind, over all runs into this file."""
        return {job: (n, s) for job, n, s in self._rows("SELECT job, num, cpu_s FROM effort")}

    def _rows(self, query: str, values: Sequence[str | int] = ()) -> Iterator[tuple[Any, ...]]:
        with sqlite_file(self._path, _KIND):
            # No `yield from`: an abandoned one closes its cursor, perhaps after the file.
            for row in self._db.execute(query, values):  # noqa: UP028
                yield row

    def counts(self) -> dict[str, int]:
        """Count the results of each step."""
        return dict(self._rows("SELECT step, count(*) FROM steps GROUP BY step"))

    def outcomes(self) -> dict[tuple[str, str], int]:
        """Count the results by step and outcome; see `outcome_of`."""
        query = f"SELECT step, {self._outcome}, count(*) FROM steps GROUP BY 1, 2"
        return {(step, outcome): num for step, outcome, num in self._rows(query)}

    def pace(self, step: str) -> tuple[int, float]:
        """Count the results of a step, and the seconds in which they were made.

        Gaps of more than ten minutes, in which nothing ran, count as ten.
        """
        # By minutes first: sorting and converting every time takes longest of all counts.
        query = (
            "WITH minutes AS (SELECT count(*) AS num, julianday(min(made_at)) AS first,"
            " julianday(max(made_at)) AS last FROM steps WHERE step = ?"
            " GROUP BY substr(made_at, 1, 16)), gaps AS (SELECT num, last - first AS within,"
            " first - lag(last) OVER (ORDER BY first) AS before FROM minutes)"
            " SELECT total(num), total(86400 * within) + total(min(86400 * before, 600)) FROM gaps"
        )
        ((num, seconds),) = self._rows(query, (step,))
        return int(num), seconds

    def records(self, step: str) -> Iterator[Record]:
        """Yield all results of a step."""
        for (record,) in self._rows("SELECT record FROM steps WHERE step = ?", (step,)):
            yield self.decoded(record)
