"""Placeholder until the command is written."""

from __future__ import annotations

from omni2sound.errors import UserError

__all__ = ["train"]


def train() -> None:
    """Not written yet."""
    raise UserError("train is not written yet")
