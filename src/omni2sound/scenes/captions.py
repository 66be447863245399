"""What people would say about a scene, from the truth.

In:   a scene, the catalogue, a style, a generator.
Out:  sentences.

Two disjoint sets of wordings: what training and validation use, and what is held out for
test (`held_out`), by template and by synonym. A test prompt that training has seen would
measure memory. Only what is in `scene.events` is told: for an on-screen target, give the
scene with its on-screen events only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from omni2sound.errors import UserError
from omni2sound.scenes.material.catalogue import Catalogue, SoundClass
from omni2sound.scenes.scene import Scene, SceneEvent

__all__ = [
    "STYLES",
    "CaptionStyle",
    "audio_only_caption",
    "captions",
    "class_prompt",
    "wrong_caption",
]

CaptionStyle = Literal["label", "plain", "ordered", "detailed", "soundatlas"]
STYLES: tuple[CaptionStyle, ...] = get_args(CaptionStyle)

_MANY = 3
"""Sources from which on the longer styles leave details out."""
_COUNTS = {2: "twice", 3: "three times", 4: "four times"}
_COUNTS_HELD_OUT = {2: "two times", 3: "thrice", 4: "again and again"}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wording:
    """Every phrase of one side of the split. The two sides share no string."""

    prompts: tuple[str, ...]
    """Of one class; {name}, {verb}, {clause} are filled in."""
    joints: tuple[str, ...]
    """Between clauses whose order is told."""
    together: tuple[str, ...]
    """Between clauses whose order is not told."""
    counts: dict[int, str]
    loud: tuple[str, ...]
    faint: tuple[str, ...]
    short: tuple[str, ...]
    long: tuple[str, ...]
    early: tuple[str, ...]
    late: tuple[str, ...]
    unseen: tuple[str, ...]
    quiet_room: tuple[str, ...]
    attack: dict[str, tuple[str, ...]]
    """By kind: how a sound begins and goes on, for people who listen closely."""
    openings: tuple[str, ...]
    """Before the clause of what is heard first, in the SoundAtlas style."""
    then: tuple[str, ...]
    """Before a sentence about what is heard later."""
    meanwhile: tuple[str, ...]
    """Before a sentence about what is heard at the same time."""
    room: tuple[str, ...]
    """Before `quiet_room`, in a sentence of its own."""
    overheard: tuple[str, ...]
    """Of a sound whose source nobody saw; {sound} is filled in."""


_TRAINING = _Wording(
    prompts=(
        "{clause}",
        "{name}",
        "the sound of {name}",
        "{clause} nearby",
        "sound of {name} that {verb}",
        "a recording of {name}",
        "we hear {name}",
        "{name} can be heard",
        "{name} only",
        "a clean recording of {name} that {verb}",
        "there is the sound of {name}",
        "{clause}, close to the microphone",
        "somewhere {clause}",
        "the noise {name} makes",
        "a single source: {name}",
        "sound effect: {clause}",
        "it sounds as if {clause}",
        "{name} is making a sound",
        "the typical sound of {name}",
        "we hear that {clause}",
        "I want to hear {name}",
        "the moment when {clause}",
        "{name} without any other sound",
        "foley of {name}",
    ),
    joints=(", then ", ", and then ", ", followed by the moment when ", "; after that "),
    together=(" and ", " while ", ", and "),
    counts=_COUNTS,
    loud=("loudly", "with force"),
    faint=("softly", "quietly"),
    short=("briefly", "for a moment"),
    long=("for a while", "steadily"),
    early=("at the beginning", "at first"),
    late=("near the end", "towards the end"),
    unseen=("out of view", "somewhere off screen", "outside the picture"),
    quiet_room=("in a quiet room", "over faint room noise"),
    attack={
        "impulsive": ("with a sharp attack that dies away", "with a short percussive sound"),
        "sustained": ("with a steady sound", "with a long sound that changes slowly"),
    },
    openings=("First, ", "At the start of the clip, "),
    then=("Then ", "After that, ", "Later on, "),
    meanwhile=("Meanwhile, ", "At about that time, "),
    room=("All of it is heard ",),
    overheard=("a sound like {sound}", "possibly {sound}"),
)

_HELD_OUT = _Wording(
    prompts=(
        "listen: {clause}",
        "audio in which {clause}",
        "this clip contains {name}",
        "you can hear how {clause}",
        "{name} in the foreground, nothing else",
        "give me {name}",
    ),
    joints=(" before ", ", later ", ", next "),
    together=(" as ", " at the same time as ", ", along with this "),
    counts=_COUNTS_HELD_OUT,
    loud=("at high volume", "very noisily"),
    faint=("faintly", "in a subdued way"),
    short=("just for an instant", "for a split second"),
    long=("continuously", "on and on"),
    early=("right away", "as the clip opens"),
    late=("late in the clip", "just before it stops"),
    unseen=("without being visible", "from beyond the frame"),
    quiet_room=("against a hushed backdrop", "with a slight hiss behind it"),
    attack={
        "impulsive": ("with an abrupt, quickly fading sound", "with a crisp onset"),
        "sustained": ("in an even flow", "in one unbroken stretch"),
    },
    openings=("To start, ", "As the recording opens, "),
    then=("Next, ", "Afterwards, ", "Subsequently, "),
    meanwhile=("Simultaneously, ", "Alongside, "),
    room=("Everything plays ",),
    overheard=("something resembling {sound}", "what may be {sound}"),
)


def wording_of(*, held_out: bool) -> _Wording:
    """The phrases of one side."""
    return _HELD_OUT if held_out else _TRAINING


def class_prompt(sound_class: SoundClass, *, rng: np.random.Generator, held_out: bool) -> str:
    """A request for one class, for text to audio."""
    name, verb = _name(sound_class, rng, held_out), _verb(sound_class, rng, held_out)
    template = _one(wording_of(held_out=held_out).prompts, rng)
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
    """Descriptions of what is heard.

    Args:
        scene: With at least one event.
        catalogue: Names of its classes.
        rng: Chooses among wordings; the scene is not changed by it.
        held_out: Use the wordings of the test split.
        style: "label": names only. "plain": clauses in no stated order. "ordered": clauses
            in order of time, with counts. "detailed": also level, length, place, background.
            "soundatlas": sources, their qualities and their order, a sentence each.
            None draws one for each caption.
        count: How many.

    Returns:
        `count` captions; the same one may be drawn twice.

    Raises:
        UserError: If the style is unknown or the scene has no event.
    """
    if style is not None and style not in STYLES:
        raise UserError(f"no caption style {style!r}; known: {', '.join(STYLES)}")
    if not scene.events:
        raise UserError(f"scene {scene.scene_id} has no event to tell of")
    told = []
    for _ in range(count):
        chosen = style or STYLES[int(rng.integers(len(STYLES)))]
        told.append(_TELLERS[chosen](scene, catalogue, rng, held_out))
    return tuple(told)


def _sources(scene: Scene) -> list[list[SceneEvent]]:
    """Events by source, sources by their first onset."""
    by_source: dict[int, list[SceneEvent]] = {}
    for event in sorted(scene.events, key=lambda e: e.onset_s):
        by_source.setdefault(event.source, []).append(event)
    return list(by_source.values())


def _label(scene: Scene, catalogue: Catalogue, rng: np.random.Generator, held_out: bool) -> str:
    clauses = []
    for events in _sources(scene):
        sound_class = catalogue.sound_class(events[0].class_id)
        name, verb = _name(sound_class, rng, held_out), _verb(sound_class, rng, held_out)
        clauses.append(f"{name} {verb}" if rng.random() < 0.7 or held_out else name)
    return _one((", ", "; ") if held_out else (", ", " and "), rng).join(clauses)


def _plain(scene: Scene, catalogue: Catalogue, rng: np.random.Generator, held_out: bool) -> str:
    sources = _sources(scene)
    rng.shuffle(sources)
    clauses = [_clause(events, catalogue, rng, held_out) for events in sources]
    if len(clauses) == 1:
        sound_class = catalogue.sound_class(sources[0][0].class_id)
        template = _one(wording_of(held_out=held_out).prompts, rng)
        name, verb = _name(sound_class, rng, held_out), _verb(sound_class, rng, held_out)
        return _sentence(template.format(name=name, verb=verb, clause=clauses[0]))
    return _sentence(_one(wording_of(held_out=held_out).together, rng).join(clauses))


def _ordered(scene: Scene, catalogue: Catalogue, rng: np.random.Generator, held_out: bool) -> str:
    wording = wording_of(held_out=held_out)
    text = ""
    previous: list[SceneEvent] = []
    for events in _sources(scene):
        clause = _counted(events, catalogue, rng, held_out)
        if previous:
            # Only what starts clearly later is said to come later.
            later = events[0].onset_s - previous[0].onset_s > 0.4
            text += _one(wording.joints if later else wording.together, rng)
        text += clause
        previous = events
    return _sentence(text)


def _detailed(scene: Scene, catalogue: Catalogue, rng: np.random.Generator, held_out: bool) -> str:
    wording = wording_of(held_out=held_out)
    sources = _sources(scene)
    many = len(sources) >= _MANY
    text = ""
    previous: list[SceneEvent] = []
    for events in sources:
        parts = [_counted(events, catalogue, rng, held_out)]
        parts += _qualities(scene, events, catalogue, rng, wording)[: 1 if many else 2]
        if previous:
            later = events[0].onset_s - previous[0].onset_s > 0.4
            text += _one(wording.joints if later else wording.together, rng)
        text += " ".join(parts)
        previous = events
    if scene.ambience is not None and not many:
        text += " " + _one(wording.quiet_room, rng)
    return _sentence(text)


def _soundatlas(
    scene: Scene, catalogue: Catalogue, rng: np.random.Generator, held_out: bool
) -> str:
    wording = wording_of(held_out=held_out)
    sources = _sources(scene)
    many = len(sources) >= _MANY
    sentences: list[str] = []
    previous: list[SceneEvent] = []
    for events in sources:
        if not previous:
            begin = wording.openings
        else:
            later = events[0].onset_s - previous[0].onset_s > 0.4
            begin = wording.then if later else wording.meanwhile
        told = _one(begin, rng) + _counted(events, catalogue, rng, held_out)
        kind = catalogue.sound_class(events[0].class_id).kind
        qualities = _qualities(scene, events, catalogue, rng, wording)
        # When is told by the order; and nothing is long and short at once.
        qualities = [q for q in qualities if q not in (*wording.early, *wording.late)]
        comma = ""
        if not many and not set(qualities) & {*wording.short, *wording.long}:
            told, comma = f"{told} {_one(wording.attack[kind], rng)}", ","
        # Who tells of many says less of each: the text encoder reads 64 tokens.
        if not many:
            told += "".join(f"{comma} {quality}" for quality in qualities[:1])
        sentences.append(_sentence(told))
        previous = events
    if scene.ambience is not None and len(sources) == 1:
        sentences.append(_sentence(_one(wording.room, rng) + _one(wording.quiet_room, rng)))
    return " ".join(sentences)


_TELLERS: dict[CaptionStyle, Callable[[Scene, Catalogue, np.random.Generator, bool], str]] = {
    "label": _label,
    "plain": _plain,
    "ordered": _ordered,
    "detailed": _detailed,
    "soundatlas": _soundatlas,
}


def wrong_caption(
    scene: Scene, catalogue: Catalogue, *, rng: np.random.Generator, held_out: bool
) -> str:
    """A caption of the same form that tells of other classes: none of the scene's is named.

    For ablations: what does a model do with a caption that is not true?

    Args:
        scene: With at least one event.
        catalogue: Whose classes take the place of the scene's.
        rng: Chooses classes and wordings.
        held_out: Use the wordings of the test split.

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
    """What somebody would say who heard the scene and never saw it.

    Sources are named only as well as ears can: by one of the judge's names for what sounds
    like it. Nothing is said of what is in the picture.

    Args:
        scene: With at least one event.
        catalogue: Its classes know what they are heard as.
        rng: Chooses among names and wordings.
        held_out: Use the wordings of the test split.

    Raises:
        UserError: If the scene has no event.
    """
    if not scene.events:
        raise UserError(f"scene {scene.scene_id} has no event to tell of")
    wording = wording_of(held_out=held_out)
    clauses = []
    for events in _sources(scene):
        heard_as = catalogue.sound_class(events[0].class_id).yamnet_classes
        sound = _one(heard_as, rng).split(",")[0].split(" (")[0].lower()
        clauses.append(_one(wording.overheard, rng).format(sound=sound))
    return _sentence(_one(wording.joints, rng).join(clauses))


