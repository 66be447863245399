"""The queue in front of the one device: fair between clients, in order inside one.

In:   records of jobs, each of a client.
Out:  the next one; positions, by which waiting clients see how many are before them.

Whoever was served longest ago is served next, so that a client with a hundred jobs delays another
one by one job. Clients name themselves; it is courtesy between users of one server, no protection.
"""

from __future__ import annotations

import threading
from collections import deque

from omni2sound.serve.store import Record

_MAX_CLIENTS = 1000
"""Whose last turn is remembered."""


class Queue:
    """Waiting jobs; methods may be called from any thread."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Record]] = {}
        self._turns: dict[str, int] = {}
        self._turn = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, record: Record) -> None:
        """Let a job wait."""
        with self._changed:
            self._waiting.setdefault(record.client, deque()).append(record)
            self._changed.notify()

    def take(self) -> Record | None:
        """Wait for the next job and remove it; None once the queue is closed."""
        with self._changed:
            while not self._closed and not self._waiting:
                self._changed.wait()
            if self._closed:
                return None
            client = self._next(self._waiting, self._turns)
            record = self._waiting[client].popleft()
            if not self._waiting[client]:
                del self._waiting[client]
            self._turn += 1
            self._turns.pop(client, None)
            self._turns[client] = self._turn
            for old in list(self._turns)[:-_MAX_CLIENTS]:
                del self._turns[old]
            return record

    def remove(self, record: Record) -> bool:
        """Remove a waiting job; return whether it was still waiting."""
        with self._changed:
            waiting = self._waiting.get(record.client)
            if waiting is None or record not in waiting:
                return False
            waiting.remove(record)
            if not waiting:
                del self._waiting[record.client]
            return True

    def order(self) -> list[Record]:
        """Return the waiting jobs in the order in which they will be taken."""
        with self._changed:
            waiting = {client: deque(records) for client, records in self._waiting.items()}
            turns, turn = dict(self._turns), self._turn
        order = []
        while waiting:
            client = self._next(waiting, turns)
            order.append(waiting[client].popleft())
            turn += 1
            turns[client] = turn
            if not waiting[client]:
                del waiting[client]
        return order

    def close(self) -> None:
        """Let `take` return None from now on; what waits stays where it is stored."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        with self._changed:
            return sum(len(records) for records in self._waiting.values())

    @staticmethod
    def _next(waiting: dict[str, deque[Record]], turns: dict[str, int]) -> str:
        return min(waiting, key=lambda c: (turns.get(c, 0), waiting[c][0].serial))
