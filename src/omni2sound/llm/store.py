"""What was asked, answered and paid: one SQLite file, safe to kill at any instant.

In:   content keys; what a send may cost, before it; how it ended and what it did cost.
Out:  answers that were committed; leave to send, or the reason why not; spend as an interval.

    claim = await wrap_future(store.claim(key, ...))   # Granted: the intent is on the disk
    ...send...
    await wrap_future(store.settle(claim.attempt, ...))

What not to get wrong: the intent is durable before the first byte leaves, and the answer in
the same transaction as its cost. So at any instant what a server has billed lies between
`known` and `known + uncertain`, and an answer that was committed is never bought again.

A lease ends with its process, not with a clock: each process holds a lock on a file of its
own (`calls.sqlite.owners/ID`), which the system lets go of however the process dies. Whoever
gets that lock buries the dead: its open sends become `lost` and stay in `uncertain`.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal, Self

from filelock import FileLock, Timeout

from omni2sound.errors import UserError
from omni2sound.files import Closing
from omni2sound.llm.chat import ChatReply, ChatRequest, ModelId, Usage
from omni2sound.llm.in_flight import InFlight
from omni2sound.llm.prices import Cost, usd
from omni2sound.llm.schema import migrate
from omni2sound.llm.writer import Writer

__all__ = [
    "Answered",
    "CallStore",
    "Claim",
    "GivenUp",
    "Granted",
    "Held",
    "NoBudget",
    "Outcome",
    "Spend",
    "Total",
]

Outcome = Literal["answered", "malformed", "refused", "rejected", "lost"]
"""How a send ended: an answer; another reply than was asked for; the model declined; turned
away unbilled; nobody knows."""

_BUSY_S = 60.0
"""How long to wait for another process's commit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spend:
    """Money: at least `known_usd`, at most `known_usd + uncertain_usd`."""

    known_usd: Decimal
    uncertain_usd: Decimal
    num_unpriced: int
    """Sends that may have cost something on top of it: their model has no known price."""

    @property
    def at_most_usd(self) -> Decimal:
        """What budgets are held against."""
        return self.known_usd + self.uncertain_usd


@dataclass(frozen=True, kw_only=True, slots=True)
class Total:
    """Sends of one prompt to one model that ended in one way."""

    model: ModelId
    prompt_version: str
    state: Outcome | Literal["sent"]
    num: int
    spend: Spend
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Granted:
    """Send, then settle this attempt."""

    attempt: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """Don't: here is the answer."""

    reply: ChatReply


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """Don't: another process that is alive is asking this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenUp:
    """Don't: as often as allowed it came back without an answer."""

    reason: Literal["malformed", "refused"]
    num: int
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NoBudget:
    """Don't: it could cost more than is left."""

    spend: Spend


Claim = Granted | Answered | Held | GivenUp | NoBudget


