"""What the user is told of a result."""

from __future__ import annotations

import numpy as np
import pytest

from omni2sound.generate.words import notes

RATE_HZ = 16_000


def test_a_quiet_sound_is_told() -> None:
    loud = np.full(RATE_HZ, 0.1, np.float32)
    assert notes.of_level(loud, RATE_HZ) == ()
    assert "loudest second is at -60 dBFS" in notes.of_level(loud / 100, RATE_HZ)[0]
    burst = np.zeros(80_000, np.float32)
    burst[40_000:41_600] = 0.1  # a tenth of a second: the second around it counts
    assert notes.of_level(burst, RATE_HZ) == ()
    assert "nearly silent" in notes.of_level(np.zeros(100, np.float32), RATE_HZ)[0]


@pytest.mark.parametrize(
    "text",
    ["a man speaks", "two people talking", "A VOICE says hello", "somebody sings? no: a singer",
     "people conversing", "a woman singing", "a crowd is chattering"],
)  # fmt: skip
def test_speech_is_left_out_and_told(text: str) -> None:
    assert notes.asks_for_speech_alone(text)
    assert "speech, which this model does not make" in notes.of_speech([text])[0]


@pytest.mark.parametrize(
    "text",
    ["a bird sings", "the kettle whistles", "rain falls", "an essay burns", "a saying fire",
     "a chattering squirrel"],
)  # fmt: skip
def test_other_prompts_are_not_taken_for_speech_alone(text: str) -> None:
    assert not notes.asks_for_speech_alone(text)


def test_speech_beside_a_sound_is_told_and_the_sound_made() -> None:
    assert not notes.asks_for_speech_alone("a man speaks while a dog barks")
    (told,) = notes.of_speech(["a man speaks while a dog barks", "rain"])
    assert "asks also for speech" in told
    assert "left out" not in told
    assert "left out" in notes.of_speech(["a man speaks"])[0]
    assert notes.of_speech(["a dog barks"]) == ()


@pytest.mark.parametrize(
    ("speech", "music", "texts", "told"),
    [
        (0.4, 0.4, (), ""), (0.6, 0.4, ("a dog barks",), "speech"), (0.4, 0.6, ("rain",), "music"),
        (0.6, 0.0, ("a man speaks, a dog barks",), ""), (0.0, 0.9, ("a piano plays a note",), ""),
        (0.0, 0.9, ("some music",), ""), (0.0, 0.9, (), "music"),
    ],
)  # fmt: skip
def test_strangers_are_told(speech: float, music: float, texts: tuple[str, ...], told: str) -> None:
    scores_PK = np.array([[0, 0, 0], [speech, 0.9, music]], np.float32)
    made = notes.of_strangers(scores_PK, ["Speech", "Dog", "Music"], texts)
    assert [told] if told else not made
    assert all(f"hears {told} that nobody asked for" in note for note in made)
