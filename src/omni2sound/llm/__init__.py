"""Language models behind an API: cached answers, rate limits, retries, costs.

In:   `ChatRequest`s: texts, pictures, sounds, the form of the answer.
Out:  `ChatReply`s, each paid for once; the money spent as an interval.

    prices = Prices.load()
    with CallStore.open(out / "calls.sqlite", budget_usd=Decimal(20)) as store:
        junior = CachedChat(
            OpenAIEndpoint("gemini-2.5-flash", base_url=URL, key_variable="GEMINI_API_KEY"),
            store=store,
            prices=prices,
            limits=Limits(concurrency=64, requests_per_minute=1000),
        )
        reply = await junior.ask(request)          # concurrent calls are fine
        store.spend()                              # Spend(known_usd=..., uncertain_usd=...)

Callers depend on the protocol `ChatModel` (`id`, `ask`) only. `OpenAIEndpoint` sends once to an
OpenAI-compatible server. `CachedChat` adds the store: it looks an answer up, books the highest cost
before sending, retries, checks the answer and settles the cost. Only these two need the extra
`annotate`; nothing here imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from omni2sound.llm.chat import (
    AudioPart,
    ChatEndpoint,
    ChatModel,
    ChatReply,
    ChatRequest,
    ImagePart,
    Message,
    ModelId,
    SendFailed,
    TextPart,
    Usage,
    assistant,
    system,
    user,
)
from omni2sound.llm.content_key import content_key
from omni2sound.llm.limits import Limits
from omni2sound.llm.prices import Cost, Price, Prices
from omni2sound.llm.store import CallStore, Spend, Total

if TYPE_CHECKING:
    from omni2sound.llm.cached import CachedChat
    from omni2sound.llm.client import OPENAI_URL, OpenAIEndpoint
    from omni2sound.llm.retries import Retry

__all__ = [
    "OPENAI_URL",
    "AudioPart",
    "CachedChat",
    "CallStore",
    "ChatEndpoint",
    "ChatModel",
    "ChatReply",
    "ChatRequest",
    "Cost",
    "ImagePart",
    "Limits",
    "Message",
    "ModelId",
    "OpenAIEndpoint",
    "Price",
    "Prices",
    "Retry",
    "SendFailed",
    "Spend",
    "TextPart",
    "Total",
    "Usage",
    "assistant",
    "content_key",
    "system",
    "user",
]

# These need the extra `annotate`, which local models do without.
_HOME_OF = {
    "OPENAI_URL": "client",
    "OpenAIEndpoint": "client",
    "Retry": "retries",
    "CachedChat": "cached",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