def _qualities(
    scene: Scene,
    events: Sequence[SceneEvent],
    catalogue: Catalogue,
    rng: np.random.Generator,
    wording: _Wording,
) -> list[str]:
    """At most two of: how loud, how long, when, unseen."""
    first = events[0]
    found: list[str] = []
    if not first.on_screen and scene.has_picture:
        found.append(_one(wording.unseen, rng))
    if first.gain_db > 0:
        found.append(_one(wording.loud, rng))
    elif first.gain_db < -4:
        found.append(_one(wording.faint, rng))
    if catalogue.sound_class(first.class_id).kind == "sustained":
        lasts_s = first.offset_s - first.onset_s
        if lasts_s < 1:
            found.append(_one(wording.short, rng))
        elif lasts_s > 2.5:
            found.append(_one(wording.long, rng))
    if len(events) == 1 and rng.random() < 0.5:
        if first.onset_s < 0.2 * scene.duration_s:
            found.append(_one(wording.early, rng))
        elif first.onset_s > 0.7 * scene.duration_s:
            found.append(_one(wording.late, rng))
    return found[:2]


def _clause(
    events: Sequence[SceneEvent], catalogue: Catalogue, rng: np.random.Generator, held_out: bool
) -> str:
    sound_class = catalogue.sound_class(events[0].class_id)
    return f"{_name(sound_class, rng, held_out)} {_verb(sound_class, rng, held_out)}"


def _counted(
    events: Sequence[SceneEvent], catalogue: Catalogue, rng: np.random.Generator, held_out: bool
) -> str:
    clause = _clause(events, catalogue, rng, held_out)
    if len(events) == 1:
        return clause
    counts = wording_of(held_out=held_out).counts
    return f"{clause} {counts[min(len(events), max(counts))]}"


def _name(sound_class: SoundClass, rng: np.random.Generator, held_out: bool) -> str:
    return _one(sound_class.held_out_names if held_out else sound_class.names, rng)


def _verb(sound_class: SoundClass, rng: np.random.Generator, held_out: bool) -> str:
    return _one(sound_class.held_out_verbs if held_out else sound_class.verbs, rng)


def _one(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
