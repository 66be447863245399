"""Writer thread for SQLite with group commits.

In:   functions of a connection.
Out:  futures of their results, done only when the changes are on disk.

A commit flushes to disk and takes milliseconds, whatever its size. So all jobs that arrive during
one commit share the next: durability costs latency, not throughput. If one fails, all are rolled
back and each runs again in a transaction of its own; a savepoint for each would double the
statements, and this thread waits for the interpreter after each statement.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from omni2sound.readers import sqlite_file

Result = TypeVar("Result")
_Job = tuple[Callable[[sqlite3.Connection], Any], "Future[Any]"]

_LARGEST_COMMIT = 512


class Writer:
    """Owner of `connection` until it is closed."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        # A daemon thread: without `close` only jobs whose futures are not done are lost.
        self._thread = threading.Thread(target=self._run, name="call-store", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[sqlite3.Connection], Result]) -> Future[Result]:
        """Run `work` in a transaction, after everything submitted before it.

        It may run twice, the first time rolled back, so it must change nothing but the file. It
        can't be cancelled: a send must be settled even if its caller has gone. Errors of SQLite
        come as `readers.sqlite_file` reports them.
        """
        if self._closed:
            raise RuntimeError("the call store is closed")
        future: Future[Result] = Future()
        future.set_running_or_notify_cancel()
        self._jobs.put((work, future))
        return future

    def close(self) -> None:
        """Finish submitted work and close the file."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
            self._thread.join()
            self._connection.close()

    def _run(self) -> None:
        is_open = True
        while is_open:
            batch = [self._jobs.get()]
            while len(batch) < _LARGEST_COMMIT:
                try:
                    batch.append(self._jobs.get_nowait())
                except queue.Empty:
                    break
            is_open = batch[-1] is not None
            self._commit([job for job in batch if job is not None])

    def _commit(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        db = self._connection
        try:
            with sqlite_file(self._path, "a call store"):
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