class CallStore(Closing):
    """Open one with `CallStore.open`, close it with `with`."""

    def __init__(self, path: Path, *, budget_usd: Decimal | None) -> None:
        self.path = path
        self.budget_usd = budget_usd
        self.in_flight = InFlight()
        """What this process is asking right now."""
        self._id = secrets.token_hex(8)
        self._owners = path.with_name(f"{path.name}.owners")
        self._owners.mkdir(exist_ok=True)
        self._lock = FileLock(self._owners / self._id, thread_local=False)
        self._reader = _connect(path)
        self._reading = threading.Lock()
        self._lock.acquire(timeout=0)  # before anybody can learn the name
        self._writer = Writer(_connect(path))
        self._writer.submit(self._enter).result()

    @classmethod
    def open(cls, path: str | Path, *, budget_usd: Decimal | None = None) -> Self:
        """Open or create a store, migrate it, and bury processes that died with it open.

        Args:
            path: The SQLite file; its folder exists. SQLite's locks don't reach over network
                file systems: keep it on a disk of the machine that asks.
            budget_usd: No send is granted that could take the whole store's spend above it.

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
        except sqlite3.DatabaseError as error:
            raise UserError(f"{path}: expected a call store ({error})") from None
        return cls(path, budget_usd=budget_usd)

    def close(self) -> None:
        """Commit what is under way; what was sent and not settled becomes `lost`."""
        if not self._lock.is_locked:
            return
        self._writer.submit(lambda db: _bury(db, self._id)).result()
        self._writer.close()
        self._reader.close()
        self._lock.release()
        self._lock_of(self._id).unlink(missing_ok=True)

    # ---- asking

    def answer(self, key: str) -> ChatReply | None:
        """The committed answer, if there is one."""
        with self._reading:
            row = self._reader.execute("SELECT answer FROM call WHERE key = ?", (key,)).fetchone()
        return None if row is None or row[0] is None else _reply(row[0])

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
        """Ask for leave to send; when it is granted, `cost` is booked.

        Args:
            key: `content_key(model, request)`.
            model: Who will be asked.
            request: For its `prompt_version` and `label`.
            cost: At most, None if it has no known price.
            max_malformed: Sends of this question, ever, that may end malformed.
            max_refused: Sends of this question, ever, that may end refused.
        """

        def work(db: sqlite3.Connection) -> Claim:
            row = db.execute(
                "SELECT answer, owner, num_malformed, num_refused FROM call WHERE key = ?", (key,)
            ).fetchone()
            if row is not None:
                answer, owner, num_malformed, num_refused = row
                if answer is not None:
                    return Answered(reply=_reply(answer))
                if owner not in (None, self._id) and not self._buried(db, owner):
                    return Held()
                if num_malformed >= max_malformed:
                    return GivenUp(
                        reason="malformed", num=num_malformed, detail=_last(db, key, "malformed")
                    )
                if num_refused >= max_refused:
                    return GivenUp(
                        reason="refused", num=num_refused, detail=_last(db, key, "refused")
                    )
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
    ) -> Future[None]:
        """Write down how a send ended, and end the lease.

        Args:
            attempt: From `Granted`.
            outcome: How it ended.
            cost: What it did cost, as far as one can know; None without a known price.
            reply: What came back; kept as the answer if the outcome is "answered".
            detail: Why there is no answer.
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
            answer = _written(reply) if outcome == "answered" and reply is not None else None
            db.execute(
                "UPDATE call SET owner = NULL, answer = ?, num_malformed = num_malformed + ?,"
                " num_refused = num_refused + ?"
                " WHERE key = (SELECT key FROM attempt WHERE id = ?) AND answer IS NULL",
                (answer, outcome == "malformed", outcome == "refused", attempt),
            )

        return self._writer.submit(work)

    # ---- looking

    def spend(self) -> Spend:
        """All money that this store knows of, whoever spent it."""
        with self._reading:
            return _spend(self._reader)

    def totals(self) -> tuple[Total, ...]:
        """Sends by model, prompt and how they ended."""
        with self._reading:
            rows = self._reader.execute(
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
            self._buried(db, owner)
        db.execute("INSERT INTO owner (id, opened_at) VALUES (?, ?)", (self._id, _now()))

    def _buried(self, db: sqlite3.Connection, owner: str) -> bool:
        """Whether `owner` was found dead; its leases and open sends are then cleared."""
        lock = FileLock(self._lock_of(owner))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        try:
            _bury(db, owner)
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


def _bury(db: sqlite3.Connection, owner: str) -> None:
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


def _last(db: sqlite3.Connection, key: str, state: str) -> str:
    row = db.execute(
        "SELECT detail FROM attempt WHERE key = ? AND state = ? ORDER BY id DESC LIMIT 1",
        (key, state),
    ).fetchone()
    return "" if row is None or row[0] is None else str(row[0])


def _booked(cost: Cost | None) -> tuple[int | None, int | None]:
    return (None, None) if cost is None else (cost.known_pusd, cost.uncertain_pusd)


def _storable(text: str) -> str:
    """Half a character, from a file name or a JSON escape, is spelt out."""
    return text.encode(errors="backslashreplace").decode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _written(reply: ChatReply) -> str:
    usage = reply.usage
    data: Mapping[str, object] = {
        "text": reply.text,
        "finish": reply.finish,
        "usage": None
        if usage is None
        else {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "audio_input_tokens": usage.audio_input_tokens,
            "cached_input_tokens": usage.cached_input_tokens,
        },
    }
    return json.dumps(data, ensure_ascii=True)


def _reply(answer: str) -> ChatReply:
    data = json.loads(answer)
    usage = None if data["usage"] is None else Usage(**data["usage"])
    return ChatReply(text=data["text"], finish=data["finish"], usage=usage, from_store=True)
