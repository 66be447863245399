"""News of jobs: from the thread that works to the clients that listen.

In:   ids of jobs that have changed, from any thread.
Out:  for each listener, the records that have changed since it last looked.

A listener that is slow misses states in between, never the last one; nothing is queued for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Listener:
    """One client's view: which jobs have changed."""

    def __init__(self, job_id: str | None) -> None:
        self.job_id = job_id
        self._changed: dict[str, None] = {}
        self._event = asyncio.Event()

    def tell(self, job_id: str | None) -> None:
        """Note a change; None only wakes the listener."""
        if job_id is not None:
            self._changed[job_id] = None
        self._event.set()

    async def wait(self, timeout_s: float) -> list[str]:
        """Wait for changes, and return the ids of the jobs; none if there were none in time."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), timeout_s)
        self._event.clear()
        changed, self._changed = list(self._changed), {}
        return changed


class Feed:
    """All listeners of one server."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: set[Listener] = set()
        self.closed = False

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say on which loop the listeners are."""
        self._loop = loop

    def changed(self, job_id: str) -> None:
        """Tell listeners of a change; may be called from any thread."""
        self._call(job_id)

    def close(self) -> None:
        """Let all listeners end."""
        self.closed = True
        self._call(None)

    @contextmanager
    def listener(self, job_id: str | None) -> Iterator[Listener]:
        """Listen to one job, or to all, for the block."""
        listener = Listener(job_id)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def __len__(self) -> int:
        return len(self._listeners)

    def _call(self, job_id: str | None) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._tell, job_id)

    def _tell(self, job_id: str | None) -> None:
        for listener in self._listeners:
            if job_id is None or listener.job_id in (None, job_id):
                listener.tell(job_id)
