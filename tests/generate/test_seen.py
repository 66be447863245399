"""From what is seen to words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from omni2sound.generate.words.cues import Cue
from omni2sound.generate.words.encoder import RequestEncoder
from omni2sound.generate.words.seen import Words, describe
from omni2sound.generate.words.seen import choose_words as choose
from omni2sound.recognise.observe import Seen, SeenThing

DOG = SeenThing(
    name="dog", sound="dog", place="left", start_s=0, end_s=4, moving=True, sounding=True,
    prominence=0.5, silent=None,
)  # fmt: skip
CAR = replace(DOG, name="car", sound="car", place="right", prominence=0.4)
BUS = replace(CAR, name="truck or bus", prominence=0.3)
PERSON = replace(DOG, name="person", sound=None, sounding=False, silent="speech is not made")
PARKED = replace(CAR, moving=False, sounding=False, silent="it does not move")


def seen(*things: SeenThing) -> Seen:
    return Seen(things=things, looked_s=(0.0, 1.0))


def choose_words(
    seen: Seen, prompt: str | None, names: Callable[[str, str], bool], ambience: bool = True
) -> Words:
    """The words of a clip of 4 s."""
    return choose(seen, prompt, names, duration_s=4.0, ambience=ambience)


def never(prompt: str, sound: str) -> bool:
    return False


def test_words_take_the_place_of_pictures() -> None:
    words = choose_words(seen(DOG, CAR, PERSON), None, never)
    assert words.text == "A dog barks and a car drives."
    assert not words.pictures
    assert not words.silent
    assert words.notes == (
        "seen: dog (left, 0-4 s), car (right, 0-4 s), "
        "person (left, 0-4 s, no sound: speech is not made)",
    )


def test_two_things_of_one_sound_are_said_once() -> None:
    assert choose_words(seen(CAR, BUS), None, never).text == "A car drives."


def test_a_prompt_comes_first_and_what_it_names_is_not_said_again() -> None:
    words = choose_words(seen(DOG, CAR), "a puppy yelps", lambda _, sound: "dog" in sound)
    assert words.text == "A puppy yelps. A car drives."
    words = choose_words(seen(DOG), "a puppy yelps", lambda *_: True)
    assert words.text == "a puppy yelps"  # as it was given, to the letter
    assert not words.pictures


def test_only_silent_things_give_silence_and_say_so() -> None:
    words = choose_words(seen(PERSON, PARKED), None, never)
    assert words.silent
    assert words.text is None
    assert "the result is silent" in words.notes[-1]
    asked = choose_words(seen(PERSON), "rain falls", never)
    assert not asked.silent
    assert asked.text == "rain falls"


def test_nothing_seen_leaves_the_pictures_and_says_so() -> None:
    words = choose_words(seen(), None, never)
    assert words.pictures
    assert words.text is None
    assert not words.silent
    assert "nothing was recognised" in words.notes[-1]
    assert describe(seen()) == "nothing that is known"


def test_more_than_three_sounds_are_cut_and_that_is_said() -> None:
    things = [replace(DOG, sound=sound) for sound in ("dog", "car", "bird", "train", "frog")]
    words = choose_words(seen(*things), None, never)
    assert words.text == "A dog barks and a car drives and a bird sings."
    assert "left out: a train passes, a frog croaks" in words.notes[-1]


def test_what_is_seen_in_a_part_sounds_only_there() -> None:
    """One look missing at an end is no part; a glimpse gets two seconds."""
    nearly = replace(DOG, start_s=1, end_s=3.5)
    assert choose_words(seen(nearly), None, never).text == "A dog barks."
    late = choose_words(seen(replace(DOG, start_s=2), CAR), None, never)
    assert late.text == "A car drives."
    assert late.cues == (Cue(start_s=2, end_s=4, text="a dog barks"),)
    glimpse = choose_words(seen(replace(DOG, start_s=2, end_s=3)), None, never)
    assert glimpse.cues == (Cue(start_s=1.5, end_s=3.5, text="a dog barks"),)
    assert glimpse.text is None
    assert not glimpse.pictures
    assert not glimpse.silent


def test_what_is_away_in_between_is_silent_in_between() -> None:
    """A film of two scenes in turn: dog, street, dog."""
    dog = replace(DOG, end_s=30, gaps_s=((3, 27),))
    car = replace(CAR, start_s=4, end_s=26)
    words = choose(seen(dog, car), None, never, duration_s=30)
    assert words.text is None
    assert [(cue.start_s, cue.end_s, cue.text) for cue in words.cues] == [
        (0, 3, "a dog barks"), (27, 30, "a dog barks"), (4, 26, "a car drives"),
    ]  # fmt: skip
    assert describe(seen(dog)) == "dog (left, 0-3 and 27-30 s)"


def test_two_things_of_one_sound_do_not_fill_the_time_between_them() -> None:
    apart = [replace(DOG, end_s=3), replace(DOG, name="puppy", start_s=27, end_s=30)]
    words = choose(seen(*apart), None, never, duration_s=30)
    assert [(cue.start_s, cue.end_s) for cue in words.cues] == [(0, 3), (27, 30)]


@given(
    edges=st.lists(st.floats(0, 120), min_size=2, max_size=80, unique=True).map(sorted),
    duration_s=st.just(120.0),
)
def test_a_sound_covers_its_sightings_in_few_cues(edges: list[float], duration_s: float) -> None:
    edges = edges[: len(edges) // 2 * 2]
    dog = replace(
        DOG, start_s=edges[0], end_s=edges[-1],
        gaps_s=tuple(zip(edges[1:-1:2], edges[2:-1:2], strict=True)),
    )  # fmt: skip
    words = choose(seen(dog), None, never, duration_s=duration_s)
    heard = [(0.0, duration_s)] if words.text else [(c.start_s, c.end_s) for c in words.cues]
    assert 1 <= len(heard) <= 8
    assert all(b - a >= 2 - 1e-9 for a, b in heard)
    assert all(later[0] > earlier[1] for earlier, later in pairwise(heard))
    assert all(any(a <= s and e <= b for a, b in heard) for s, e in dog.spans_s)


def test_three_sounds_at_a_time_may_be_more_in_all() -> None:
    early = [replace(DOG, sound=s, end_s=2) for s in ("dog", "car", "bird", "frog")]
    late = [replace(DOG, sound=s, start_s=2) for s in ("train", "horse")]
    words = choose_words(seen(*early, *late), None, never)
    assert [cue.text for cue in words.cues] == [
        "a dog barks", "a car drives", "a bird sings", "a train passes", "a horse neighs",
    ]  # fmt: skip
    assert "left out: a frog croaks" in words.notes[-1]


SEA = replace(DOG, name="sea", sound="sea", prominence=0.9)


def test_a_scene_is_a_bed_under_other_sounds_and_a_sound_where_it_is_alone() -> None:
    words = choose_words(seen(SEA, DOG), None, never)
    assert (words.text, words.ambience) == ("A dog barks.", "the sea rolls in")
    asked = choose_words(seen(SEA), "a bell rings", never)
    assert (asked.text, asked.ambience) == ("a bell rings", "the sea rolls in")
    alone = choose_words(seen(SEA, PERSON), None, never)
    assert (alone.text, alone.ambience) == ("The sea rolls in.", None)
    without = choose_words(seen(SEA, DOG), None, never, ambience=False)
    assert (without.text, without.ambience) == ("A dog barks.", None)
    named = choose_words(seen(SEA), "waves on a beach", lambda *_: True)
    assert (named.text, named.ambience) == ("waves on a beach", None)


def test_a_film_is_recognised_once(tmp_path: Path) -> None:
    looked: list[tuple[Path, float]] = []

    class Eye:
        def observe(self, video: Path, duration_s: float, **_: object) -> Seen:
            looked.append((video, duration_s))
            return seen(DOG)

    encoder = RequestEncoder({"recogniser": Eye}, {}, near=0.5, same=0.5)
    film = tmp_path / "film.mp4"
    film.write_bytes(b"one")
    for duration_s in (2.0, Fraction(2), 2, 1.5):
        assert encoder.recognise(film, duration_s) == seen(DOG)
    assert len(looked) == 2  # another length is another part of it
    film.write_bytes(b"another")
    encoder.recognise(film, 2)
    encoder.recognise(tmp_path / "none.mp4", 2)
    assert len(looked) == 4
