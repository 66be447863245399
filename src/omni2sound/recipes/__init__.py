"""Recipes as typed functions, by name."""

from __future__ import annotations

from collections.abc import Callable

from omni2sound.errors import UserError
from omni2sound.plugins import Registry
from omni2sound.recipes.ablations import ABLATIONS, ablate
from omni2sound.recipes.embedded import embedded
from omni2sound.recipes.embedded_v4 import embedded_v4
from omni2sound.recipes.paper import paper
from omni2sound.recipes.tiny import tiny
from omni2sound.train.recipe import Recipe

__all__ = ["RECIPES", "recipe_named"]

RECIPES: Registry[Callable[[], Recipe]] = Registry(
    "recipe",
    {"tiny": tiny, "embedded": embedded, "embedded-v4": embedded_v4, "paper": paper},
    kind=Callable,
    note=f"each also with + and one of {', '.join(ABLATIONS)}; plugins add others",
)
"""Recipes by the name that `omni2sound train` takes."""


def recipe_named(name: str) -> Recipe:
    """Build a recipe, or an ablation of one: "tiny", "paper+no-bridge".

    Raises:
        ConfigError: If the name is unknown; the known ones are listed.
        UserError: If a plugin's recipe fails, or is none.
    """
    base, plus, ablation = name.partition("+")
    make = RECIPES.find(base)
    try:
        recipe = make()
    except Exception as error:
        if RECIPES.plugin_of(base) is None:
            raise
        raise UserError(f"recipe {base!r}: {type(error).__name__}: {error}") from error
    if not isinstance(recipe, Recipe):
        raise UserError(f"recipe {base!r}: expected a Recipe, got {repr(recipe)[:80]}")
    return ablate(recipe, ablation) if plus else recipe
