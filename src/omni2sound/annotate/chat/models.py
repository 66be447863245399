"""Chat models by name: `scripted:FILE`, or `NAME@URL` of an OpenAI-compatible endpoint.

In:   a name, options of endpoints, the store of calls.
Out:  a `ChatModel`.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from omni2sound.annotate.chat.scripted import ScriptedModel
from omni2sound.errors import UserError
from omni2sound.llm import CallStore, ChatModel, Limits, Prices


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatOptions:
    """How the endpoints of a run are reached; changes no result."""

    key_variable: str | None = "OPENAI_API_KEY"
    """Environment variable with the API key; None if no key is needed."""
    prices: tuple[Path, ...] = ()
    """Price tables that take precedence over the bundled one."""
    concurrency: int = 16
    """Most calls in flight."""
    timeout_s: float = 120.0
    """Time limit of one call."""


def chat_model(
    name: str, options: ChatOptions, *, calls: CallStore, stack: AsyncExitStack
) -> ChatModel:
    """Open a model; `stack` closes its connections.

    Raises:
        UserError: The script can't be read, or the name has another form.
    """
    if name.startswith("scripted:"):
        return ScriptedModel.read(Path(name.removeprefix("scripted:")))
    model, at, url = name.partition("@")
    if not model or not at:
        raise UserError(
            f"model {name!r}: expected local, scripted:FILE, or NAME@URL of an OpenAI-compatible "
            "endpoint"
        )
    from omni2sound.llm import CachedChat, OpenAIEndpoint  # need the extra `annotate`

    endpoint = OpenAIEndpoint(
        model, base_url=url, key_variable=options.key_variable, timeout_s=options.timeout_s
    )
    stack.push_async_callback(endpoint.aclose)
    return CachedChat(
        endpoint,
        store=calls,
        prices=Prices.load(*options.prices),
        limits=Limits(concurrency=options.concurrency),
    )
