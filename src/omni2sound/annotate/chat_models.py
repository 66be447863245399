"""Chat models by name, for the command line: `scripted:FILE`, or NAME@URL.

In:   a name, how to reach and pay endpoints, the store of calls.
Out:  a `ChatModel`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omni2sound.errors import UserError

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from omni2sound.llm import CallStore, ChatModel

__all__ = ["MODEL_HELP", "ChatOptions", "chat_model"]

MODEL_HELP = "local, scripted:FILE, or NAME@URL of an OpenAI-compatible endpoint."


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatOptions:
    """What all endpoints of one command share."""

    key_variable: str
    """Environment variable with the API key; "none": no key is needed."""
    prices: tuple[Path, ...]
    concurrency: int
    timeout_s: float


def chat_model(
    name: str, stack: AsyncExitStack, calls: CallStore, options: ChatOptions
) -> ChatModel:
    """The model of that name; its connections are closed with `stack`.

    Raises:
        UserError: There is no such script, or the name is no model's.
    """
    if name.startswith("scripted:"):
        from omni2sound.annotate.scripted import ScriptedModel

        return ScriptedModel.read(Path(name.removeprefix("scripted:")))
    model, at, url = name.partition("@")
    if not model or not at:
        raise UserError(f"model {name!r}: expected {MODEL_HELP}")
    from omni2sound.llm import Limits, OpenAIEndpoint, Prices, StoredChat

    key_variable = None if options.key_variable == "none" else options.key_variable
    endpoint = OpenAIEndpoint(
        model, base_url=url, key_variable=key_variable, timeout_s=options.timeout_s
    )
    stack.push_async_callback(endpoint.aclose)
    return StoredChat(
        endpoint,
        store=calls,
        prices=Prices.load(*options.prices),
        limits=Limits(concurrency=options.concurrency),
    )
