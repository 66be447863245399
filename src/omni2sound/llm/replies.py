"""Replies as endpoints send them: bounded, read, and checked before anything is stored.

In:   the body of a response; a `ChatReply` of any endpoint.
Out:  a `ChatReply` that every store and file can hold.

A reply that can't be used is one request's failure and has been billed, so it comes back as a
`ChatReply` with a reason (`malformed`) and is counted, never sent for again without end. What not
to get wrong: an absurd count of tokens is an unknown one. The booked upper bound then stays.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, TypeGuard

from omni2sound.llm.chat import ChatReply, Usage
from omni2sound.redact import scrub, shorten, whole_characters

MAX_BODY_BYTES = 4 * 2**20
"""Longest body of a response; answers take a few kilobytes."""
MAX_TEXT_CHARACTERS = 200_000
SHOWN_CHARACTERS = 500
"""Most characters of a reply in a message."""
_MAX_TOKENS = 10**9
"""Highest count of tokens that is believed; SQLite's integers end at 19 digits."""
_BEYOND_BOUND = 10
"""Counts this many times over the upper bound of a request are not believed."""
_MAX_FINISH = 40
"""Longest reason for an end."""

_THOUGHTS = ("reasoning_content", "reasoning")
"""Fields of a message with thoughts: vLLM and Ollama have had both names."""
_THOUGHT_PARTS = {"thinking", "reasoning", "redacted_thinking"}
_FINISH = {
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "model_length"), "length"),
    **dict.fromkeys(
        ("content_filter", "safety", "prohibited_content", "blocklist", "spii"), "content_filter"
    ),
}
"""Reasons for an end by the names that compatible endpoints give them."""

_log = logging.getLogger(__name__)


class BodyTooLong(Exception):
    """The body of a response is encoded or too long to be read."""


@cache
def _bounded(kind: Any) -> type[Any]:
    """Make a kind of stream that ends in `BodyTooLong`; the SDK's HTTP library has two names."""

    class Bounded(kind):  # type: ignore[misc]
        def __init__(self, stream: Any) -> None:
            self._bounded = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            left = MAX_BODY_BYTES
            async for data in self._bounded:
                left -= len(data)
                if left < 0:
                    raise BodyTooLong(f"reply of more than {MAX_BODY_BYTES} bytes")
                yield data

        async def aclose(self) -> None:
            await self._bounded.aclose()

    return Bounded


async def bound_body(response: Any) -> None:
    """Let the body of a response end in `BodyTooLong` where it goes over `MAX_BODY_BYTES`.

    Args:
        response: From the SDK's HTTP library, before its body is read.

    Raises:
        BodyTooLong: The body is compressed, though that was ruled out in the request: a few
            kilobytes can become gigabytes.
    """
    coding = response.headers.get("content-encoding", "identity")
    if coding.lower() != "identity":
        raise BodyTooLong(f"reply with content-encoding {coding[:20]!r}, which was not accepted")
    kind: Any = type(response.stream)
    response.stream = _bounded(kind)(response.stream)


def read_reply(data: Mapping[str, Any]) -> ChatReply:
    """Read the first choice of a chat completion.

    Args:
        data: The parsed body.

    Raises:
        LookupError, TypeError, AttributeError: It is no chat completion.
    """
    usage = read_usage(data.get("usage"))
    choices = data["choices"]
    if isinstance(choices, list) and not choices:  # a prompt that was blocked, for one
        return ChatReply(text="", usage=usage, malformed="it has no choices")
    choice = choices[0]
    message = choice["message"]
    refusal = message.get("refusal") or None
    # Without content: all tokens went into thoughts (Gemini), or the answer did (vLLM, llama.cpp).
    text = _text(message.get("content"))
    thoughts = next((t for n in _THOUGHTS if isinstance(t := message.get(n), str) and t), "")
    if text is None or not isinstance(refusal, str | None):
        kind = type(message.get("content") if text is None else refusal).__name__
        reason = f"its content is no text and no list of texts but a {kind}"
        return ChatReply(text="", usage=usage, malformed=reason)
    finish = str(choice.get("finish_reason") or "stop")
    finish = _FINISH.get(finish.lower(), finish)
    if finish == "content_filter" and refusal is None:
        refusal = "stopped by the endpoint's content filter"
    return ChatReply(text=text, usage=usage, finish=finish, refusal=refusal, thoughts=thoughts)


def _text(content: object) -> str | None:
    """Return the text of a reply; None if it is of another kind (a picture, a number)."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        return None
    parts = [p for p in content if not (isinstance(p, Mapping) and p.get("type") in _THOUGHT_PARTS)]
    texts = [part.get("text") for part in parts if isinstance(part, Mapping)]
    found = [text for text in texts if isinstance(text, str)]
    return "".join(found) if len(found) == len(parts) else None


def read_usage(data: object) -> Usage | None:
    """Read the token counts; None if some are missing or absurd."""
    if not isinstance(data, Mapping):
        return None
    prompt, completion = data.get("prompt_tokens"), data.get("completion_tokens")
    if not _is_count(prompt) or not _is_count(completion):
        return None
    total = data.get("total_tokens")
    # Some endpoints count reasoning in the total only (Gemini's, for one).
    hidden = total - prompt - completion if _is_count(total) else 0
    details = data.get("prompt_tokens_details")
    details = details if isinstance(details, Mapping) else {}
    audio, cached = details.get("audio_tokens"), details.get("cached_tokens")
    return Usage(
        input_tokens=prompt,
        output_tokens=completion + max(0, hidden),
        audio_input_tokens=audio if _is_count(audio) else None,
        cached_input_tokens=min(cached, prompt) if _is_count(cached) else None,
    )


def _is_count(value: object) -> TypeGuard[int]:
    is_int = isinstance(value, int) and not isinstance(value, bool)
    return is_int and 0 <= value <= _MAX_TOKENS  # type: ignore[operator]


def checked(reply: ChatReply, tokens_at_most: int) -> ChatReply:
    """Return a reply that can be stored.

    Keys are scrubbed, halves of characters replaced by U+FFFD; a text that is too long is
    malformed; a count of tokens far over the bound is unknown.

    Args:
        reply: From any endpoint.
        tokens_at_most: Upper bound for input and output tokens of the request.
    """
    usage, malformed = reply.usage, reply.malformed
    if usage is not None:
        counts = (
            *(usage.input_tokens, usage.output_tokens),
            *(usage.audio_input_tokens or 0, usage.cached_input_tokens or 0),
        )
        most = min(_MAX_TOKENS, _BEYOND_BOUND * tokens_at_most + 10_000)
        if not all(_is_count(n) and n <= most for n in counts):
            _log.warning("reply with absurd token counts: its cost stays unknown")
            usage = None
    text = reply.text
    if malformed is None and len(text) > MAX_TEXT_CHARACTERS:
        malformed = f"{len(text)} characters, the limit is {MAX_TEXT_CHARACTERS}"
    thoughts = "" if len(reply.thoughts) > MAX_TEXT_CHARACTERS else reply.thoughts
    if malformed is not None:
        text = text[:0]
    refusal = reply.refusal
    return replace(
        reply,
        text=whole_characters(scrub(text)),
        usage=usage,
        thoughts=whole_characters(scrub(thoughts)),
        finish=whole_characters(shorten(reply.finish, _MAX_FINISH)),
        refusal=None if refusal is None else whole_characters(shorten(refusal, SHOWN_CHARACTERS)),
        malformed=None if malformed is None else shorten(malformed, SHOWN_CHARACTERS),
    )
