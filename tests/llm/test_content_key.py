"""The key holds all that can change the answer, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from omni2sound.errors import UserError
from omni2sound.llm import (
    AudioPart,
    ChatRequest,
    ImagePart,
    ModelId,
    assistant,
    content_key,
    system,
    user,
)
from tests.llm.questions import MODEL, question


class Other(BaseModel):
    words: str


SOUND = AudioPart(data=b"RIFF1", format="wav", duration_s=1.0)
PICTURE = ImagePart(data=b"PNG1", media_type="image/png")
WITH_MEDIA = question(messages=(system("s"), user("u", SOUND, PICTURE)))

CHANGES = {
    "text": question("What is seen?"),
    "role": question(messages=(assistant("What is heard?"),)),
    "turns": question(messages=(user("What"), user(" is heard?"))),
    "parts": question(messages=(user("What", " is heard?"),)),
    "prompt_version": question(prompt_version="test/2"),
    "max_output_tokens": question(max_output_tokens=21),
    "answer": question(answer=Other),
    "free text": question(answer=None),
    "temperature": question(temperature=0.0),
    "seed": question(seed=0),
    "extra": question(extra={"reasoning_effort": "low"}),
    "take": question(take=1),
    "media": WITH_MEDIA,
    "other sound": question(
        messages=(system("s"), user("u", replace(SOUND, data=b"RIFF2"), PICTURE))
    ),
    "other sound format": question(
        messages=(system("s"), user("u", replace(SOUND, format="mp3"), PICTURE))
    ),
    "other picture": question(
        messages=(system("s"), user("u", SOUND, replace(PICTURE, data=b"PNG2")))
    ),
    "other detail": question(
        messages=(system("s"), user("u", SOUND, replace(PICTURE, detail="low")))
    ),
    "other order": question(messages=(system("s"), user("u", PICTURE, SOUND))),
}


def test_whatever_can_change_the_answer_changes_the_key() -> None:
    keys = {name: content_key(MODEL, request) for name, request in CHANGES.items()}
    keys["nothing"] = content_key(MODEL, question())
    keys["model"] = content_key(replace(MODEL, model="other"), question())
    keys["endpoint"] = content_key(replace(MODEL, endpoint="http://127.0.0.1:2/v1"), question())
    assert len(set(keys.values())) == len(keys)


def test_what_cannot_change_the_answer_does_not_change_the_key() -> None:
    longer = replace(SOUND, duration_s=2.0)  # the same bytes
    same = question(messages=(system("s"), user("u", longer, PICTURE)), label="clip-1")
    assert content_key(MODEL, same) == content_key(MODEL, WITH_MEDIA)
    assert content_key(MODEL, question(temperature=1)) == content_key(
        MODEL, question(temperature=1.0)
    )


def test_the_order_of_options_does_not_count() -> None:
    a, b = question(extra={"x": 1, "y": 2}), question(extra={"y": 2, "x": 1})
    assert content_key(MODEL, a) == content_key(MODEL, b)


def test_keys_stay_what_they_are() -> None:
    """Another key for the same question means that every answer is bought again."""
    assert content_key(MODEL, question()) == KNOWN


KNOWN = "d1cf3e5371ea59db4ef220b4829d0bb04b059e11e6cbce076dfafaabbcec1d18"


@given(st.text(), st.text())
def test_texts_do_not_run_into_each_other(a: str, b: str) -> None:
    joined = content_key(MODEL, question(messages=(user(a + b),)))
    parted = content_key(MODEL, question(messages=(user(a, b),)))
    assert joined != parted
    assert parted == content_key(MODEL, question(messages=(user(a, b),)))


def test_options_that_json_cannot_say_are_refused() -> None:
    for value in ({1}, float("nan"), b"bytes"):
        with pytest.raises(UserError, match="expected plain JSON data in extra"):
            content_key(MODEL, question(extra={"x": value}))


def test_a_model_is_named_with_its_place() -> None:
    assert str(ModelId(endpoint="http://h/v1", model="m")) == "m at http://h/v1"


def test_requests_that_cannot_be_meant_are_refused() -> None:
    for changes in ({"messages": ()}, {"prompt_version": ""}, {"max_output_tokens": 0}):
        with pytest.raises(UserError, match="expected"):
            question(**changes)
    with pytest.raises(UserError, match="expected PNG or JPEG"):
        ImagePart(data=b"", media_type="image/gif")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="expected wav or mp3"):
        AudioPart(data=b"", format="ogg", duration_s=1.0)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="more than 0"):
        AudioPart(data=b"", format="wav", duration_s=0.0)
    assert isinstance(question(), ChatRequest)
