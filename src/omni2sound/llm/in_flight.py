"""Deduplicates requests that are in flight.

In:   content keys of requests, when they start and when they end.
Out:  whether a key is in flight already; a wait for the next end of a send.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class InFlight:
    """Requests in flight in this process; belongs to one event loop at a time."""

    def __init__(self) -> None:
        self._asked: dict[str, asyncio.Future[None]] = {}
        self._num_sent = 0
        self._end = asyncio.Event()

    async def alone(self, key: str) -> bool:
        """Wait until `key` is not in flight; return whether it was not in the first place."""
        running = self._asked.get(key)
        if running is None:
            return True
        await asyncio.wait([running])  # awaiting the future itself would let a caller cancel it
        return False

    @contextmanager
    def asking(self, key: str) -> Iterator[None]:
        """Hold `key` in flight during the block."""
        assert key not in self._asked
        self._asked[key] = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            self._asked.pop(key).set_result(None)

    @contextmanager
    def sent(self) -> Iterator[None]:
        """Count a send whose booked money may be released when the block ends."""
        self._num_sent += 1
        try:
            yield
        finally:
            self._num_sent -= 1
            self._end.set()
            self._end = asyncio.Event()

    async def next_end(self) -> bool:
        """Wait until a send ends; return False at once if there is none."""
        if self._num_sent == 0:
            return False
        await self._end.wait()
        return True
