"""Configs survive JSON, refuse what they don't know, and digests name results only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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


@dataclass(frozen=True, kw_only=True)
class Event:
    at_s: float
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Everything:
    events: tuple[Event, ...]
    size_px: tuple[int, int]
    names: list[str]
    marks: Sequence[Literal["a", "b"]]
    best: Mapping[str, Event]
    more: Any = None


def test_every_kind_of_field_survives_json() -> None:
    value = Everything(
        events=(Event(at_s=1.0), Event(at_s=2.5, name="x")),
        size_px=(3, 4),
        names=["n"],
        marks=("a", "b"),
        best={"first": Event(at_s=0.0)},
        more={"free": [1, None]},
    )
    assert from_json(Everything, json.loads(json.dumps(to_json(value)))) == value


@pytest.mark.parametrize(
    ("field", "data", "message"),
    [
        ("events", {}, "config.events: expected a list, got {}"),
        ("events", [{"at_s": "x"}], "config.events.0.at_s: expected float, got 'x'"),
        ("size_px", [3], "config.size_px: expected 2 values"),
        ("size_px", [3, True], "config.size_px.1: expected int, got True"),
        ("marks", ["c"], "config.marks.0: expected one of 'a', 'b', got 'c'"),
        ("best", [], "config.best: expected an object"),
        ("names", "n", "config.names: expected a list"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_path(
    field: str, data: object, message: str
) -> None:
    whole = {"events": [], "size_px": [1, 2], "names": [], "marks": [], "best": {}, field: data}
    with pytest.raises(ConfigError) as raised:
        from_json(Everything, whole)
    assert message in str(raised.value)
