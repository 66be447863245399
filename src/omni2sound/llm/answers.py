"""JSON answers: the schema that is sent, and the check of what comes back.

In:   a pydantic model; the text of a reply.
Out:  its JSON schema as strict endpoints want it; an instance, or `Malformed`.

Endpoints without structured output get the schema in the prompt, and their models often put the
object into a code block or a sentence; so the first JSON object in the text counts, and pydantic
checks it. What not to get wrong: an answer is stored, and everything after it believes it, so
numbers are finite and of a sensible size, characters whole, and lists no longer than `MAX_VALUES`.
"""

from __future__ import annotations

import json
import math
from copy import deepcopy
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from omni2sound.errors import Malformed
from omni2sound.redact import shorten, whole_characters

Answer = TypeVar("Answer", bound=BaseModel)

MAX_VALUES = 5_000
"""Most JSON values of an answer: several hundred events."""
_MAX_DIGITS = 15
"""Longest integer; none of ours means more than seconds."""
_SHOWN_CHARACTERS = 200


def parse_answer(text: str, answer: type[Answer]) -> Answer:
    """Parse the first JSON object in `text`.

    Raises:
        Malformed: There is no object, or it has another form.
    """
    start = text.find("{")
    try:
        if start < 0:
            raise ValueError("no JSON object")
        data, _ = _DECODER.raw_decode(text, start)
        return answer.model_validate(_bounded(data))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(step) for step in problem["loc"]) or "object"
        reason = f"{where}: {problem['msg']}"
    except (ValueError, RecursionError) as error:
        reason = str(error)
    shown = shorten(text, _SHOWN_CHARACTERS)
    raise Malformed(f"reply is not a {answer.__name__} ({shorten(reason, 200)}): {shown!r}")


def _float(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError("a number without bounds")
    return value


def _int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


_DECODER = json.JSONDecoder(
    strict=False, parse_float=_float, parse_int=_int, parse_constant=_no_number
)


def _bounded(data: Any) -> Any:
    """Return `data` with whole characters.

    Raises:
        ValueError: It holds more than `MAX_VALUES` values.
    """
    num_values = 0

    def walk(value: Any) -> Any:
        nonlocal num_values
        num_values += 1
        if num_values > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} values")
        if isinstance(value, str):
            return whole_characters(value)
        if isinstance(value, list):
            return [walk(item) for item in value]
        if isinstance(value, dict):
            return {whole_characters(name): walk(item) for name, item in value.items()}
        return value

    return walk(data)


def strict_schema(answer: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of `answer` with closed objects, required properties, no defaults.

    Strict endpoints refuse any other schema.
    """
    return deepcopy(_schema(answer))


@lru_cache
def _schema(answer: type[BaseModel]) -> dict[str, Any]:
    schema = answer.model_json_schema()
    _close(schema)
    return schema


def _close(node: Any) -> None:
    if isinstance(node, list):
        for item in node:
            _close(item)
        return
    if not isinstance(node, dict):
        return
    properties = node.get("properties")
    if node.get("type") == "object" and isinstance(properties, dict):
        node["required"] = list(properties)
        node["additionalProperties"] = False
        for description in properties.values():
            description.pop("default", None)
    for value in node.values():
        _close(value)


@lru_cache
def in_words(answer: type[BaseModel]) -> str:
    """Write the schema as an instruction for endpoints that take none."""
    schema = json.dumps(_schema(answer), ensure_ascii=False)
    return f"Reply with one JSON object and nothing else. It follows this JSON schema:\n{schema}"
