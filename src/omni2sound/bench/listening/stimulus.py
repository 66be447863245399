"""A sound or video that listeners judge."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Stimulus"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stimulus:
    """One thing to listen to; `kind` is a media type."""

    label: str
    kind: str
    data: bytes
