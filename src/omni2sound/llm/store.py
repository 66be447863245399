"""Store of requests, answers and costs in one SQLite file, safe to kill at any instant.

In:   content keys; the highest cost before a send, its outcome and cost afterwards.
Out:  committed answers; permission to send, or the reason against it; spend as an interval.

    claim = await wrap_future(store.claim(key, ...))   # Granted: the intent is on the disk
    ...send...
    await wrap_future(store.settle(claim.attempt, ...))

What not to get wrong: the intent is durable before the first byte leaves, and the answer in
the same transaction as its cost. So at any instant the bill lies between `known` and
`known + uncertain`, and a committed answer is never paid for again.

A lease ends with its process, not by a clock: each process locks a file of its own
(`calls.sqlite.owners/ID`), and the system releases the lock however the process dies. The next
process that gets the lock marks the open sends of the dead one `lost`; they stay in `uncertain`.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal, Self

from filelock import FileLock, Timeout

from omni2sound.config import from_json, to_json
from omni2sound.errors import UserError
from omni2sound.files import Closing
from omni2sound.llm.chat import ChatReply, ChatRequest, ModelId
from omni2sound.llm.in_flight import InFlight
from omni2sound.llm.prices import Cost, usd
from omni2sound.llm.schema import migrate
from omni2sound.llm.writer import Writer
from omni2sound.readers import sqlite_file
from omni2sound.redact import scrub

Outcome = Literal["answered", "malformed", "refused", "rejected", "lost"]
"""Outcome of a send: an answer; a reply in another form, or cut off; declined by the model;
rejected without a bill; unknown."""
MAX_CUT = 2
"""A request is given up after a reply that was cut, and one that was cut at a raised limit."""

_STORED = ("text", "finish", "usage")
"""Fields of a reply in the column `answer`."""
_BUSY_S = 60.0
"""Longest wait for another process's commit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spend:
    """Money: at least `known_usd`, at most `known_usd + uncertain_usd`."""

    known_usd: Decimal
    uncertain_usd: Decimal
    num_unpriced: int
    """Sends without a known price, whose cost comes on top."""

    @property
    def at_most_usd(self) -> Decimal:
        """Upper end, which budgets are compared with."""
        return self.known_usd + self.uncertain_usd


