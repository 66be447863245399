"""Your own recipe: `omni2sound --plugin examples/plugins/recipe.py train quick --data ...`."""

from dataclasses import replace

from omni2sound.recipes import RECIPES
from omni2sound.recipes.tiny import tiny
from omni2sound.train.recipe import Recipe, Stage


def quick() -> Recipe:
    """A smaller network than `tiny`, one stage, text and video together."""
    recipe = tiny()
    return replace(
        recipe,
        name="quick",
        dit=replace(recipe.dit, width=64, depth=2, num_heads=2),
        stages=(
            Stage(
                name="joint",
                steps=200,
                lr=2e-3,
                final_lr=2e-4,
                warmup_steps=20,
                task_weights={"T2A": 0.2, "V2A": 0.4, "VT2A": 0.4},
            ),
        ),
    )


RECIPES.register("quick", quick)
