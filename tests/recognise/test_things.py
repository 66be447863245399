"""The table of things is complete and does not contradict itself."""

from __future__ import annotations

from collections import Counter

import numpy as np

from omni2sound.recognise.things import load_things
from omni2sound.scenes.material.catalogue import Catalogue

THINGS, CATALOGUE = load_things(), Catalogue.load()


def test_each_sound_is_a_class_with_a_prompt_in_words_of_the_training_side() -> None:
    for sound in {thing.sound for thing in THINGS.rows if thing.sound is not None}:
        known = CATALOGUE.sound_class(sound)
        clauses = {f"{name} {verb}" for name in known.names for verb in known.verbs}
        assert THINGS.prompts[sound] in clauses, (sound, sorted(clauses))


def test_no_label_belongs_to_two_things() -> None:
    coco = Counter(label for thing in THINGS.rows for label in thing.coco)
    imagenet: Counter[int] = Counter()
    for thing in THINGS.rows:
        for span in thing.imagenet:
            first, _, last = span.partition("-")
            imagenet.update(range(int(first), int(last or first) + 1))
    assert max(coco.values()) == max(imagenet.values()) == 1
    assert set(coco) <= set(range(1, 91))
    assert set(imagenet) <= set(range(1000))


def test_a_thing_has_a_sound_or_not_and_only_then_a_reason() -> None:
    for thing in THINGS.rows:
        assert thing.sound is None or thing.silent is None, thing.name
        assert thing.coco or thing.imagenet, thing.name


def test_probabilities_are_summed_by_thing() -> None:
    names = [thing.name for thing in THINGS.rows]
    probabilities_TK = np.zeros((1, 1000), np.float32)
    probabilities_TK[0, [151, 200, 268]] = 0.2  # three breeds of dogs
    probabilities_TK[0, 0] = 0.4  # a tench, which is no thing of the table
    posterior_TR = THINGS.posterior(probabilities_TK)
    assert posterior_TR[0, names.index("dog")] == np.float32(0.2) * 3
    assert posterior_TR.sum() == posterior_TR[0, names.index("dog")]
