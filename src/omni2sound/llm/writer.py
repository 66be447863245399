"""One thread that writes to SQLite, many who wait for it.

In:   functions of a connection.
Out:  futures of their results; one is done only when its changes are on the disk.

A commit flushes to disk and takes milliseconds, however much it holds. So what has come in
while the last one was running is committed together: durability costs the wait, not the rate.
If one of them fails, all are undone and each is done again in a transaction of its own; a
savepoint for each would cost every statement twice, and this thread has to wait for the
interpreter after each statement.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["Writer"]

Result = TypeVar("Result")
_Job = tuple[Callable[[sqlite3.Connection], Any], "Future[Any]"]

_LARGEST_COMMIT = 512


class Writer:
    """Owns `connection` until it is closed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        # A daemon: whoever forgets to close loses nothing that anybody was told is stored.
        self._thread = threading.Thread(target=self._run, name="call-store", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[sqlite3.Connection], Result]) -> Future[Result]:
        """Run `work` in a transaction, after everything submitted before it.

        It may run twice, the first time undone, so it changes nothing but the file. It can't
        be cancelled: what was sent must be settled, whoever still wants to know.
        """
        if self._closed:
            raise RuntimeError("the call store is closed")
        future: Future[Result] = Future()
        future.set_running_or_notify_cancel()
        self._jobs.put((work, future))
        return future

    def close(self) -> None:
        """Finish what was submitted and let go of the file."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
            self._thread.join()
            self._connection.close()

    def _run(self) -> None:
        going_on = True
        while going_on:
            batch = [self._jobs.get()]
            while len(batch) < _LARGEST_COMMIT:
                try:
                    batch.append(self._jobs.get_nowait())
                except queue.Empty:
                    break
            going_on = batch[-1] is not None
            self._commit([job for job in batch if job is not None])

    def _commit(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        db = self._connection
        try:
            db.execute("BEGIN IMMEDIATE")
            results = [work(db) for work, _ in jobs]
            db.execute("COMMIT")
        except Exception as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            if len(jobs) == 1:
                jobs[0][1].set_exception(error)
                return
            for job in jobs:  # one job's failure is not its neighbours'
                self._commit([job])
            return
        for (_, future), result in zip(jobs, results, strict=True):
            future.set_result(result)
