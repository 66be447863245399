"""JSON answers: the schema that is sent, and the check of what comes back.

In:   a pydantic model; the text of a reply.
Out:  its JSON schema as strict endpoints want it; an instance, or `Malformed`.

Endpoints without structured output get the schema in the prompt, and their models often put the
object into a code block or a sentence; so the first JSON object in the text counts, and pydantic
checks it.
"""

from __future__ import annotations

import json
from copy import deepcopy
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from omni2sound.errors import Malformed

Answer = TypeVar("Answer", bound=BaseModel)

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
        data, _ = json.JSONDecoder(strict=False).raw_decode(text, start)
        return answer.model_validate(data)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(step) for step in problem["loc"]) or "object"
        reason = f"{where}: {problem['msg']}"
    except (ValueError, RecursionError) as error:
        reason = str(error)
    shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
    raise Malformed(f"reply is not a {answer.__name__} ({reason}): {shown!r}")


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
