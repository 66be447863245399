"""Prompts as people type them: "dog barking in the distance", "rain and thunder".

In:   a scene, the catalogue, a generator.
Out:  short prompts without articles and full stops, for the kinds that only training uses.

Captions (`captions`) are whole sentences in the third person. Whoever types a prompt mostly leaves
out the article and uses a participle, and names two or three things in one line. A test prompt
that training has seen would measure memorisation: names and verbs of the held-out side never occur.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from omni2sound.scenes.material.catalogue import Catalogue, SoundClass
from omni2sound.scenes.scene import Scene

_ARTICLE = re.compile(r"^(?:an?|the|one|two|some) ")
_DOUBLED = re.compile(r"(?:[^aeiou]|^)[aeiou][bdgklmnprtv]$")
"""One vowel and one consonant at the end, as in "hit" and "run"; only words of one syllable."""
_OWN = {"is": "being", "are": "being", "goes": "going", "does": "doing", "has": "having"}
_WHERE = ("", "", "", "nearby", "in the distance", "outside", "close up", "far away", "indoors")
_BEFORE = ("", "", "", "", "loud ", "soft ", "distant ", "sound of ", "recording of ")
_JOINTS = (" and ", ", ", " with ", " while ", " + ", ", then ")


def typed_prompt(scene: Scene, catalogue: Catalogue, *, rng: np.random.Generator) -> str:
    """Draw a typed prompt that names every source of a scene, at most three.

    Args:
        scene: A scene with at least one event.
        catalogue: Names of its classes.
        rng: Random generator; does not change the scene.
    """
    class_ids = list(dict.fromkeys(e.class_id for e in scene.events))[:3]
    rng.shuffle(class_ids)
    phrases = [_phrase(catalogue.sound_class(c), rng) for c in class_ids]
    text = phrases[0]
    for phrase in phrases[1:]:
        text += _one(_JOINTS, rng) + phrase
    where = _one(_WHERE, rng)
    if len(phrases) == 1 and rng.random() < 0.5:
        text = _one(_BEFORE, rng) + text
    elif where and len(phrases) == 1:
        text += f" {where}"
    return text


def _phrase(sound_class: SoundClass, rng: np.random.Generator) -> str:
    noun = without_article(_one(sound_class.names, rng))
    if rng.random() < 0.3:
        return noun
    return f"{noun} {participle(_one(sound_class.verbs, rng))}"


def without_article(name: str) -> str:
    """A noun phrase as it is typed: "a dog" as "dog"."""
    return _ARTICLE.sub("", name)


def participle(verb: str) -> str:
    """A verb phrase in the third person as a participle: "barks twice" as "barking twice".

    "is barking" becomes "barking", and "is hit" stays "being hit".
    """
    first, _, rest = verb.partition(" ")
    if first in ("is", "are") and rest.split(" ")[0].endswith("ing"):
        return rest
    word = _OWN.get(first) or _ing(_infinitive(first))
    head, joint, second = rest.partition("and ")
    if joint and not head and second.split(" ")[0].endswith("s"):  # "rises and falls"
        rest = f"and {participle(second)}"
    return f"{word} {rest}".strip()


def _infinitive(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if re.search(r"(?:ss|sh|ch|x|zz|o)es$", word):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _ing(verb: str) -> str:
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        return verb[:-1] + "ing"
    if _DOUBLED.search(verb) and _syllables(verb) == 1:
        return f"{verb}{verb[-1]}ing"
    return f"{verb}ing"


def _syllables(word: str) -> int:
    return len(re.findall(r"[aeiouy]+", word.rpartition("-")[2]))


def _one(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]
