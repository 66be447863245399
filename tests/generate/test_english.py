"""Prompts in languages that the text encoder does not read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from omni2sound.encoders.metric.yamnet import read_class_names
from omni2sound.encoders.text import TextEncoder
from omni2sound.generate.conditions import ConditionEncoder
from omni2sound.generate.words import notes
from omni2sound.generate.words.english import is_english, stems_of
from omni2sound.generate.words.kinds import all_kinds
from tests.convert.checkpoints import TINY
from tests.generate.test_kinds import KNOWN, UNKNOWN

FOREIGN = (
    "ein Hund bellt", "Regen auf einem Blechdach", "die Glocke läutet", "Vogelgezwitscher",
    "der Zug fährt vorbei", "Schritte auf Kies", "Wellen am Strand",
    "un chien aboie", "la pluie tombe sur le toit", "une voiture passe dans la rue",
    "cloches d'église", "un chat miaule",
    "perro ladrando", "la lluvia cae", "campanas de iglesia", "olas en la playa",
    "um cachorro latindo", "chuva no telhado", "ondas do mar",
    "un cane che abbaia", "campane della chiesa",
    "een hond blaft", "de klok luidt", "regen op het dak",
    "en hund skäller", "regn på taket", "kyrkklockor ringer",
    "pies szczeka", "dzwony kościelne", "pes štěká", "köpek havlıyor", "koira haukkuu",
    "esik az eső", "anjing menggonggong", "chó sủa", "un câine latră", "gou jiao",
)  # fmt: skip
ENGLISH = (
    *KNOWN, *UNKNOWN, "Oink", "clang, clatter", "didgeridoo", "a vuvuzela", "café at night",
    "TV", "UFO landing", "la la la singing", "El Niño storm over the sea", "sneezing!", "3", "...",
)  # fmt: skip
TEXTS = TextEncoder.load()
SOUNDS = stems_of(read_class_names())


def reads(text: str) -> bool:
    return is_english(text, lambda word: len(TEXTS.token_ids([word])[0]) == 3, SOUNDS)


@pytest.mark.parametrize("text", FOREIGN)
def test_other_languages_are_told(text: str) -> None:
    assert not reads(text)
    assert "does not look like English" in notes.of_other_languages([text], reads)[0]
    assert not reads(text.upper())


@pytest.mark.parametrize("text", ENGLISH)
def test_english_is_not(text: str) -> None:
    assert notes.of_other_languages([text], reads) == ()


def test_no_wording_of_the_catalogue_is() -> None:
    for kind in all_kinds():
        for name in kind.names:
            assert (
                notes.of_other_languages([name, *(f"{name} {v}" for v in kind.verbs)], reads) == ()
            )


@pytest.mark.parametrize("text", ["狗叫", "🐶", "собака лает"])
def test_other_scripts_are_warned_of_once(text: str, caplog: pytest.LogCaptureFixture) -> None:
    encoder = ConditionEncoder(
        TINY, None, torch.device("cpu"), published=Path(), loaders={"text": lambda: TEXTS}
    )
    TEXTS([text])
    assert len(caplog.records) == 1
    encoder.nearest_kinds(text)
    assert encoder.is_english(text)
    assert len(caplog.records) == 1
    assert not notes.is_readable(text)
