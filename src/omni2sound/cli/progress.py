"""Progress: bars on a terminal, a line now and then elsewhere.

In:   a number of steps, or the stages of `omni2sound.stages`.
Out:  on stderr, a bar if it is a terminal; otherwise a line every 10 s from those tasks that have
      stages, and nothing from others.

stdout stays free for results, so that they can be piped.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from omni2sound.cli.streams import guard_streams, unguarded
from omni2sound.stages import listening

LINE_EVERY_S = 10.0


@contextmanager
def progress_bar(
    description: str, total: int | None = None
) -> Iterator[Callable[[int, int], None]]:
    """Show the progress of a task.

    Args:
        description: The task in a few words.
        total: Number of steps; None if it is not known yet.

    Yields:
        `report(done, total)`, to be called after each step with the counts so far.
    """
    if _is_quiet() or not sys.stderr.isatty():
        yield lambda done, total: None
        return

    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with _bar(columns) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def stages_shown(total: int = 1) -> Iterator[Callable[[], None]]:
    """Show the stages of a task by name, each with its share done.

    Args:
        total: Number of results.

    Yields:
        To be called after each result.
    """
    stage = _Stage(total)
    if _is_quiet():
        yield stage.next
        return
    if not sys.stderr.isatty():
        ended = threading.Event()
        lines = threading.Thread(target=_print_lines, args=(stage, ended), daemon=True)
        lines.start()
        try:
            with listening(stage.listen):
                yield stage.next
        finally:
            ended.set()
            lines.join()
        return

    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[share]}"),
               TimeElapsedColumn())  # fmt: skip
    with _bar(columns) as bar:
        task = bar.add_task("starting", total=None, share="")

        def listen(name: str | None, done: int, all_: int) -> None:
            stage.listen(name, done, all_)
            bar.update(
                task, description=stage.title, completed=stage.done, total=stage.all or None,
                share=stage.share,
            )  # fmt: skip

        with listening(listen):
            yield stage.next


class _Stage:
    """What is done now, and how far it is."""

    def __init__(self, total: int) -> None:
        self.total, self.number = total, 0
        self.name, self.done, self.all = "starting", 0, 0
        self.began_s = time.monotonic()

    def next(self) -> None:
        self.number += 1

    def listen(self, name: str | None, done: int, total: int) -> None:
        if name is not None:
            self.name = name
        if name is not None or total:
            self.done, self.all = done, total

    @property
    def title(self) -> str:
        of = f" ({min(self.number + 1, self.total)} of {self.total})" if self.total > 1 else ""
        return f"{self.name}{of}"

    @property
    def share(self) -> str:
        return f"{100 * self.done // self.all} %" if self.all else ""


def _print_lines(stage: _Stage, ended: threading.Event) -> None:
    while not ended.wait(LINE_EVERY_S):
        share = f", {stage.share}" if stage.share else ""
        line = f"omni2sound: {stage.title}{share}, {time.monotonic() - stage.began_s:.0f} s"
        print(line, file=sys.stderr, flush=True)


def _is_quiet() -> bool:
    return not logging.getLogger("omni2sound").isEnabledFor(logging.INFO)


@contextmanager
def _bar(columns: Any) -> Iterator[Any]:
    from rich.console import Console
    from rich.file_proxy import FileProxy
    from rich.progress import Progress

    # The bar draws with control characters of its own, and lines that are printed meanwhile stand
    # above it: rich takes both streams for that, which would send piped results to stderr.
    console = Console(file=unguarded(sys.stderr))
    stdout = sys.stdout
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        if stdout.isatty():
            sys.stdout = FileProxy(cast("Console", _Unwrapped(console)), stdout)
        guard_streams()
        try:
            yield bar
        finally:
            sys.stdout = stdout


class _Unwrapped:
    """A rich console that breaks no line: a path or JSON in two lines can't be copied."""

    def __init__(self, console: Any) -> None:
        self._console = console

    def __enter__(self) -> None:
        self._console.__enter__()

    def __exit__(self, *error: object) -> None:
        self._console.__exit__(*error)

    def print(self, text: object) -> None:
        """Print as the console does, in lines as long as they are."""
        self._console.print(text, soft_wrap=True)
