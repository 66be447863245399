"""A progress bar for terminals.

In:   a number of steps.
Out:  a bar on stderr if stderr is a terminal, otherwise nothing at all.

stdout stays free for results, so that they can be piped.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from omni2sound.cli.streams import guard_streams, unguarded


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
    quiet = not logging.getLogger("omni2sound").isEnabledFor(logging.INFO)
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    # The bar draws with control characters of its own, and lines that are printed meanwhile stand
    # above it: rich takes both streams for that, which would send piped results to stderr.
    console = Console(file=unguarded(sys.stderr))
    is_shown = sys.stdout.isatty()
    with Progress(*columns, console=console, transient=True, redirect_stdout=is_shown) as bar:
        guard_streams()
        task = bar.add_task(description, total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)