@dataclass(frozen=True, kw_only=True, slots=True)
class Total:
    """Sends of one prompt to one model with one outcome."""

    model: ModelId
    prompt_version: str
    state: Outcome | Literal["sent"]
    num: int
    spend: Spend
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Granted:
    """Permission to send; the attempt must be settled."""

    attempt: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """No send needed: the answer is there."""

    reply: ChatReply


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """No send: another live process has this request in flight."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenUp:
    """No send: the allowed number of sends brought no answer."""

    reason: Literal["malformed", "refused", "cut"]
    num: int
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NoBudget:
    """No send: it could exceed the budget."""

    spend: Spend


Claim = Granted | Answered | Held | GivenUp | NoBudget


class CallStore(Closing):
    """Open one with `CallStore.open`, close it with `with`."""

    def __init__(self, path: Path, *, budget_usd: Decimal | None) -> None:
        self.path = path
        self.budget_usd = budget_usd
        self.in_flight = InFlight()
        """Requests of this process that are in flight."""
        self._id = secrets.token_hex(8)
        self._owners = path.with_name(f"{path.name}.owners")
        self._owners.mkdir(exist_ok=True)
        self._lock = FileLock(self._owners / self._id, thread_local=False)
        self._reader = _connect(path)
        self._reading = threading.Lock()
        self._lock.acquire(timeout=0)  # before the name is in the file
        self._writer = Writer(_connect(path), path)
        self._writer.submit(self._enter).result()

    @classmethod
    def open(cls, path: str | Path, *, budget_usd: Decimal | None = None) -> Self:
        """Open or create a store, migrate it, and settle sends of processes that died.

        Args:
            path: The SQLite file in an existing folder on a local disk: SQLite's locks don't
                work over network file systems.
            budget_usd: Limit of the whole store's spend; no send is granted that could exceed it.

        Raises:
            UserError: No such folder; not a call store; or one of a later version.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise UserError(f"{path}: folder {path.parent} does not exist; create it first")
        if budget_usd is not None and not (budget_usd.is_finite() and budget_usd >= 0):
            raise UserError(f"budget of {budget_usd} USD: expected 0 or more")
        try:
            db = _connect(path)
            try:
                migrate(db, path)
            finally:
                db.close()
            return cls(path, budget_usd=budget_usd)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: expected a call store ({error})") from None

    def close(self) -> None:
        """Commit pending work; sends that were not settled become `lost`."""
        if not self._lock.is_locked:
            return
        self._writer.submit(lambda db: _settle_dead(db, self._id)).result()
        self._writer.close()
        self._reader.close()
        self._lock.release()
        self._lock_of(self._id).unlink(missing_ok=True)

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        with self._reading, sqlite_file(self.path, "a call store"):
            yield self._reader

    # ---- asking

    def answer(self, key: str) -> ChatReply | None:
        """Return the committed answer, if any."""
        with self._read() as db:
            row = db.execute("SELECT answer FROM call WHERE key = ?", (key,)).fetchone()
        return None if row is None or row[0] is None else _reply(row[0])

    def num_cut(self, key: str) -> int:
        """Count the replies to a request that were cut; see `settle`."""
        with self._read() as db:
            row = db.execute("SELECT num_cut FROM call WHERE key = ?", (key,)).fetchone()
        return 0 if row is None else int(row[0])

    def forgive(self, labels: Iterable[str]) -> Future[int]:
        """Allow unanswered requests with these labels as many tries again; return their number."""
        names = [_storable(label) for label in labels]

        def work(db: sqlite3.Connection) -> int:
            changed = db.executemany(
                "UPDATE call SET num_malformed = 0, num_refused = 0, num_cut = 0"
                " WHERE label = ? AND answer IS NULL"
                " AND num_malformed + num_refused + num_cut > 0",
                [(name,) for name in names],
            )
            return changed.rowcount

        return self._writer.submit(work)

    def claim(
        self,
        key: str,
        *,
        model: ModelId,
        request: ChatRequest,
        cost: Cost | None,
        max_malformed: int,
        max_refused: int,
    ) -> Future[Claim]:
        """Request permission to send and book `cost` when it is granted.

        Args:
            key: `content_key(model, request)`.
            model: Model that would answer.
            request: Gives `prompt_version` and `label`.
            cost: Highest cost; None without a known price.
            max_malformed: Most malformed replies to this request, over all runs.
            max_refused: Most refusals of this request, over all runs.
        """

        def work(db: sqlite3.Connection) -> Claim:
            row = db.execute(
                "SELECT answer, owner, num_malformed, num_refused, num_cut FROM call WHERE key = ?",
                (key,),
            ).fetchone()
            if row is not None:
                answer, owner, num_malformed, num_refused, num_cut = row
                if answer is not None:
                    return Answered(reply=_reply(answer))
                if owner not in (None, self._id) and not self._is_dead(db, owner):
                    return Held()
                if num_malformed >= max_malformed:
                    return _given_up(db, key, "malformed", num_malformed)
                if num_refused >= max_refused:
                    return _given_up(db, key, "refused", num_refused)
                if num_cut >= MAX_CUT:
                    return _given_up(db, key, "cut", num_cut)
            if self.budget_usd is not None:
                spend = _spend(db)
                if cost is None or spend.at_most_usd + cost.at_most_usd > self.budget_usd:
                    return NoBudget(spend=spend)
            kind = _kind(db, model, request.prompt_version)
            db.execute(
                "INSERT INTO call (key, kind, label, owner) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (key) DO UPDATE SET owner = excluded.owner",
                (key, kind, _storable(request.label), self._id),
            )
            cursor = db.execute(
                "INSERT INTO attempt (key, kind, owner, state, sent_at, known_pusd, uncertain_pusd)"
                " VALUES (?, ?, ?, 'sent', ?, ?, ?)",
                (key, kind, self._id, _now(), *_booked(cost)),
            )
            assert cursor.lastrowid is not None
            return Granted(attempt=cursor.lastrowid)

        return self._writer.submit(work)

    def settle(
        self,
        attempt: int,
        *,
        outcome: Outcome,
        cost: Cost | None,
        reply: ChatReply | None = None,
        detail: str | None = None,
        num_cut: int = 0,
    ) -> Future[None]:
        """Record the outcome of a send and end the lease.

        Args:
            attempt: From `Granted`.
            outcome: Outcome of the send.
            cost: Its cost, as far as known; None without a known price.
            reply: The reply, stored as the answer if the outcome is "answered".
            detail: Reason why there is no answer.
            num_cut: Malformed since cut off: 1, or 2 with the raised limit; it then counts as cut.
        """
        if outcome == "rejected":
            cost = Cost(known_pusd=0)
        usage = None if reply is None else reply.usage
        tokens = (None, None) if usage is None else (usage.input_tokens, usage.output_tokens)

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE attempt SET state = ?, settled_at = ?, known_pusd = ?, uncertain_pusd = ?,"
                " input_tokens = ?, output_tokens = ?, detail = ? WHERE id = ?",
                (outcome, _now(), *_booked(cost), *tokens, detail and _storable(detail), attempt),
            )
            answer = None
            if outcome == "answered" and reply is not None:
                data = to_json(reply)
                data["text"] = scrub(data["text"])
                answer = json.dumps({name: data[name] for name in _STORED})
            db.execute(
                "UPDATE call SET owner = NULL, answer = ?, num_malformed = num_malformed + ?,"
                " num_refused = num_refused + ?, num_cut = num_cut + ?"
                " WHERE key = (SELECT key FROM attempt WHERE id = ?) AND answer IS NULL",
                (
                    answer,
                    outcome == "malformed" and not num_cut,
                    outcome == "refused",
                    num_cut,
                    attempt,
                ),
            )

        return self._writer.submit(work)

    # ---- looking

    def spend(self) -> Spend:
        """Return the spend of all processes that used this store."""
        with self._read() as db:
            return _spend(db)

    def totals(self) -> tuple[Total, ...]:
        """Count sends by model, prompt and outcome."""
        with self._read() as db:
            rows = db.execute(
                "SELECT endpoint, model, prompt_version, state, num, num_unpriced, known_pusd,"
                " uncertain_pusd, input_tokens, output_tokens"
                " FROM total JOIN kind ON kind.id = total.kind WHERE num > 0 ORDER BY 1, 2, 3, 4"
            ).fetchall()
        return tuple(
            Total(
                model=ModelId(endpoint=row[0], model=row[1]),
                prompt_version=row[2],
                state=row[3],
                num=row[4],
                spend=Spend(known_usd=usd(row[6]), uncertain_usd=usd(row[7]), num_unpriced=row[5]),
                input_tokens=row[8],
                output_tokens=row[9],
            )
            for row in rows
        )

    # ---- inside transactions

    def _enter(self, db: sqlite3.Connection) -> None:
        for (owner,) in db.execute("SELECT id FROM owner").fetchall():
            self._is_dead(db, owner)
        db.execute("INSERT INTO owner (id, opened_at) VALUES (?, ?)", (self._id, _now()))

    def _is_dead(self, db: sqlite3.Connection, owner: str) -> bool:
        """Return whether `owner` is dead; its leases and open sends are then cleared."""
        lock = FileLock(self._lock_of(owner))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        try:
            _settle_dead(db, owner)
        finally:
            lock.release()
            self._lock_of(owner).unlink(missing_ok=True)
        return True

    def _lock_of(self, owner: str) -> Path:
        return self._owners / owner


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")  # NORMAL loses the last commits with the power
    db.execute("PRAGMA foreign_keys = ON")
    return db


