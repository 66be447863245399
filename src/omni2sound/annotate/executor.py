"""Work for networks, done in the executor: here, in processes, or on Ray.

In:   a function of one job, jobs.
Out:  (place, result), as they come, without blocking the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from omni2sound.data.engine import EngineName, map_jobs

__all__ = ["Executor"]

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class Executor:
    """Which engine, and how many jobs at a time; changes speed, never a result."""

    engine: EngineName = "local"
    num_workers: int = 1

    async def map(
        self, function: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> AsyncIterator[tuple[int, Result]]:
        """Do every job once; see `map_jobs`."""
        results = map_jobs(
            partial(_placed, function),
            list(enumerate(jobs)),
            engine=self.engine,
            num_workers=self.num_workers,
        )
        while True:
            # One thread after another, never two at a time: the iterator is no one's but ours.
            result = await asyncio.to_thread(next, results, None)
            if result is None:
                return
            yield result


def _placed(function: Callable[[Job], Result], job: tuple[int, Job]) -> tuple[int, Result]:
    return job[0], function(job[1])
