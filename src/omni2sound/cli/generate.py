"""Placeholder until the command is written."""

from __future__ import annotations

from omni2sound.errors import UserError

__all__ = ["generate"]


def generate() -> None:
    """Not written yet."""
    raise UserError("generate is not written yet")
