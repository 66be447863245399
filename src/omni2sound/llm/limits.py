"""Rate limits of one model: concurrency, requests and tokens per minute, pauses.

In:   `Limits`; the highest number of tokens of each send.
Out:  evenly spaced turns: in any minute at most the limit plus one send.

Even spacing instead of bursts: endpoints that grant 600 per minute often mean 10 per second.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from omni2sound.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Limits of an endpoint; None is no limit."""

    concurrency: int = 16
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    """Input and output tokens; a send reserves its maximum and returns what it did not use."""

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise UserError(f"expected 1 or more, got {self.concurrency}", field="concurrency")
        for name in ("requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise UserError(f"expected more than 0 or None, got {value}", field=name)


class Pace:
    """Turns for sends; belongs to one event loop."""

    def __init__(
        self,
        limits: Limits,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._free = asyncio.Semaphore(limits.concurrency)
        self._per_request_s = 60 / limits.requests_per_minute if limits.requests_per_minute else 0.0
        self._per_token_s = 60 / limits.tokens_per_minute if limits.tokens_per_minute else 0.0
        self._clock, self._sleep = clock, sleep
        self._next_request_s = self._next_token_s = self._paused_until_s = clock()
        self._random = random.Random()

    @asynccontextmanager
    async def turn(self, num_tokens: int) -> AsyncIterator[None]:
        """Wait for the turn of a send of at most `num_tokens`, which the block does."""
        async with self._free:
            now = self._clock()
            start = max(now, self._next_request_s, self._next_token_s)
            self._next_request_s = start + self._per_request_s
            self._next_token_s = start + num_tokens * self._per_token_s
            while start > now or self._paused_until_s > now:
                await self._sleep(max(start, self._paused_until_s) - now)
                now = self._clock()
            yield

    def pause(self, duration_s: float) -> None:
        """Stop sends for a while and spread the time at which they continue."""
        spread_s = self._random.uniform(0, min(1.0, duration_s / 10))
        self._paused_until_s = max(self._paused_until_s, self._clock() + duration_s + spread_s)

    def give_back(self, num_tokens: int) -> None:
        """Return reserved tokens that were not used."""
        self._next_token_s = max(self._next_token_s - num_tokens * self._per_token_s, self._clock())
