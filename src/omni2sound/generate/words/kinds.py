"""The kinds of sound that the default model knows, and how near a prompt is to them.

In:   a prompt.
Out:  nothing to say, or the nearest kinds.

A prompt beyond the kinds that a model was trained on still gets a sound, of another kind. A word
that training used settles it; otherwise the text encoder's similarity to one phrase of each kind
does. Measured on forty typed prompts, twenty of them of no kind: sixteen of those are told, and
none of the others (`tests/generate/test_kinds.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from omni2sound.scenes.material.catalogue import Catalogue, SoundClass

_NUM_NEAREST = 3
_COMMON = frozenset(
    {"animal", "bar", "bars", "box", "call", "floor", "instrument", "kit", "line", "machine", "man"}
    | {"movement", "music", "object", "pair", "player", "players", "section", "solo", "somebody"}
    | {"something", "tone", "tool", "visitor", "work", "worker"}
    | {"air", "blow", "blows", "bolt", "branch", "button", "by", "chorus", "clap", "club", "day"}
    | {"fast", "friend", "house", "metal", "outside", "roll", "sky", "sound", "stick", "together"}
    | {"wheels", "wood"}
)
"""Heads of names that name no kind by themselves: hammer blows, but the wind blows."""
COMPOUND = re.compile(r"\b\w+(?=\s+(?:alarm|door|engine|horn|whistle)s?\b)", re.IGNORECASE)
"""The first part of a compound whose last word says what sounds: a fire alarm, a car door."""
GOING_ON = frozenset(
    {"rain", "water", "sea", "fire", "steam", "car", "train", "siren", "saw", "clock"}
)
"""Kinds that go on as long as they are asked for; how that is made: `going_on`."""
MUSICAL = frozenset(
    {"drum", "cymbal", "guitar", "violin", "trumpet", "flute", "bell", "cowbell", "piano"}
    | {"xylophone", "organ", "saxophone", "bass"}
)
_TAIL = re.compile(r"\b(?:of|on|in|with|that|for|at|being|from|through|against)\b.*")


def example_of(kind: SoundClass) -> str:
    """A prompt of a kind, in words of the training captions."""
    return f"{kind.names[0]} {kind.verbs[0]}"


@lru_cache(maxsize=1)
def all_kinds() -> tuple[SoundClass, ...]:
    """Kinds of the scene catalogue, which the bundled model was trained on."""
    catalogue = Catalogue.load()
    return tuple(catalogue.sound_class(class_id) for class_id in catalogue.class_ids)


def named_kinds(prompt: str) -> frozenset[str]:
    """Kinds of which a prompt has the head of a name of the training captions.

    Endings don't count.
    """
    return frozenset[str]().union(*kinds_by_word(prompt))


def kinds_by_word(prompt: str) -> list[set[str]]:
    """Kinds that each word names; words that name none are left out."""
    stems = dict.fromkeys(stem(word) for word in _words(COMPOUND.sub("", prompt)))
    return [kinds_of_stems()[s] for s in stems if s in kinds_of_stems()]


@lru_cache(maxsize=1)
def kinds_of_stems() -> dict[str, set[str]]:
    """Kinds by the stem of the head of their names."""
    known: dict[str, set[str]] = {}
    for kind in all_kinds():
        for head in {_words(_TAIL.sub("", name))[-1] for name in kind.names} - _COMMON:
            known.setdefault(stem(head), set()).add(kind.class_id)
    return known


def nearest(
    prompt_D: NDArray[np.float32],
    examples_KD: NDArray[np.float32],
    kinds: Sequence[SoundClass],
    *,
    near: float,
) -> tuple[SoundClass, ...]:
    """The nearest kinds of a prompt that is near none; nothing if it is near one.

    Args:
        prompt_D: Mean token state of the prompt.
        examples_KD: Mean token states of `example_of` of each kind.
        kinds: The kinds, in the same order.
        near: Cosine similarity of mean token states from which a prompt is near, of the encoder's
            `TextEncoderSpec`.
    """
    similarity_K = similarities(prompt_D, examples_KD)
    if float(similarity_K.max()) >= near:
        return ()
    best = np.argsort(-similarity_K, kind="stable")[:_NUM_NEAREST]
    return tuple(kinds[int(i)] for i in best)


def similarities(mean_D: NDArray[np.float32], means_KD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine similarity of one text's mean states to those of others."""
    lengths_K = np.linalg.norm(mean_D) * np.linalg.norm(means_KD, axis=1)
    similarity_K: NDArray[np.float32] = means_KD @ mean_D / np.maximum(lengths_K, 1e-8)
    return similarity_K


def plain(prompt: str) -> str:
    """The prompt without case and punctuation, neither of which says what is heard."""
    return " ".join(re.findall(r"[^\W_]+", prompt.casefold()))


def mean_states(states_BTD: NDArray[np.float32], mask_BT: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Mean of each text's token states, (B, D)."""
    total_BD = (states_BTD * mask_BT[..., None]).sum(axis=1)
    mean_BD: NDArray[np.float32] = total_BD / mask_BT.sum(axis=1, keepdims=True).astype(np.float32)
    return mean_BD


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.casefold())


def stem(word: str) -> str:
    """The word without its commonest endings; rough, but equal on both sides."""
    for ending in ("ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word
