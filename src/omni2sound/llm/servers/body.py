"""Bodies of requests to OpenAI-compatible servers.

In:   a `ChatRequest`, the model's name, `ServerOptions`.
Out:  JSON data for `/chat/completions`.
"""

from __future__ import annotations

import base64
from typing import Any

from omni2sound.llm.answers import in_words, strict_schema
from omni2sound.llm.chat import AudioPart, ChatRequest, ImagePart, Message, Part
from omni2sound.llm.servers.options import AudioForm, ServerOptions


def request_body(request: ChatRequest, model: str, options: ServerOptions) -> dict[str, Any]:
    """Write a request in the form that the server takes."""
    messages = [_message(message, options.audio_part) for message in request.messages]
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        options.tokens_option: request.max_output_tokens,
    }
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.seed is not None:
        body["seed"] = request.seed
    body.update(request.extra)
    if request.answer is None:
        return body
    if options.structured == "json_schema":
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {
                "name": request.answer.__name__,
                "schema": strict_schema(request.answer),
                "strict": True,
            },
        }
        return body
    if options.structured == "json_object":
        body["response_format"] = {"type": "json_object"}
    messages.append({"role": "user", "content": in_words(request.answer)})
    return body


def _message(message: Message, audio: AudioForm) -> dict[str, Any]:
    texts_only = message.role != "user"
    if texts_only:  # plain strings: some servers take nothing else from system and assistant
        content: Any = "\n".join(getattr(part, "text", "") for part in message.parts)
    else:
        content = [_part(part, audio) for part in message.parts]
    return {"role": message.role, "content": content}


def _part(part: Part, audio: AudioForm) -> dict[str, Any]:
    if isinstance(part, ImagePart):
        url = f"data:{part.media_type};base64,{base64.b64encode(part.data).decode()}"
        return {"type": "image_url", "image_url": {"url": url, "detail": part.detail}}
    if isinstance(part, AudioPart):
        data = base64.b64encode(part.data).decode()
        kind = "mpeg" if part.format == "mp3" else part.format
        if audio == "audio_url":
            return {
                "type": "audio_url",
                "audio_url": {"url": f"data:audio/{kind};base64,{data}"},
            }
        if audio == "data_uri":
            data = f"data:;base64,{data}"
        return {"type": "input_audio", "input_audio": {"data": data, "format": part.format}}
    return {"type": "text", "text": part.text}
