"""From what was recognised to the words of the text branch.

In:   what a video shows, and the user's prompt.
Out:  `Words`: the text that the model gets and the cues of what is seen in a part of the clip,
      whether picture features go with them, and what the user should know.

Measured with `embedded-v3` on real videos: beside words, picture features mislead and are left
out; the sync features alone say when (docs/experiments). Without any word they are all there is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from omni2sound.generate.words.cues import Cue, joined, sentence
from omni2sound.recognise.observe import Seen, SeenThing
from omni2sound.recognise.things import load_things

_MOST_SOUNDS = 3
"""Sounds at one moment; of more, each is heard less often."""
_WHOLE_S = 1.0
"""What is missing at most at each end of a thing that is seen for the whole clip: one look."""
_LEAST_CUE_S = 2.0
_MOST_CUES = 8
"""Of one sound; of more, those with the shortest pauses become one."""

Span = tuple[float, float]
"""Start and end, seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """What the model is given, and what the user is told."""

    text: str | None
    """Text of the text branch, for the whole clip."""
    pictures: bool
    """Whether picture features are given; sync features always are."""
    silent: bool
    """Whether nothing that was recognised makes a sound, and nothing else was asked for."""
    notes: tuple[str, ...] = ()
    """One line each."""
    cues: tuple[Cue, ...] = ()
    """What is seen in a part of the clip only."""
    ambience: str | None = None
    """Text of a quiet bed under the other sounds."""
    placed: tuple[str, ...] = ()
    """Sounds of seen things that are said, here or in the user's prompt."""
    always: tuple[str, ...] = ()
    """Sounds of what is seen for the whole clip; `text` names them, too."""


def choose_words(
    seen: Seen,
    prompt: str | None,
    names: Callable[[str, str], bool],
    *,
    duration_s: float,
    ambience: bool = True,
) -> Words:
    """Say in words what should be heard.

    Args:
        seen: What the video shows.
        prompt: The user's own words.
        names: Whether a prompt (first) already names a sound (second).
        duration_s: Length of the clip.
        ambience: Whether a scene that is seen gives a bed under other sounds.
    """
    notes = [f"seen: {describe(seen)}"]
    spans = _spans(seen, duration_s)
    said: list[str] = []
    if prompt is not None:
        said = [sound for sound in spans if names(prompt, sound)]
        spans = {sound: span for sound, span in spans.items() if sound not in said}
    scenes = _scenes(seen)
    bed = next((sound for sound in spans if sound in scenes), None)
    if prompt is not None or any(sound not in scenes for sound in spans):
        # A scene is no event; where it is all there is, it sounds like one.
        spans = {sound: span for sound, span in spans.items() if sound not in scenes}
    else:
        bed = None
    chosen: dict[str, list[Span]] = {}
    for sound, own in spans.items():
        for start_s, end_s in own:
            if sum(_meets(start_s, end_s, other) for other in chosen.values()) < _MOST_SOUNDS:
                chosen.setdefault(sound, []).append((start_s, end_s))
    if left := [sound for sound in spans if chosen.get(sound) != spans[sound]]:
        notes.append(
            f"left out: {', '.join(left)}; at most {_MOST_SOUNDS} recognised sounds are made at "
            "one moment"
        )
    always = [sound for sound, own in chosen.items() if own == [(0, duration_s)]]
    text = joined([t for t in (prompt, sentence(" and ".join(always)) if always else None) if t])
    cues = tuple(
        Cue(start_s=start_s, end_s=end_s, text=sound)
        for sound, own in chosen.items()
        for start_s, end_s in own
        if sound not in always
    )
    asked = text is not None or bool(cues)
    silent = bool(seen.things) and not asked
    if silent:
        notes.append(
            "nothing that was recognised makes a sound that the model knows: the result "
            "is silent; say what should be heard with `prompt`"
        )
    elif not asked:
        notes.append(
            "nothing was recognised: the sound follows picture features, which often "
            "name it wrong; say what is there with `seen` or `prompt`"
        )
    return Words(
        text=text,
        pictures=not asked and not silent,
        silent=silent,
        notes=tuple(notes),
        cues=cues,
        ambience=bed if ambience else None,
        placed=(*said, *chosen),
        always=tuple(always),
    )


def _scenes(seen: Seen) -> frozenset[str]:
    """Sounds of places that are seen, and of no other thing."""
    table = load_things()
    places = table.places
    of = {
        at: {
            table.prompts[t.sound]
            for t in seen.things
            if t.sound and t.sounding and (t.name in places) == at
        }
        for at in (True, False)
    }
    return frozenset(of[True] - of[False])


def _meets(start_s: float, end_s: float, spans: list[Span]) -> bool:
    return any(s < end_s and start_s < e for s, e in spans)


def _spans(seen: Seen, duration_s: float) -> dict[str, list[Span]]:
    """When each sound is heard, the most prominent first."""
    prompts = load_things().prompts
    spans: dict[str, list[Span]] = {}
    for thing in seen.things:
        if thing.sounding and thing.sound is not None:
            spans.setdefault(prompts[thing.sound], []).extend(thing.spans_s)
    return {sound: _tidied(own, duration_s) for sound, own in spans.items()}


def _tidied(spans: list[Span], duration_s: float) -> list[Span]:
    """Few spans of at least two seconds, in order, and as long pauses between them."""
    joined = _joined(spans, _LEAST_CUE_S)
    widened = _joined([_widened(*span, duration_s) for span in joined], _LEAST_CUE_S)
    pauses = sorted(after[0] - before[1] for before, after in pairwise(widened))
    if len(pauses) >= _MOST_CUES:
        widened = _joined(widened, pauses[-_MOST_CUES])
    return widened


def _joined(spans: list[Span], pause_s: float) -> list[Span]:
    """Spans in order; those with a shorter pause between them, or of that length, are one."""
    made: list[Span] = []
    for start_s, end_s in sorted(spans):
        if made and start_s - made[-1][1] <= pause_s:
            made[-1] = (made[-1][0], max(made[-1][1], end_s))
        else:
            made.append((start_s, end_s))
    return made


def _widened(start_s: float, end_s: float, duration_s: float) -> Span:
    """The span of a sound; a thing that is seen almost always sounds always."""
    if start_s <= _WHOLE_S and end_s >= duration_s - _WHOLE_S:
        return 0, duration_s
    missing = max(0.0, _LEAST_CUE_S - (end_s - start_s))
    start_s = max(0.0, min(start_s - missing / 2, duration_s - _LEAST_CUE_S))
    return start_s, min(duration_s, max(end_s, start_s + _LEAST_CUE_S))


def describe(seen: Seen) -> str:
    """List what was seen, as in "car (left, 0-4 s), person (no sound: ...)"."""
    return ", ".join(_described(thing) for thing in seen.things) or "nothing that is known"


def _described(thing: SeenThing) -> str:
    spans = " and ".join(f"{start_s:.0f}-{end_s:.0f}" for start_s, end_s in thing.spans_s)
    facts = [thing.place, f"{spans} s"]
    if thing.silent is not None:
        facts.append(f"no sound: {thing.silent}")
    elif not thing.sounding:
        facts.append("no sound")
    return f"{thing.name} ({', '.join(facts)})"
