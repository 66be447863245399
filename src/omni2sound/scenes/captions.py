"""Captions of a scene, from its ground truth.

In:   a scene, the catalogue, a style, a generator.
Out:  sentences.

There are two disjoint sets of prompt templates (captions.toml) and synonyms: one for training
and validation, one held out for test (`held_out`). A test prompt that training has seen would
measure memorisation. Only what is in `scene.events` is described: for an on-screen target, give
the scene with its on-screen events only.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from omni2sound.config import from_json
from omni2sound.errors import UserError
from omni2sound.scenes.material.catalogue import Catalogue, SoundClass
from omni2sound.scenes.scene import Scene, SceneEvent

CaptionStyle = Literal["label", "plain", "ordered", "detailed", "soundatlas"]
STYLES: tuple[CaptionStyle, ...] = get_args(CaptionStyle)

_MANY = 3
"""From this many sources on, the longer styles leave details out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Templates:
    """Templates and phrases of one side of the split. The two sides share no string."""

    prompts: tuple[str, ...]
    """Prompts of one class, with fields {name}, {verb}, {clause}."""
    joints: tuple[str, ...]
    """Joints of clauses in order of time."""
    together: tuple[str, ...]
    """Joints of clauses in no stated order."""
    counts: tuple[str, ...]
    """For two events of a source, three, and four or more."""
    loud: tuple[str, ...]
    faint: tuple[str, ...]
    short: tuple[str, ...]
    long: tuple[str, ...]
    early: tuple[str, ...]
    late: tuple[str, ...]
    unseen: tuple[str, ...]
    quiet_room: tuple[str, ...]
    attack: dict[str, tuple[str, ...]]
    """How a sound begins and continues, by kind of class."""
    openings: tuple[str, ...]
    """Before the first sound, in the SoundAtlas style."""
    then: tuple[str, ...]
    """Before a later sound."""
    meanwhile: tuple[str, ...]
    """Before a simultaneous sound."""
    room: tuple[str, ...]
    """Before `quiet_room`, in a sentence of its own."""
    overheard: tuple[str, ...]
    """For a sound without visible source, with field {sound}."""


with Path(__file__).with_suffix(".toml").open("rb") as _file:
    _TEMPLATES = {
        side: from_json(_Templates, data, where=f"captions.toml, {side}")
        for side, data in tomllib.load(_file).items()
    }


def templates_of(*, held_out: bool) -> _Templates:
    """Return the templates of one side of the split."""
    return _TEMPLATES["held-out" if held_out else "training"]


def class_prompt(sound_class: SoundClass, *, rng: np.random.Generator, held_out: bool) -> str:
    """Draw a text-to-audio prompt of one class."""
    name, verb = _name(sound_class, rng, held_out), _verb(sound_class, rng, held_out)
    template = _one(templates_of(held_out=held_out).prompts, rng)
    return template.format(name=name, verb=verb, clause=f"{name} {verb}")


def captions(
    scene: Scene,
    catalogue: Catalogue,
    *,
    rng: np.random.Generator,
    held_out: bool,
    style: CaptionStyle | None = None,
    count: int = 1,
) -> tuple[str, ...]:
    """Draw captions of what is heard.

    Args:
        scene: A scene with at least one event.
        catalogue: Names of its classes.
        rng: Random generator; does not change the scene.
        held_out: Use the held-out templates and synonyms.
        style: "label": names only. "plain": clauses in no stated order. "ordered": clauses
            in order of time, with counts. "detailed": also level, length, place, background.
            "soundatlas": sources, their qualities and their order, a sentence each.
            None draws one for each caption.
        count: Number of captions.

    Returns:
        `count` captions; the same one may be drawn twice.

    Raises:
        UserError: If the style is unknown or the scene has no event.
    """
    if style is not None and style not in STYLES:
        raise UserError(f"no caption style {style!r}; known: {', '.join(STYLES)}")
    _require_events(scene)
    writer = _Writer(scene, catalogue, rng, held_out)
    made = []
    for _ in range(count):
        chosen = style or STYLES[int(rng.integers(len(STYLES)))]
        made.append(writer.write(chosen))
    return tuple(made)


