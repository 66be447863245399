"""Runs as typed functions; each returns a complete `Recipe`."""

from __future__ import annotations

from collections.abc import Callable

from omni2sound.plugins import Registry
from omni2sound.recipes.ablations import ABLATIONS, ablated
from omni2sound.recipes.embedded import embedded
from omni2sound.recipes.paper import paper
from omni2sound.recipes.tiny import tiny
from omni2sound.train.recipe import Recipe

__all__ = ["RECIPES", "recipe_named"]

RECIPES: Registry[Callable[[], Recipe]] = Registry(
    "recipe",
    {"tiny": tiny, "embedded": embedded, "paper": paper},
    note=f"each also with + and one of {', '.join(ABLATIONS)}; plugins add others",
)
"""By the name that `omni2sound train` takes."""


def recipe_named(name: str) -> Recipe:
    """A recipe, or an ablation of one: "tiny", "paper+no-bridge".

    Raises:
        ConfigError: If there is none of that name; the known ones are listed.
    """
    base, plus, ablation = name.partition("+")
    recipe = RECIPES.find(base)()
    return ablated(recipe, ablation) if plus else recipe
