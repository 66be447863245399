"""What one process is asking right now.

In:   keys, as they are asked and as they land.
Out:  whether somebody is asking a key already; a wait for the next landing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["InFlight"]


class InFlight:
    """Belongs to one event loop at a time."""

    def __init__(self) -> None:
        self._asked: dict[str, asyncio.Future[None]] = {}
        self._num_sent = 0
        self._waiting: list[asyncio.Future[None]] = []

    async def alone(self, key: str) -> bool:
        """Wait until nobody else here asks `key`. Whether nobody did in the first place."""
        running = self._asked.get(key)
        if running is None:
            return True
        await asyncio.wait([running])  # not the future itself: to give up here must not end it
        return False

    @contextmanager
    def asking(self, key: str) -> Iterator[None]:
        """`key` is asked by the block, and by nobody else in this process."""
        assert key not in self._asked
        self._asked[key] = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            self._asked.pop(key).set_result(None)

    @contextmanager
    def sent(self) -> Iterator[None]:
        """Money is booked in the block, and may come back when it ends."""
        self._num_sent += 1
        try:
            yield
        finally:
            self._num_sent -= 1
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiting.clear()

    async def next_landing(self) -> bool:
        """Wait until a send ends; False at once if none is under way."""
        if self._num_sent == 0:
            return False
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter
        return True