def _require_events(scene: Scene) -> None:
    if not scene.events:
        raise UserError(f"scene {scene.scene_id} has no event to describe")


def _sources(scene: Scene) -> list[list[SceneEvent]]:
    """Group events by source, in order of their first onset."""
    by_source: dict[int, list[SceneEvent]] = {}
    for event in sorted(scene.events, key=lambda e: e.onset_s):
        by_source.setdefault(event.source, []).append(event)
    return list(by_source.values())


class _Writer:
    """Writes captions of one scene. The order of draws is part of what a seed means."""

    def __init__(
        self, scene: Scene, catalogue: Catalogue, rng: np.random.Generator, held_out: bool
    ) -> None:
        self._scene, self._catalogue = scene, catalogue
        self._rng, self._held_out = rng, held_out
        self._templates = templates_of(held_out=held_out)
        self._many = len(_sources(scene)) >= _MANY

    def write(self, style: CaptionStyle) -> str:
        if style == "label":
            return self._label()
        if style == "plain":
            return self._plain()
        if style == "soundatlas":
            return self._soundatlas()
        return self._ordered(detailed=style == "detailed")

    def _label(self) -> str:
        clauses = []
        for events in _sources(self._scene):
            name, verb = self._words(events)
            clauses.append(f"{name} {verb}" if self._rng.random() < 0.7 or self._held_out else name)
        return self._one((", ", "; ") if self._held_out else (", ", " and ")).join(clauses)

    def _plain(self) -> str:
        sources = _sources(self._scene)
        self._rng.shuffle(sources)
        clauses = [" ".join(self._words(events)) for events in sources]
        if len(clauses) > 1:
            return _sentence(self._one(self._templates.together).join(clauses))
        template = self._one(self._templates.prompts)
        name, verb = self._words(sources[0])
        return _sentence(template.format(name=name, verb=verb, clause=clauses[0]))

    def _ordered(self, *, detailed: bool) -> str:
        templates, text = self._templates, ""
        previous: list[SceneEvent] = []
        for events in _sources(self._scene):
            clause = self._counted(events)
            if detailed:
                clause = " ".join([clause, *self._qualities(events)[: 1 if self._many else 2]])
            if previous:
                text += self._one(
                    templates.joints if _is_later(events, previous) else templates.together
                )
            text += clause
            previous = events
        if detailed and self._scene.ambience is not None and not self._many:
            text += " " + self._one(templates.quiet_room)
        return _sentence(text)

    def _soundatlas(self) -> str:
        templates, sources = self._templates, _sources(self._scene)
        sentences: list[str] = []
        previous: list[SceneEvent] = []
        for events in sources:
            if not previous:
                begin = templates.openings
            else:
                begin = templates.then if _is_later(events, previous) else templates.meanwhile
            text = self._one(begin) + self._counted(events)
            # The order says when; and nothing is long and short at once.
            qualities = [
                q for q in self._qualities(events) if q not in (*templates.early, *templates.late)
            ]
            if not self._many:  # of many sources less is said: the text encoder reads 64 tokens
                comma = ""
                if not set(qualities) & {*templates.short, *templates.long}:
                    attack = templates.attack[self._class(events).kind]
                    text, comma = f"{text} {self._one(attack)}", ","
                text += "".join(f"{comma} {quality}" for quality in qualities[:1])
            sentences.append(_sentence(text))
            previous = events
        if self._scene.ambience is not None and len(sources) == 1:
            sentences.append(_sentence(self._one(templates.room) + self._one(templates.quiet_room)))
        return " ".join(sentences)

    def _qualities(self, events: Sequence[SceneEvent]) -> list[str]:
        """Choose at most two of: off screen, how loud, how long, when."""
        templates, first, scene = self._templates, events[0], self._scene
        found: list[str] = []
        if not first.on_screen and scene.has_picture:
            found.append(self._one(templates.unseen))
        if first.gain_db > 0:
            found.append(self._one(templates.loud))
        elif first.gain_db < -4:
            found.append(self._one(templates.faint))
        if first.onset_s < 0:  # a bed: neither early nor late, and never short
            return [*found, self._one(templates.long)][:2]
        if self._class(events).kind in ("sustained", "continuous"):
            lasts_s = first.offset_s - first.onset_s
            if lasts_s < 1:
                found.append(self._one(templates.short))
            elif lasts_s > 2.5:
                found.append(self._one(templates.long))
        if len(events) == 1 and self._rng.random() < 0.5:
            if first.onset_s < 0.2 * scene.duration_s:
                found.append(self._one(templates.early))
            elif first.onset_s > 0.7 * scene.duration_s:
                found.append(self._one(templates.late))
        return found[:2]

    def _counted(self, events: Sequence[SceneEvent]) -> str:
        clause, counts = " ".join(self._words(events)), self._templates.counts
        in_a_row = self._scene.kind == "bed" and events[0].source == 0
        return (
            clause
            if len(events) == 1 or in_a_row
            else f"{clause} {counts[min(len(events) - 2, len(counts) - 1)]}"
        )

    def _words(self, events: Sequence[SceneEvent]) -> tuple[str, str]:
        sound_class = self._class(events)
        return (
            _name(sound_class, self._rng, self._held_out),
            _verb(sound_class, self._rng, self._held_out),
        )

    def _class(self, events: Sequence[SceneEvent]) -> SoundClass:
        return self._catalogue.sound_class(events[0].class_id)

    def _one(self, options: Sequence[str]) -> str:
        return _one(options, self._rng)


