"""Content keys of requests: equal keys, equal requests.

In:   a model's identity and a `ChatRequest`.
Out:  64 hexadecimal digits.

The key covers all that can change the answer and nothing else: endpoint, model, prompt version,
messages with the digests of their pictures and sounds, the form of the answer, sampling, `take`.
Labels, prices, limits and time-outs stay out.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from omni2sound.errors import UserError
from omni2sound.llm.answers import strict_schema
from omni2sound.llm.chat import AudioPart, ChatRequest, ImagePart, ModelId, Part

_VERSION = 1
"""Incremented when equal requests get another key; old answers are then paid for again."""


def content_key(model: ModelId, request: ChatRequest) -> str:
    """Compute the SHA-256 of the canonical JSON of everything that can change the answer.

    Raises:
        UserError: `request.extra` is not JSON data.
    """
    question = {
        "version": _VERSION,
        "endpoint": model.endpoint,
        "model": model.model,
        "prompt_version": request.prompt_version,
        "messages": [
            [message.role, [_part(part) for part in message.parts]] for message in request.messages
        ],
        "answer": None if request.answer is None else strict_schema(request.answer),
        "max_output_tokens": request.max_output_tokens,
        "temperature": None if request.temperature is None else float(request.temperature),
        "seed": request.seed,
        "extra": dict(request.extra),
        "take": request.take,
    }
    try:
        text = json.dumps(question, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"request {request.prompt_version}: expected plain JSON data in extra, {error}"
        ) from None
    return hashlib.sha256(text.encode()).hexdigest()


def _part(part: Part) -> list[Any]:
    if isinstance(part, ImagePart):
        return ["image", part.media_type, part.detail, hashlib.sha256(part.data).hexdigest()]
    if isinstance(part, AudioPart):
        return ["audio", part.format, hashlib.sha256(part.data).hexdigest()]
    return ["text", part.text]
