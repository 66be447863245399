"""JSON in, JSON out: the schema that is sent, and the check of what comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from omni2sound.errors import Malformed
from omni2sound.llm.answers import in_words, parse_answer, strict_schema


class Event(BaseModel):
    name: str
    start_s: float = 0.0


class Caption(BaseModel):
    caption: str
    events: list[Event] = []
    sure: bool | None = None


ANSWER = Caption(caption='a {bell} rings "twice"', events=[Event(name="bell", start_s=0.5)])


@given(caption=st.text(), names=st.lists(st.text(), max_size=3))
def test_an_answer_survives_the_wire(caption: str, names: list[str]) -> None:
    answer = Caption(caption=caption, events=[Event(name=name) for name in names])
    assert parse_answer(answer.model_dump_json(), Caption) == answer


@pytest.mark.parametrize(
    "wrapped",
    ["{}", "```json\n{}\n```", "Here it is:\n{}\nAnything else?", "\n\n{} {}", "{}\x00"],
)
def test_what_models_put_around_an_object_does_not_matter(wrapped: str) -> None:
    assert parse_answer(wrapped.replace("{}", ANSWER.model_dump_json()), Caption) == ANSWER


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no JSON object"),
        ("I am sorry", "no JSON object"),
        ('{"caption": "unfini', "Unterminated"),
        ('{"events": []}', "caption: Field required"),
        ('{"caption": "x", "events": [{"name": 3}]}', "events.0.name"),
        ("{" * 100_000, "reply is not a Caption"),
        ('{"caption": ' * 100_000, "reply is not a Caption"),
    ],
)
def test_anything_else_is_malformed_and_says_why(text: str, reason: str) -> None:
    with pytest.raises(Malformed, match=reason) as caught:
        parse_answer(text, Caption)
    assert len(str(caught.value)) < 500


def _objects(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, list):
        return [found for item in node for found in _objects(item)]
    if not isinstance(node, dict):
        return []
    here = [node] if node.get("type") == "object" else []
    return here + [found for value in node.values() for found in _objects(value)]


def test_every_object_of_the_schema_is_closed_and_complete() -> None:
    found = _objects(strict_schema(Caption))
    assert len(found) == 2
    for schema in found:
        assert schema["additionalProperties"] is False
        assert schema["required"] == list(schema["properties"])
        assert not any("default" in each for each in schema["properties"].values())


def test_the_schema_in_words_holds_the_schema() -> None:
    assert json.loads(in_words(Caption).split("\n", 1)[1]) == strict_schema(Caption)


def test_a_schema_that_was_changed_does_not_change_the_next() -> None:
    strict_schema(Caption)["required"].clear()
    assert strict_schema(Caption)["required"]
