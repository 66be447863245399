"""Flow of clips through steps: no step waits for all clips of the step before.

In:   steps in order, journeys, a step store.
Out:  journeys that have ended or wait for the next run, in their order.

Each step has a queue and lanes that take from it, so that servers of different steps work at the
same time. A step pauses while a later one has more than it can take soon: all servers then work
until the end, and an aborted run has paid for little that it did not finish. What not to get
wrong: results are written in the order in which they came, so what is on disk never lacks an
earlier step; a result is lost only with the process, and then a paid answer is still in the store
of calls.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from omni2sound.annotate.records import Ending, Failure, Record
from omni2sound.annotate.roles import Retry
from omni2sound.annotate.steps import Found, KeyHead, StepStore
from omni2sound.errors import UserError

_log = logging.getLogger(__name__)

BATCH = 64
"""Most clips that a step of local networks takes at once."""
_COMMIT = 64
"""Results per commit. Paid answers are on disk already, in the store of calls."""
_COMMIT_S = 0.5
"""Longest time that a result waits for a commit."""
_READ = 512
"""Clips whose stored results are read at once."""


class Traveller(Protocol):
    """What the flow knows of a journey."""

    clip: Any
    key: str
    found: dict[str, Record]
    waiting: str
    earlier: Any

    @property
    def end(self) -> Any:
        """Outcome; None before the end."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the workflow."""

    name: str
    identity: Any
    do: Callable[[Sequence[Any]], AsyncIterator[tuple[int, Any]]]
    wants: Callable[[Any], bool] = lambda journey: True
    lanes: int | None = None
    """Clips asked about at a time, each by itself; None takes batches, one at a time."""


def stamp_head(steps: Sequence[Step]) -> KeyHead:
    """Return what makes the stamp of an ending: `.after(key)` of the journey at its beginning."""
    return _stamp_head([KeyHead(step.name, step.identity) for step in steps])


def _stamp_head(heads: Sequence[KeyHead]) -> KeyHead:
    return KeyHead("all steps", [head.sha256 for head in heads])


