"""Stages of a task: what it is doing now, and how far that is.

In:   `enter` and `advance`, called where the work is done.
Out:  calls of a listener, if somebody listens.

Work deep inside a package need not know who shows its progress, nor carry a callback there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str | None, int, int], None]
"""Called with (stage, 0, 0) when one begins, and with (None, done, total) as it goes on; total is 0
where nobody knows how far that is. What it raises ends the task."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener` for all stages inside the block, in this thread."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def enter(stage: str) -> None:
    """Begin a stage, named by a verb: "generating"."""
    listener = _listener.get()
    if listener is not None:
        listener(stage, 0, 0)


def advance(done: int, total: int) -> None:
    """Say how far the stage is."""
    listener = _listener.get()
    if listener is not None:
        listener(None, done, total)


def going_on() -> None:
    """Say that the stage goes on, where it may be ended."""
    advance(0, 0)


_part: ContextVar[tuple[int, int]] = ContextVar("part", default=(0, 1))


@contextmanager
def part(number: int, total: int) -> Iterator[None]:
    """Note that the stages inside the block belong to one of several parts, counted from 0."""
    token = _part.set((number, total))
    try:
        yield
    finally:
        _part.reset(token)


def current_part() -> tuple[int, int]:
    """Return the number of the part that is being made, from 0, and how many there are."""
    return _part.get()
