"""Standard streams: what reaches a terminal holds no key and no control character.

In:   `sys.stdout` and `sys.stderr` as the process got them, closed or not.
Out:  streams in their place; what can't be written ends in one line, or in silence for stderr.

Names, ids and replies come from others: an escape character in one could clear the screen or hide a
line. Everything is printed through here, so no command has to think of it. What not to get wrong: a
closed standard stream leaves its number to the next file that is opened, and a library that prints
to "stderr" would then write into it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO, cast

from omni2sound.redact import printable, scrub

_CLEAR_SCREEN = "\x1b[2J\x1b[H"


class GuardedStream:
    """A text stream that scrubs and escapes what is written; everything else is the stream's."""

    def __init__(self, stream: TextIO, *, name: str, may_fail: bool) -> None:
        """Args.

        stream: The stream behind it.
        name: What it is called in an error.
        may_fail: Whether a failure to write is dropped; nobody could be told one of stderr.
        """
        self.unguarded = stream
        self._name = name
        self._may_fail = may_fail
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unguarded, name)

    def write(self, text: str) -> int:
        """Write a text without keys, its control characters as escapes."""
        with self._failing():
            self.unguarded.write(printable(scrub(text)))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts as `write` does."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what is held back."""
        with self._failing():
            self.unguarded.flush()

    @contextlib.contextmanager
    def _failing(self) -> Any:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: it was closed
            self._drop_the_rest()
            if self._may_fail:
                return
            number = getattr(error, "errno", None) or errno.EBADF
            raise OSError(number, os.strerror(number), self._name) from None

    def _drop_the_rest(self) -> None:
        """Send what is still held back nowhere; the interpreter would fail with it at its end."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.unguarded.fileno())
            os.close(nowhere)


def guard_streams() -> None:
    """Put guarded streams in the place of stdout and stderr; one that is closed goes nowhere.

    Streams that are guarded already stay.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    for name, may_fail in (("stdout", False), ("stderr", True)):
        stream = getattr(sys, name)
        if isinstance(stream, GuardedStream):
            continue
        if stream is None:
            stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        shown = "standard output" if name == "stdout" else "standard error"
        guarded = GuardedStream(stream, name=shown, may_fail=may_fail)
        setattr(sys, name, cast("TextIO", guarded))


def unguarded(stream: TextIO) -> TextIO:
    """Return the stream behind a guarded one, for control characters of our own."""
    return stream.unguarded if isinstance(stream, GuardedStream) else stream


def clear_screen() -> None:
    """Clear the terminal of stdout."""
    unguarded(sys.stdout).write(_CLEAR_SCREEN)
