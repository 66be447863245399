"""What the classes of taggers are called in captions.

In:   the catalogue's classes; class names of YAMNet; indices of ImageNet's classes.
Out:  a `Vocabulary`: things with a name, a verb, and the classes that point to them.

A thing is one word for many classes: "Dog", "Bark" and "Bow-wow" are one dog, and so are the
118 breeds of ImageNet. Classes of YAMNet that no thing claims are things of their own, named as
the class; umbrella classes ("Animal", "Music", "Vehicle") name nothing that one could caption
and are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from omni2sound.scenes.material.catalogue import Catalogue

__all__ = ["Thing", "Vocabulary", "vocabulary"]

_UMBRELLAS = frozenset(
    " ".join(name.split())
    for name in """
    Animal; Domestic animals, pets; Livestock, farm animals, working animals; Wild animals; Music;
    Musical instrument; Plucked string instrument; Keyboard (musical); Percussion; Vehicle;
    Mechanisms; Tools; Inside, small room; Inside, large room or hall; Inside, public space;
    Outside, urban or manmade; Outside, rural or natural; Sound effect; Silence; Noise;
    Environmental noise; Field recording; Reverberation; Echo; Static; Generic impact sounds;
    Surface contact; Human sounds; Human group actions; Fowl; Canidae, dogs, wolves;
    Roaring cats (lions, tigers); Rodents, rats, mice; Musical ensemble; Orchestra; Scratch;
    Single-lens reflex camera; Sine wave; Harmonic; Chirp tone; Pulse; Cacophony; White noise;
    Pink noise; Throbbing; Vibration; Television; Radio; Domestic sounds, home sounds; Wood; Liquid;
    Motor vehicle (road); Bird flight, flapping wings; Bowed string instrument; Brass instrument;
    Wind instrument, woodwind instrument; Mallet percussion; Speech synthesizer; Thump, thud; Hum;
    Drum kit; Drum machine; Jingle (music); Theme music; Background music; Soundtrack music;
    Video game music; Song; Musical concepts; Tuning fork; Clang; Ding; Click; Clicking; Crack;
    """.strip()
    .strip(";")
    .split(";")
)
"""Beside these: names of music's genres and moods, which start with a thing of no sound."""
_SPEECH = ("Speech", "Child speech, kid speaking", "Conversation", "Narration, monologue")
MUSIC = "Music"


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """Something that sounds."""

    name: str
    """Noun phrase: "a dog"."""
    verb: str
    """ "barks"."""
    heard_as: tuple[str, ...]
    """Classes of YAMNet."""
    seen_as: tuple[int, ...] = ()
    """Classes of ImageNet."""
    is_impulsive: bool = False

    @property
    def clause(self) -> str:
        """Name and verb: "a dog barks"."""
        return f"{self.name} {self.verb}"


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """All things, and which class points to which."""

    things: tuple[Thing, ...]
    by_class: Mapping[str, str]
    """YAMNet class -> name of a thing."""

    def thing(self, name: str) -> Thing:
        """By its name."""
        return next(t for t in self.things if t.name == name)

    def heard(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Scores of things: the highest of their classes."""
        found: dict[str, float] = {}
        for name, score in scores.items():
            thing = self.by_class.get(name)
            if thing is not None:
                found[thing] = max(score, found.get(thing, 0.0))
        return found

    @property
    def visible(self) -> tuple[Thing, ...]:
        """Things that picture models may name."""
        return tuple(t for t in self.things if t.seen_as)


@lru_cache(maxsize=4)
def vocabulary(class_names: Sequence[str]) -> Vocabulary:
    """The vocabulary over a tagger's class names (a tuple)."""
    seen_as = json.loads((resources.files(__package__) / "words.json").read_text(encoding="utf-8"))
    things: list[Thing] = []
    by_class: dict[str, str] = {}
    for sound_class in Catalogue.load().classes:
        heard_as = tuple(c for c in sound_class.yamnet_classes if c not in _UMBRELLAS)
        name = sound_class.names[0]
        things.append(
            Thing(
                name=name,
                verb=sound_class.verbs[0],
                heard_as=heard_as or sound_class.yamnet_classes,
                seen_as=tuple(seen_as.get(sound_class.class_id, ())),
                is_impulsive=sound_class.kind == "impulsive",
            )
        )
        for class_name in things[-1].heard_as:
            by_class.setdefault(class_name, name)  # the first class of the catalogue has it
    things.append(Thing(name="somebody", verb="speaks", heard_as=_SPEECH))
    by_class.update(dict.fromkeys(_SPEECH, "somebody"))
    for class_name in class_names:
        if class_name in by_class or class_name in _UMBRELLAS or "music" in class_name.lower():
            continue
        said = class_name.split(",")[0].split(" (")[0].lower()
        things.append(Thing(name=said, verb="is heard", heard_as=(class_name,)))
        by_class[class_name] = said
    return Vocabulary(things=tuple({t.name: t for t in things}.values()), by_class=by_class)
