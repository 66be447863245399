"""Tables of a call store and migrations of older files.

In:   a connection to a new file, or to one of any earlier version.
Out:  the same file with the newest tables; `UserError` for any other file.

A version is the number of applied migrations (migrations/*.sql, in order of their names); a
released migration never changes. Triggers keep `total`, so no statement can change the spend
without the sum.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from omni2sound.errors import UserError

_APPLICATION_ID = 0x4F32534C  # "O2SL"; `file` shows it


def _statements(script: str) -> tuple[str, ...]:
    found, begun = [], ""
    for line in script.splitlines(keepends=True):
        begun += line
        if sqlite3.complete_statement(begun):  # knows comments, and where a trigger ends
            found.append(begun)
            begun = ""
    return tuple(found)


MIGRATIONS = tuple(
    _statements(script.read_text(encoding="utf-8"))
    for script in sorted(Path(__file__).with_name("migrations").glob("*.sql"))
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
