"""From what was recognised to the words of the text branch.

In:   what a video shows, and the user's prompt.
Out:  `Words`: the text that the model gets, whether picture features go with it, and what the
      user should know.

Measured with `embedded-v3` on real videos: beside words, picture features mislead and are left
out; the sync features alone say when (docs/experiments). Without any word they are all there is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from omni2sound.recognise.observe import Seen, SeenThing
from omni2sound.recognise.things import load_things

_MOST_SOUNDS = 3
"""Sounds in one prompt; of more, each is heard less often."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """What the model is given, and what the user is told."""

    text: str | None
    """Text of the text branch."""
    pictures: bool
    """Whether picture features are given; sync features always are."""
    silent: bool
    """Whether nothing that was recognised makes a sound, and nothing else was asked for."""
    notes: tuple[str, ...] = ()
    """One line each."""


def choose_words(seen: Seen, prompt: str | None, names: Callable[[str, str], bool]) -> Words:
    """Say in words what should be heard.

    Args:
        seen: What the video shows.
        prompt: The user's own words.
        names: Whether a prompt (first) already names a sound (second).
    """
    prompts = load_things().prompts
    sounds = dict.fromkeys(
        prompts[thing.sound] for thing in seen.things if thing.sounding and thing.sound is not None
    )
    notes = [f"seen: {describe(seen)}"]
    if prompt is not None:
        sounds = {s: None for s in sounds if not names(prompt, s)}
    chosen = list(sounds)[:_MOST_SOUNDS]
    if len(sounds) > len(chosen):
        notes.append(
            f"left out: {', '.join(list(sounds)[len(chosen) :])}; at most {_MOST_SOUNDS} "
            "recognised sounds are made"
        )
    sentence = _sentence(" and ".join(chosen)) if chosen else None
    texts = [t for t in (None if prompt is None else _sentence(prompt), sentence) if t]
    silent = bool(seen.things) and not texts
    if silent:
        notes.append(
            "nothing that was recognised makes a sound that the model knows: the result "
            "is silent; say what should be heard with `prompt`"
        )
    elif not texts:
        notes.append(
            "nothing was recognised: the sound follows picture features, which often "
            "name it wrong; say what is there with `seen` or `prompt`"
        )
    text = prompt if sentence is None else " ".join(texts)
    return Words(text=text, pictures=text is None, silent=silent, notes=tuple(notes))


def describe(seen: Seen) -> str:
    """List what was seen, as in "car (left, 0-4 s), person (no sound: ...)"."""
    return ", ".join(_described(thing) for thing in seen.things) or "nothing that is known"


def _described(thing: SeenThing) -> str:
    facts = [thing.place, f"{thing.start_s:.0f}-{thing.end_s:.0f} s"]
    if thing.silent is not None:
        facts.append(f"no sound: {thing.silent}")
    elif not thing.sounding:
        facts.append("no sound")
    return f"{thing.name} ({', '.join(facts)})"


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
