"""JSON answers: the schema that is sent, and the check of what comes back.

In:   a pydantic model; the text of a reply.
Out:  its JSON schema as strict endpoints want it; an instance, or `Malformed`.

Endpoints without structured output get the schema in the prompt, and their models put the object
into a code block, behind a sentence, or behind their thoughts and drafts. So thoughts are taken
away, and the last whole object of the requested form counts. What not to get wrong: an answer is
stored, and everything after it believes it, so numbers are finite and of a sensible size,
characters whole, and lists no longer than `MAX_VALUES`; what stands inside an object that was cut
off is no answer.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from copy import deepcopy
from functools import lru_cache
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ValidationError

from omni2sound.errors import Malformed
from omni2sound.redact import shorten, whole_characters

Answer = TypeVar("Answer", bound=BaseModel)

MAX_VALUES = 5_000
"""Most JSON values of an answer: several hundred events."""
_MAX_DIGITS = 15
"""Longest integer; none of ours means more than seconds."""
_SHOWN_CHARACTERS = 200


_MAX_OBJECTS = 1_000
"""Most places of a text at which an object is looked for."""
_THOUGHTS = re.compile(r"<(/?)(?:think|thinking|thought|reasoning)>", re.IGNORECASE)


def without_thoughts(text: str) -> str:
    """Return a reply without the thoughts that its model wrote between tags.

    Some chat templates write the opening tag into the prompt, so a closing one may come alone:
    all before it are thoughts. Thoughts that do not end go to the end of the text.
    """
    kept: list[str] = []
    begin, is_thinking = 0, False
    for tag in _THOUGHTS.finditer(text):
        if tag[1]:
            if not is_thinking:
                kept.clear()
            is_thinking = False
        elif not is_thinking:
            kept.append(text[begin : tag.start()])
            is_thinking = True
        begin = tag.end()
    if not is_thinking:
        kept.append(text[begin:])
    return " ".join(kept)


def parse_answer(text: str, answer: type[Answer]) -> Answer:
    """Parse the last whole JSON object in `text` that is an `answer`; thoughts do not count.

    Raises:
        Malformed: There is no object, or none has the form.
    """
    found: Answer | None = None
    reason = "no JSON object"
    for data in _objects(without_thoughts(text)):
        if isinstance(data, str):
            reason = data
            continue
        try:
            found = answer.model_validate(_bounded(data))
        except ValidationError as error:
            if found is None:
                reason = _first_problem(error)
        except ValueError as error:
            found, reason = None, str(error)
    if found is not None:
        return found
    shown = shorten(text, _SHOWN_CHARACTERS)
    raise Malformed(f"reply is not a {answer.__name__} ({shorten(reason, 200)}): {shown!r}")


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(step) for step in problem["loc"]) or "object"
    return f"{where}: {problem['msg']}"


def _objects(text: str) -> Iterator[Any]:
    """Yield the whole JSON objects of a text in order, and a string for what is wrong with one."""
    text = _unquoted(text)
    at = 0
    for _ in range(_MAX_OBJECTS):
        if (at := text.find("{", at)) < 0:
            return
        try:
            data, at = _DECODER.raw_decode(text, at)
        except json.JSONDecodeError as error:
            yield str(error)
            if error.msg.startswith("Unterminated") or error.pos >= len(text.rstrip()):
                return  # cut off: objects inside it are parts of an answer
            at += 1
        except (ValueError, RecursionError) as error:
            yield str(error)
            return
        else:
            yield data


def _unquoted(text: str) -> str:
    """Return the text of an answer that was encoded twice, as a JSON string."""
    stripped = text.strip()
    if stripped.startswith(('"{', '"\\n')):
        try:
            decoded = json.loads(stripped)
        except (ValueError, RecursionError):
            return text
        if isinstance(decoded, str):
            return decoded
    return text


_UNKNOWN = {"", "-", "?", "nan", "null", "none", "unknown", "n/a", "na", "inf", "infinity"}
_NUMBER = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+))\s*(s|sec|secs|second|seconds|%)?")
_CLOCK = re.compile(r"(?:(\d{1,2}):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)")


def _as_number(value: Any) -> Any:
    """Read a number that a model wrote as text: "0.5 s", "0:01.5", "80 %", "unknown"."""
    if not isinstance(value, str):
        return value
    text = value.strip().lower()
    if text in _UNKNOWN:
        return None
    if clock := _CLOCK.fullmatch(text):
        hours, minutes, seconds = (float(part or 0) for part in clock.groups())
        return 3600 * hours + 60 * minutes + seconds
    if (number := _NUMBER.fullmatch(text)) is None:
        return value
    return float(number[1]) / (100 if number[2] == "%" else 1)


def _as_flag(value: Any) -> Any:
    return None if isinstance(value, str) and value.strip().lower() in _UNKNOWN else value


Number = Annotated[float | None, BeforeValidator(_as_number)]
"""Number of an answer, also as text; None where the model does not know it, or leaves it out."""
Seconds = Annotated[float, BeforeValidator(_as_number)]
"""Number that must be there, also as text."""
Flag = Annotated[bool | None, BeforeValidator(_as_flag)]
"""Truth of an answer; None where the model does not know it, or leaves it out."""


def _float(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError("a number without bounds")
    return value


def _int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _no_number(name: str) -> None:
    """Read NaN and the infinities, which JSON does not have, as unknown."""


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
