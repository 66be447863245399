"""Prompts near and beyond the kinds of sound that the bundled model knows."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray

from omni2sound.encoders.registry import TEXT_ENCODERS
from omni2sound.encoders.text import TextEncoder
from omni2sound.generate.words.kinds import (
    all_kinds,
    example_of,
    mean_states,
    named_kinds,
    nearest,
    plain,
)

KINDS = all_kinds()
NEAR = TEXT_ENCODERS["minilm"].near
KNOWN = (
    "a puppy yelping", "waves crashing on a beach", "thunderstorm rolling in",
    "someone chopping wood", "a kettle whistling", "church bells in the distance",
    "an old locomotive", "police car siren passing", "acoustic guitar strumming",
    "a rooster at dawn", "crickets at night", "a mobile phone ringing",
    "glass shattering on the floor", "an explosion far away", "water dripping from a tap",
    "A Dog Barks!!!", "engine revving", "a woodpecker", "grand piano chord", "campfire",
)  # fmt: skip
UNKNOWN = (
    "a man speaking", "applause", "a crowd laughing", "footsteps on gravel", "a cat meowing",
    "keyboard typing", "helicopter overhead", "wind howling", "heartbeat", "a baby crying",
    "vacuum cleaner", "a spaceship", "frying bacon", "a cow mooing", "rave music", "sneezing",
    "zipper", "airplane taking off", "skateboard", "lawn mower",
)  # fmt: skip


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder.load()


def means(texts: list[str], encoder: TextEncoder) -> NDArray[np.float32]:
    tokens = encoder(texts)
    return mean_states(tokens.states_BTD.numpy(), tokens.mask_BT.numpy())


@lru_cache(maxsize=1)
def examples(encoder: TextEncoder) -> NDArray[np.float32]:
    return means([example_of(kind) for kind in KINDS], encoder)


def is_near(encoder: TextEncoder, prompt: str) -> bool:
    if named_kinds(prompt):
        return True
    (prompt_D,) = means([plain(prompt)], encoder)
    return not nearest(prompt_D, examples(encoder), KINDS, near=NEAR)


def test_prompts_of_known_kinds_pass_and_most_others_are_told(encoder: TextEncoder) -> None:
    assert [p for p in KNOWN if not is_near(encoder, p)] == []
    assert sum(is_near(encoder, p) for p in UNKNOWN) <= 4


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("wind blows through trees", set()), ("wood creaks", set()), ("hands clap", set()),
        ("footsteps on wood", set()), ("the fire alarm rings", set()),
        ("a car door slams", {"door"}), ("a train whistle", {"flute"}),
        ("hammer blows", {"hammer"}),
        ("burning wood", set()), ("a wood fire", {"fire"}), ("thunder rolls", {"thunder"}),
    ],
)  # fmt: skip
def test_words_name_a_kind_only_where_they_mean_it(prompt: str, named: set[str]) -> None:
    assert named_kinds(prompt) == named


def test_case_and_punctuation_change_nothing(encoder: TextEncoder) -> None:
    for prompt in (*KNOWN[:4], *UNKNOWN[:4]):
        assert is_near(encoder, prompt) == is_near(encoder, f"{prompt.upper()}!!")


def test_each_kind_is_near_itself() -> None:
    for kind in KINDS:
        assert kind.class_id in named_kinds(example_of(kind)), example_of(kind)


def test_the_nearest_are_three(encoder: TextEncoder) -> None:
    (prompt_D,) = means(["vacuum cleaner"], encoder)
    assert len(set(nearest(prompt_D, examples(encoder), KINDS, near=NEAR))) == 3
