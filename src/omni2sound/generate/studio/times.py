"""Times as people write them.

In:   "1:30", "01:02:03.5", "90".
Out:  seconds.
"""

from __future__ import annotations

import re

from omni2sound.errors import UserError

TIME = r"(?:(?:\d+:)?\d{1,2}:\d{2}(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)"
"""Pattern of a time: hours:minutes:seconds, minutes:seconds, or seconds."""


def parse_time(text: str, field: str | None) -> float:
    """Read a time, in seconds or as minutes:seconds or hours:minutes:seconds.

    Args:
        text: As in "90", "1:30" or "0:01:30.5".
        field: Name of the argument, for the error. None: the caller says it.

    Raises:
        UserError: It is none, or has more than 59 seconds beside minutes.
    """
    found = re.fullmatch(TIME, text.strip())
    parts = [float(part) for part in text.strip().split(":")] if found else []
    if not parts or any(part >= 60 for part in parts[1:]):
        raise UserError(f"expected seconds or a time as 1:30, got {text[:40]!r}", field=field)
    seconds = 0.0
    for part in parts:
        seconds = seconds * 60 + part
    return seconds


def show_time(seconds: float) -> str:
    """Write a time for people: 8.5 s, 1:30, 1:02:03."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
