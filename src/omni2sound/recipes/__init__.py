"""Runs as typed functions; each returns a complete `Recipe`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from omni2sound.errors import ConfigError
from omni2sound.recipes.ablations import ABLATIONS, ablated
from omni2sound.recipes.embedded import embedded
from omni2sound.recipes.paper import paper
from omni2sound.recipes.tiny import tiny
from omni2sound.train.recipe import Recipe

__all__ = ["RECIPES", "recipe_named"]

RECIPES: Mapping[str, Callable[[], Recipe]] = {"tiny": tiny, "embedded": embedded, "paper": paper}
"""By the name that `omni2sound train` takes."""


def recipe_named(name: str) -> Recipe:
    """A recipe, or an ablation of one: "tiny", "paper+no-bridge".

    Raises:
        ConfigError: If there is none of that name; the known ones are listed.
    """
    base, plus, ablation = name.partition("+")
    if base not in RECIPES:
        raise ConfigError(
            f"no recipe {base!r}; known: {', '.join(RECIPES)}, each also with + and one of "
            f"{', '.join(ABLATIONS)}"
        )
    recipe = RECIPES[base]()
    return ablated(recipe, ablation) if plus else recipe
