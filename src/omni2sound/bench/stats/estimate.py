"""`Estimate`, a value with its interval, and `Score`, a named number of a protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["higher", "lower"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A value, its interval and the number of clips behind it."""

    value: float
    low: float
    high: float
    num_clips: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One number of a protocol."""

    protocol: str
    name: str
    direction: Direction
    """Which is better."""
    unit: str
    """Empty for shares and other pure numbers."""
    estimate: Estimate
