"""Runs as typed functions; each returns a complete `Recipe`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from omni2sound.recipes.embedded import embedded
from omni2sound.recipes.tiny import tiny
from omni2sound.train.recipe import Recipe

__all__ = ["RECIPES"]

RECIPES: Mapping[str, Callable[[], Recipe]] = {"tiny": tiny, "embedded": embedded}
"""By the name that `omni2sound train` takes."""