def _kind(db: sqlite3.Connection, model: ModelId, prompt_version: str) -> int:
    name = (model.endpoint, model.model, prompt_version)
    row = db.execute(
        "SELECT id FROM kind WHERE endpoint = ? AND model = ? AND prompt_version = ?", name
    ).fetchone()
    if row is not None:
        return int(row[0])
    cursor = db.execute("INSERT INTO kind (endpoint, model, prompt_version) VALUES (?, ?, ?)", name)
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _settle_dead(db: sqlite3.Connection, owner: str) -> None:
    db.execute(
        "UPDATE attempt SET state = 'lost', settled_at = ?, detail = 'process ended'"
        " WHERE owner = ? AND state = 'sent'",
        (_now(), owner),
    )
    db.execute("UPDATE call SET owner = NULL WHERE owner = ?", (owner,))
    db.execute("DELETE FROM owner WHERE id = ?", (owner,))


def _spend(db: sqlite3.Connection) -> Spend:
    known, uncertain, unpriced = db.execute(
        "SELECT ifnull(sum(known_pusd), 0), ifnull(sum(uncertain_pusd), 0),"
        " ifnull(sum(num_unpriced), 0) FROM total"
    ).fetchone()
    return Spend(known_usd=usd(known), uncertain_usd=usd(uncertain), num_unpriced=unpriced)


def _given_up(
    db: sqlite3.Connection, key: str, reason: Literal["malformed", "refused", "cut"], num: int
) -> GivenUp:
    row = db.execute(
        "SELECT detail FROM attempt WHERE key = ? AND state = ? ORDER BY id DESC LIMIT 1",
        (key, "malformed" if reason == "cut" else reason),
    ).fetchone()
    return GivenUp(reason=reason, num=num, detail="" if row is None else row[0] or "")


def _booked(cost: Cost | None) -> tuple[int | None, int | None]:
    return (None, None) if cost is None else (cost.known_pusd, cost.uncertain_pusd)


def _storable(text: str) -> str:
    """Scrub, and escape lone surrogates, which come from file names and JSON escapes."""
    return scrub(text).encode(errors="backslashreplace").decode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _reply(answer: str) -> ChatReply:
    return from_json(ChatReply, {**json.loads(answer), "from_store": True}, where="answer")
