"""Typed prompts: short, without articles, and never in held-out words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import Catalogue
from omni2sound.scenes.typed import participle, typed_prompt, without_article


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        ("barks", "barking"),
        ("barks twice", "barking twice"),
        ("is barking", "barking"),
        ("is hit with a stick", "being hit with a stick"),
        ("goes quack", "going quack"),
        ("hisses", "hissing"),
        ("crashes down", "crashing down"),
        ("hits metal", "hitting metal"),
        ("runs", "running"),
        ("closes", "closing"),
        ("cries at night", "crying at night"),
        ("rises and falls", "rising and falling"),
        ("opens", "opening"),
        ("echo", "echoing"),
        ("crunch along", "crunching along"),
    ],
)
def test_verbs_become_participles(verb: str, expected: str) -> None:
    assert participle(verb) == expected


def test_every_verb_of_the_catalogue_becomes_one() -> None:
    for verb in {v for c in Catalogue.load_all().classes for v in c.verbs}:
        first = participle(verb).split(" ")[0]
        assert first.endswith("ing"), verb


def test_articles_go() -> None:
    assert [without_article(n) for n in ("a dog", "an owl", "the sea", "rain", "andirons")] == [
        *("dog", "owl", "sea", "rain", "andirons")
    ]


def test_a_prompt_names_every_source_in_words_of_training(assets: SceneAssets) -> None:
    rng = np.random.default_rng(1)
    # Nouns that tell the side: the fixture's held-out names differ by their article alone.
    catalogue = replace(
        assets.catalogue,
        classes=tuple(
            replace(c, names=(f"a {c.class_id}one",), held_out_names=(f"a {c.class_id}two",))
            for c in assets.catalogue.classes
        ),
    )
    for seed in range(20):
        scene = draw_scene(assets, split="train", seed=seed, index=0, kind="audio", duration_s=4.0)
        text = typed_prompt(scene, catalogue, rng=rng)
        for class_id in {e.class_id for e in scene.events}:
            assert f"{class_id}one" in text
        assert "two" not in text
        assert not text.startswith(("a ", "an "))
        assert not text.endswith(".")