@dataclass(slots=True)
class _Place:
    """Where a journey is."""

    journey: Any
    stamp: str
    """Digest of the clip and of all steps."""
    number: int = 0
    """Next step."""
    stored: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Results of earlier runs: key and record by step."""
    is_over: bool = False
    is_stamped: bool = False
    """Whether its stored end has this stamp."""


class Flow:
    """Runs journeys through steps; use it once, in one event loop."""

    def __init__(self, steps: Sequence[Step], store: StepStore, *, brief: bool = False) -> None:
        """Prepare a flow.

        Args:
            steps: In their order.
            store: Holds the results of earlier runs, and gets those of this one.
            brief: Leave the results of clips that were kept or dropped by an earlier run with the
                same steps on disk; such journeys have their end and nothing else.
        """
        self._steps, self._store, self._brief = tuple(steps), store, brief
        self._heads = [KeyHead(step.name, step.identity) for step in steps]
        self._stamp_head = _stamp_head(self._heads)
        self._queues: list[deque[_Place]] = [deque() for _ in steps]
        self._arrived = [asyncio.Event() for _ in steps]
        self._running = [0 for _ in steps]
        """Clips that each step works on."""
        self._taken = asyncio.Event()
        self._changed = asyncio.Event()
        self._pending: list[tuple[str, Found]] = []
        self._committed_s = time.monotonic()
        self._rejected: list[list[str] | None] = [[] for _ in steps]
        """Clips that a step's endpoint rejected before it answered any; None once it has."""
        self._error: BaseException | None = None
        self.num_over = 0

    async def run(self, journeys: Iterator[Any], *, window: int) -> AsyncGenerator[Any, None]:
        """Yield journeys in order, each once it is over.

        Args:
            journeys: The journeys at their beginnings.
            window: Most of them in memory.
        """
        lanes = [
            asyncio.ensure_future(self._lane(number))
            for number, step in enumerate(self._steps)
            for _ in range(step.lanes or 1)
        ]
        lanes.append(asyncio.ensure_future(self._commit_often()))
        places: deque[_Place] = deque()
        try:
            while True:
                self._admit(journeys, places, window)
                if not places:
                    break
                while not places[0].is_over:
                    if self._error is not None:
                        raise self._error
                    self._changed.clear()
                    await self._changed.wait()
                yield places.popleft().journey
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
            self._commit()  # also results that came before the budget ended
            if isinstance(self._error, UserError):
                self._forget_rejected()

    def _admit(self, journeys: Iterator[Any], places: deque[_Place], window: int) -> None:
        while len(places) <= max(0, window - _READ) or not places:
            some = [
                _Place(journey, self._stamp_head.after(journey.key))
                for _, journey in zip(range(min(_READ, window)), journeys, strict=False)
            ]
            if not some:
                return
            left = self._leave_ended(some) if self._brief else some
            stored = self._store.of_clips([place.journey.clip.name for place in left])
            for place in left:
                place.stored = stored.get(place.journey.clip.name, {})
                self._advance(place)
            places += some

    def _leave_ended(self, some: Sequence[_Place]) -> list[_Place]:
        """Let clips leave that an earlier run kept or dropped; return the others."""
        ended = self._store.ended([place.journey.clip.name for place in some])
        left = []
        for place in some:
            end, stamp = ended.get(place.journey.clip.name, ("", ""))
            place.is_stamped = stamp == place.stamp
            if end in ("kept", "dropped") and place.is_stamped:
                place.journey.earlier = end
                self._leave(place)
            else:
                left.append(place)
        return left

    # ---- steps

    def _advance(self, place: _Place) -> None:
        """Move a journey on: through stored results to the queue of a step, or to its end."""
        journey = place.journey
        while journey.end is None and place.number < len(self._steps):
            step = self._steps[place.number]
            if step.wants(journey):
                journey.key = self._heads[place.number].after(journey.key)
                key, record = place.stored.get(step.name, ("", ""))
                if key != journey.key:
                    self._queues[place.number].append(place)
                    self._arrived[place.number].set()
                    return
                journey.found[step.name] = self._store.decoded(record)
            place.number += 1
        ending = Ending(end=journey.end, steps=tuple(journey.found))
        key, record = place.stored.get("end", ("", ""))
        is_known = key == journey.key and self._store.decoded(record) == ending
        if not is_known or (self._brief and not place.is_stamped):  # of an earlier release
            self._write("end", place, ending)
        self._leave(place)

    def _leave(self, place: _Place) -> None:
        place.is_over = True
        place.stored = {}
        self.num_over += 1
        self._changed.set()

    async def _lane(self, number: int) -> None:
        step, queue, arrived = self._steps[number], self._queues[number], self._arrived[number]
        try:
            while True:
                while not queue:
                    arrived.clear()
                    await arrived.wait()
                while self._is_ahead(number):
                    self._taken.clear()
                    await self._taken.wait()
                if not queue:
                    continue
                most = BATCH if step.lanes is None else 1
                batch = [queue.popleft() for _ in range(min(most, len(queue)))]
                self._running[number] += len(batch)
                self._taken.set()
                async for index, result in step.do([place.journey for place in batch]):
                    self._result(number, batch[index], result)
                self._running[number] -= len(batch)
                self._taken.set()
                # Local steps may never wait: let others run.
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if self._error is None:
                self._error = error
            self._changed.set()

    def _is_ahead(self, number: int) -> bool:
        """Whether a later step has enough to do, with what this one is about to hand on."""
        return any(
            len(queue) + self._running[number] >= 2 * (step.lanes or BATCH)
            for step, queue in zip(
                self._steps[number + 1 :], self._queues[number + 1 :], strict=True
            )
        )

    def _result(self, number: int, place: _Place, result: Any) -> None:
        step, journey = self._steps[number], place.journey
        if isinstance(result, Retry):
            journey.waiting = result.reason
            _log.warning("%s: %s: %s", journey.clip.name, step.name, result.reason)
            self._leave(place)
            return
        rejected = self._rejected[number]
        if not isinstance(result, Failure):
            self._rejected[number] = None
        elif rejected is not None and result.kind == "rejected":
            rejected.append(journey.clip.name)
        journey.found[step.name] = result
        place.number += 1
        self._write(step.name, place, result)
        self._advance(place)

    # ---- the store

    def _write(self, step: str, place: _Place, record: Record) -> None:
        journey = place.journey
        stamp = place.stamp if step == "end" else ""
        found = Found(clip=journey.clip.name, key=journey.key, record=record, stamp=stamp)
        self._pending.append((step, found))
        if len(self._pending) >= _COMMIT:
            self._commit()

    def _commit(self) -> None:
        pending, self._pending = self._pending, []
        self._store.put_all(pending)
        self._committed_s = time.monotonic()

    async def _commit_often(self) -> None:
        while True:
            await asyncio.sleep(_COMMIT_S / 2)
            if self._pending and time.monotonic() - self._committed_s >= _COMMIT_S:
                self._commit()

    def _forget_rejected(self) -> None:
        """Drop failures of clips whose endpoint rejects all, as it turned out."""
        for step, names in zip(self._steps, self._rejected, strict=True):
            self._store.forget((name, step.name) for name in names or ())
