"""Recipes: complete, typed, and ablations that change one thing and not the length."""

from __future__ import annotations

import pytest

from omni2sound.config import from_json, override, to_json
from omni2sound.errors import ConfigError
from omni2sound.recipes import RECIPES, recipe_named
from omni2sound.recipes.ablations import ABLATIONS
from omni2sound.train.recipe import Recipe

EVERY = [*RECIPES, *(f"{base}+{name}" for base in RECIPES for name in ABLATIONS)]


@pytest.mark.parametrize("name", EVERY)
def test_a_recipe_survives_json(name: str) -> None:
    recipe = recipe_named(name)
    assert from_json(Recipe, to_json(recipe)) == recipe


@pytest.mark.parametrize("name", [name for name in EVERY if "+" in name])
def test_an_ablation_is_as_long_as_its_recipe_and_differs(name: str) -> None:
    recipe, changed = recipe_named(name.partition("+")[0]), recipe_named(name)
    assert changed.name == f"{recipe.name}+{name.partition('+')[2]}"
    assert changed.num_steps == recipe.num_steps
    assert changed.dit == recipe.dit
    assert changed.stages != recipe.stages


def weights(name: str, stage: int = -1) -> dict[str, float]:
    return dict(recipe_named(name).stages[stage].task_weights)


def test_ablations_are_what_they_are_called() -> None:
    assert recipe_named("paper+t2a-only").tasks == ("T2A",)
    assert recipe_named("paper+v2a-only").tasks == ("V2A",)
    assert weights("paper+t2a-0.2") == pytest.approx({"T2A": 0.2, "V2A": 0.8})
    assert weights("paper+t2a-0.4") == pytest.approx({"T2A": 0.4, "V2A": 0.6})
    assert weights("paper+no-bridge") == pytest.approx({"T2A": 0.1, "V2A": 0.9})
    assert recipe_named("paper+no-pretraining").tasks == ("T2A", "V2A", "VT2A")
    assert len(recipe_named("paper+no-pretraining").stages) == 1
    assert {s.caption_role for s in recipe_named("paper+audio-only-captions").stages} == {
        "audio-only"
    }
    assert [s.makes_prompts for s in recipe_named("paper").stages] == [False, False, True]
    assert [s.makes_prompts for s in recipe_named("paper+merged-stages").stages] == [False, True]
    assert not any(s.makes_prompts for s in recipe_named("paper+no-stage-3").stages)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    known = "no recipe 'big'; known: tiny, embedded, embedded-v4, paper"
    with pytest.raises(ConfigError, match=known):
        recipe_named("big")
    with pytest.raises(ConfigError, match="no ablation 'x'; known: t2a-only"):
        recipe_named("tiny+x")
    with pytest.raises(ConfigError, match="unknown name 'lrr'; known: name, steps, lr"):
        override(recipe_named("tiny"), "stages.1.lrr", 3e-4)
    with pytest.raises(ConfigError, match="expected float, got 'fast'"):
        override(recipe_named("tiny"), "stages.1.lr", "fast")
    assert override(recipe_named("tiny"), "stages.1.lr", 3e-4).stages[1].lr == 3e-4


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("stages.2.offscreen_prob", 1.5, "must lie in"),
        ("stages.2.t2a_best_share", 0.0, "must lie in"),
        ("stages.2.offscreen_snr_db", [3, -3], "must rise"),
        ("stages.2.name", "1-pretraining", "different names"),
        ("stages.2.task_weights", {"T2A": 0.5}, "must sum to 1"),
        ("accumulate", 0, "must be >= 1"),
        ("dit.conditioner.masked", False, "set text_tokens"),
    ],
)
def test_values_that_cannot_be_are_refused(path: str, value: object, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        override(recipe_named("tiny"), path, value)