def _is_later(events: Sequence[SceneEvent], previous: Sequence[SceneEvent]) -> bool:
    """Whether a source starts clearly after the one before; otherwise no order is stated."""
    return events[0].onset_s - previous[0].onset_s > 0.4


def wrong_caption(
    scene: Scene, catalogue: Catalogue, *, rng: np.random.Generator, held_out: bool
) -> str:
    """Draw a caption of the same form that names other classes, for ablations.

    Args:
        scene: A scene with at least one event.
        catalogue: Classes that replace those of the scene.
        rng: Random generator.
        held_out: Use the held-out templates and synonyms.

    Raises:
        UserError: If the scene has no event, or the catalogue has no other class.
    """
    inside = {e.class_id for e in scene.events}
    others = [c for c in catalogue.class_ids if c not in inside]
    if not others:
        raise UserError("a wrong caption needs a class that is not in the scene")
    taken = {c: others[int(rng.integers(len(others)))] for c in sorted(inside)}
    events = tuple(replace(e, class_id=taken[e.class_id]) for e in scene.events)
    return captions(replace(scene, events=events), catalogue, rng=rng, held_out=held_out)[0]


def audio_only_caption(
    scene: Scene, catalogue: Catalogue, *, rng: np.random.Generator, held_out: bool
) -> str:
    """Draw a caption by ear: the scene is heard and never seen.

    Sources are named by one of the tagger's names for what sounds like them.

    Args:
        scene: A scene with at least one event.
        catalogue: Classes and their tagger classes.
        rng: Random generator.
        held_out: Use the held-out templates and synonyms.

    Raises:
        UserError: If the scene has no event.
    """
    _require_events(scene)
    templates = templates_of(held_out=held_out)
    clauses = []
    for events in _sources(scene):
        heard_as = catalogue.sound_class(events[0].class_id).yamnet_classes
        sound = _one(heard_as, rng).split(",")[0].split(" (")[0].lower()
        clauses.append(_one(templates.overheard, rng).format(sound=sound))
    return _sentence(_one(templates.joints, rng).join(clauses))


def _name(sound_class: SoundClass, rng: np.random.Generator, held_out: bool) -> str:
    return _one(sound_class.held_out_names if held_out else sound_class.names, rng)


def _verb(sound_class: SoundClass, rng: np.random.Generator, held_out: bool) -> str:
    return _one(sound_class.held_out_verbs if held_out else sound_class.verbs, rng)


def _one(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
