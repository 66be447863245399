"""Configs survive JSON, refuse what they don't know, and digests name results only."""

from __future__ import annotations

import json

import pytest

from omni2sound.config import digest, from_json, override, to_json
from omni2sound.errors import ConfigError
from omni2sound.recipes.embedded import embedded
from omni2sound.recipes.tiny import tiny
from omni2sound.train.recipe import Recipe


@pytest.mark.parametrize("recipe", [tiny(), embedded()])
def test_a_recipe_survives_json(recipe: Recipe) -> None:
    assert from_json(Recipe, json.loads(json.dumps(to_json(recipe)))) == recipe


def test_validation_interval_does_not_rename_a_run() -> None:
    assert digest(tiny()) == digest(override(tiny(), "validate_every", 7))
    assert digest(tiny()) != digest(override(tiny(), "dit.depth", 3))


def test_an_override_is_typed_and_names_what_is_known() -> None:
    changed = override(tiny(), "stages.1.lr", 3e-4)
    assert changed.stages[1].lr == 3e-4
    assert changed.stages[0] == tiny().stages[0]
    with pytest.raises(ConfigError, match="unknown name 'learning_rate'; known: name, steps, lr"):
        override(tiny(), "stages.1.learning_rate", 1.0)
    with pytest.raises(ConfigError, match="items are 0 to 2"):
        override(tiny(), "stages.3.lr", 1.0)
    with pytest.raises(ConfigError, match="expected int, got 'many'"):
        override(tiny(), "stages.1.steps", "many")


def test_unknown_and_missing_fields_are_refused() -> None:
    data = to_json(tiny())
    with pytest.raises(ConfigError, match="unknown field 'colour'"):
        from_json(Recipe, {**data, "colour": "red"})
    del data["stages"]
    with pytest.raises(ConfigError, match="stages"):
        from_json(Recipe, data)


def test_task_weights_must_sum_to_one() -> None:
    with pytest.raises(ConfigError, match=r"must sum to 1, got 0\.5"):
        override(tiny(), "stages.0.task_weights", {"T2A": 0.5})
