"""Recipes: complete, typed, and ablations that change one thing and not the length."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from omni2sound.config import from_json, override, to_json
from omni2sound.convert.settings import read_settings
from omni2sound.convert.written import write_settings
from omni2sound.diffusion.objective import Objective
from omni2sound.encoders.registry import SynchformerPart, TextPart, VisionPart
from omni2sound.errors import ConfigError
from omni2sound.models.oobleck import OobleckConfig
from omni2sound.recipes import RECIPES, recipe_named
from omni2sound.recipes.ablations import ABLATIONS
from omni2sound.train.recipe import Recipe
from omni2sound.train.session import defaults_of, model_config
from omni2sound.weights import load_card, save_model

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


# Of the sibling release, and of third parties that run the released model (docs/decisions/0083).
PUBLISHED = {
    "timebase": {"sample_rate_hz": 16_000, "hop_samples": 640, "vision_fps": 8, "sync_fps": 25},
    "dit": {"latent_dim": 64, "width": 1536, "depth": 24, "num_heads": 24},
    "objective": {"kind": "v", "time_law": "uniform"},
    "sampler": {"kind": "dpmpp-2m-sde", "sigma_min": 0.03, "sigma_max": 1000.0, "rho": 0.0},
    "autoencoder": {
        "channels": 128,
        "multiples": [1, 2, 4, 8, 16],
        "strides": [2, 2, 4, 4, 10],
        "latent_dim": 64,
    },
    "text": {"encoder": "flan-t5-base"},
    "vision": {"encoder": "dfn5b-clip-vit-h-14-384"},
    "sync": {"kind": "synchformer", "feature_dim": 768},
    "defaults": {"steps": 100, "guidance": 2.5, "duration_s": 10.0, "max_duration_s": 10.0},
}


def test_the_card_of_paper_has_the_published_settings_field_by_field(tmp_path: Path) -> None:
    parts = {
        "autoencoder": to_json(OobleckConfig()),
        "text": to_json(TextPart(encoder="flan-t5-base")),
        "vision": to_json(VisionPart(encoder="dfn5b-clip-vit-h-14-384")),
        "sync": to_json(SynchformerPart()),
    }
    save_model(tmp_path / "parts", name="parts", parts=parts, tensors={}, defaults={}, training={})
    recipe = recipe_named("paper")
    config = model_config(load_card(tmp_path / "parts"), recipe)
    card = {**to_json(config), "defaults": to_json(defaults_of(recipe, 10.0))}
    for part, fields in PUBLISHED.items():
        for field, value in fields.items():
            assert card[part][field] == value, f"{part}.{field}"
    # What a converted checkpoint gets is the same, but for what training alone decides.
    converted = read_settings(write_settings(config))
    assert converted.defaults == defaults_of(recipe, 10.0)
    assert converted.config == replace(config, objective=Objective(kind="v"))
