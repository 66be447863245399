"""Tables of a call store and migrations of older files.

In:   a connection to a new file, or to one of any earlier version.
Out:  the same file with the newest tables; `UserError` for any other file.

A version is the number of applied migrations; a released migration never changes. Triggers keep
`total`, so no statement can change the spend without the sum.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from omni2sound.errors import UserError

_APPLICATION_ID = 0x4F32534C  # "O2SL"; `file` shows it

_ADD_NEW = """
    INSERT INTO total (kind, state, num, num_unpriced, known_pusd, uncertain_pusd,
                       input_tokens, output_tokens)
    VALUES (NEW.kind, NEW.state, 1, NEW.known_pusd IS NULL, ifnull(NEW.known_pusd, 0),
            ifnull(NEW.uncertain_pusd, 0), ifnull(NEW.input_tokens, 0),
            ifnull(NEW.output_tokens, 0))
    ON CONFLICT (kind, state) DO UPDATE SET
        num = num + 1,
        num_unpriced = num_unpriced + excluded.num_unpriced,
        known_pusd = known_pusd + excluded.known_pusd,
        uncertain_pusd = uncertain_pusd + excluded.uncertain_pusd,
        input_tokens = input_tokens + excluded.input_tokens,
        output_tokens = output_tokens + excluded.output_tokens;
"""
_TAKE_OLD = """
    UPDATE total SET
        num = num - 1,
        num_unpriced = num_unpriced - (OLD.known_pusd IS NULL),
        known_pusd = known_pusd - ifnull(OLD.known_pusd, 0),
        uncertain_pusd = uncertain_pusd - ifnull(OLD.uncertain_pusd, 0),
        input_tokens = input_tokens - ifnull(OLD.input_tokens, 0),
        output_tokens = output_tokens - ifnull(OLD.output_tokens, 0)
    WHERE kind = OLD.kind AND state = OLD.state;
"""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # Keys by which costs are summed.
        """CREATE TABLE kind (
            id INTEGER PRIMARY KEY,
            endpoint TEXT NOT NULL,
            model TEXT NOT NULL,
            prompt_version TEXT NOT NULL,
            UNIQUE (endpoint, model, prompt_version)
        )""",
        # A process that has the file open; it holds the lock file of the same name.
        "CREATE TABLE owner (id TEXT PRIMARY KEY, opened_at TEXT NOT NULL) WITHOUT ROWID",
        # A request; leased while it has an owner, done once it has an answer.
        """CREATE TABLE call (
            key TEXT PRIMARY KEY,
            kind INTEGER NOT NULL REFERENCES kind,
            label TEXT NOT NULL,
            owner TEXT REFERENCES owner,
            answer TEXT,
            num_malformed INTEGER NOT NULL DEFAULT 0,
            num_refused INTEGER NOT NULL DEFAULT 0
        ) WITHOUT ROWID""",
        # A send, written before it happens as `sent`; `lost` if its outcome is unknown.
        """CREATE TABLE attempt (
            id INTEGER PRIMARY KEY,
            key TEXT NOT NULL REFERENCES call,
            kind INTEGER NOT NULL REFERENCES kind,
            owner TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN
                ('sent', 'answered', 'malformed', 'refused', 'rejected', 'lost')),
            sent_at TEXT NOT NULL,
            settled_at TEXT,
            known_pusd INTEGER CHECK (typeof(known_pusd) IN ('integer', 'null')),
            uncertain_pusd INTEGER CHECK (typeof(uncertain_pusd) IN ('integer', 'null')),
            input_tokens INTEGER,
            output_tokens INTEGER,
            detail TEXT
        )""",
        "CREATE INDEX attempt_of_key ON attempt (key)",
        "CREATE INDEX attempt_in_flight ON attempt (owner) WHERE state = 'sent'",
        "CREATE INDEX call_leased ON call (owner) WHERE owner IS NOT NULL",
        """CREATE TABLE total (
            kind INTEGER NOT NULL REFERENCES kind,
            state TEXT NOT NULL,
            num INTEGER NOT NULL,
            num_unpriced INTEGER NOT NULL,
            known_pusd INTEGER NOT NULL,
            uncertain_pusd INTEGER NOT NULL,
            input_tokens INTEGER NOT NULL,
            output_tokens INTEGER NOT NULL,
            PRIMARY KEY (kind, state)
        ) WITHOUT ROWID""",
        f"CREATE TRIGGER attempt_added AFTER INSERT ON attempt BEGIN {_ADD_NEW} END",
        f"CREATE TRIGGER attempt_changed AFTER UPDATE ON attempt BEGIN {_TAKE_OLD} {_ADD_NEW} END",
        f"CREATE TRIGGER attempt_removed AFTER DELETE ON attempt BEGIN {_TAKE_OLD} END",
    ),
)


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Migrate the file to the newest version, or leave it unchanged.

    Raises:
        UserError: It is no call store, or one of a later version of the package.
    """
    db.execute("BEGIN IMMEDIATE")  # two processes may open a new file at once
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (num_tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != _APPLICATION_ID and num_tables:
            raise UserError(f"{path}: expected a call store, got another SQLite file")
        if version > len(MIGRATIONS):
            raise UserError(
                f"{path}: a later version of omni2sound made it (format {version}, this one "
                f"knows {len(MIGRATIONS)}); update omni2sound"
            )
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                db.execute(statement)
        db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
