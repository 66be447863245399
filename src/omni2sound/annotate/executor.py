"""Jobs of local networks, run in processes or on Ray without blocking the event loop.

In:   a function of one job, jobs.
Out:  (index, result) as results come.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from omni2sound.data.workers import Workers

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """Number and CPU time of jobs of one kind."""

    jobs: int = 0
    cpu_s: float = 0.0
    """CPU time in the workers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Executor:
    """Workers, and what they have done."""

    workers: Workers = Workers()
    effort: dict[str, Effort] = field(default_factory=dict, compare=False)
    """Effort so far by function name; the owner of the dict may clear it."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, compare=False, repr=False)
    """Jobs of one step at a time: in one process they share its number of threads."""

    async def map(
        self, function: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> AsyncIterator[tuple[int, Result]]:
        """Run every job once; see `Workers.map`."""
        await self._turn.acquire()
        try:
            async for done in self._map(function, jobs):
                yield done
        finally:
            self._turn.release()

    async def _map(
        self, function: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> AsyncIterator[tuple[int, Result]]:
        results = self.workers.map(partial(_timed, function), list(enumerate(jobs)))
        while True:
            # One thread after another, never two at a time: the iterator is not shared.
            done = await asyncio.to_thread(next, results, None)
            if done is None:
                return
            place, result, cpu_s = done
            before = self.effort.get(function.__name__, Effort())
            self.effort[function.__name__] = Effort(
                jobs=before.jobs + 1, cpu_s=before.cpu_s + cpu_s
            )
            yield place, result


def _timed(function: Callable[[Job], Result], job: tuple[int, Job]) -> tuple[int, Result, float]:
    before = time.thread_time()  # jobs run with one thread
    result = function(job[1])
    return job[0], result, time.thread_time() - before
