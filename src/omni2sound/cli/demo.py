"""Placeholder until the command is written."""

from __future__ import annotations

from omni2sound.errors import UserError

__all__ = ["demo"]


def demo() -> None:
    """Not written yet."""
    raise UserError("demo is not written yet")
