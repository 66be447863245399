"""Words for the classes of taggers.

In:   the catalogue's classes; class names of YAMNet; indices of ImageNet's classes.
Out:  a `Vocabulary`: things with a name, a verb, and their classes; `ClassNames`, which finds
      the catalogue's classes in a text.

A thing is one word for many classes: "Dog", "Bark" and "Bow-wow" are one dog, and so are the
118 breeds of ImageNet. Classes of YAMNet without a thing become things of their own, named as
the class; umbrella classes ("Animal", "Music", "Vehicle") are too vague for a caption and left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from omni2sound.scenes.material.catalogue import Catalogue

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
"""Genres and moods of music are left out too, by the word "music" in their names."""
_SPEECH = ("Speech", "Child speech, kid speaking", "Conversation", "Narration, monologue")
MUSIC = "Music"
_ARTICLE = re.compile(r"^(a|an|the|some)\s+")


class ClassNames:
    """Names of the catalogue's classes as patterns."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._patterns = {
            c.class_id: re.compile(
                r"\b("
                + "|".join(
                    re.escape(_plain(alias))
                    for name in (*c.names, *c.held_out_names, *c.yamnet_classes, c.class_id)
                    for alias in (name.split(" (")[0].split(", ") if "," in name else [name])
                )
                + r")s?\b"
            )
            for c in catalogue.classes
        }

    def classes(self, what: str) -> frozenset[str]:
        """Find the ids of classes that a phrase names."""
        phrase = _plain(what)
        return frozenset(c for c, pattern in self._patterns.items() if pattern.search(phrase))

    def rest(self, text: str) -> str:
        """Return the text in lower case without names of classes."""
        rest = text.lower()
        for pattern in self._patterns.values():
            rest = pattern.sub("", rest)
        return rest


def _plain(name: str) -> str:
    return _ARTICLE.sub("", name.lower().split(" (")[0].strip())


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """A source of sound and the classes that stand for it."""

    name: str
    """Noun phrase: "a dog"."""
    verb: str
    """ "barks"."""
    heard_as: tuple[str, ...]
    """YAMNet classes."""
    seen_as: tuple[int, ...] = ()
    """ImageNet class indices."""
    is_impulsive: bool = False


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """All things, and the thing of each class."""

    things: tuple[Thing, ...]
    by_class: Mapping[str, str]
    """YAMNet class -> name of a thing."""

    def thing(self, name: str) -> Thing:
        """Look a thing up by its name."""
        return next(t for t in self.things if t.name == name)

    def heard(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Map scores of classes to things; a thing gets its highest."""
        found: dict[str, float] = {}
        for name, score in scores.items():
            thing = self.by_class.get(name)
            if thing is not None:
                found[thing] = max(score, found.get(thing, 0.0))
        return found

    @property
    def visible(self) -> tuple[Thing, ...]:
        """Things that have ImageNet classes."""
        return tuple(t for t in self.things if t.seen_as)


@lru_cache(maxsize=4)
def vocabulary(class_names: Sequence[str]) -> Vocabulary:
    """Build the vocabulary over a tagger's class names (a tuple)."""
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
        name = class_name.split(",")[0].split(" (")[0].lower()
        things.append(Thing(name=name, verb="is heard", heard_as=(class_name,)))
        by_class[class_name] = name
    return Vocabulary(things=tuple({t.name: t for t in things}.values()), by_class=by_class)
