"""What the tests of `llm` ask, and whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from benchmarks.robustness.llm_server import PRICES
from omni2sound.llm import (
    ChatReply,
    ChatRequest,
    ModelId,
    Prices,
    SendFailed,
    Usage,
    user,
)

MODEL = ModelId(endpoint="http://127.0.0.1:1/v1", model="loopback")
USAGE = Usage(input_tokens=100, output_tokens=10)
COST_USD = "0.00028"  # 100 tokens at $2 and 10 at $8 a million


class Caption(BaseModel):
    caption: str


def question(text: str = "What is heard?", **changes: Any) -> ChatRequest:
    fields: dict[str, Any] = {
        "messages": (user(text),),
        "prompt_version": "test/1",
        "max_output_tokens": 20,
        "answer": Caption,
    }
    return ChatRequest(**{**fields, **changes})


def good(caption: str = "a bell") -> ChatReply:
    return ChatReply(text=f'{{"caption": "{caption}"}}', usage=USAGE)


def prices(folder: Path) -> Prices:
    (folder / "prices.toml").write_text(PRICES, encoding="utf-8")
    return Prices.load(folder / "prices.toml")


class Script:
    """An endpoint that does what it is told, one step a send; the last step stays."""

    id = MODEL

    def __init__(self, steps: Sequence[ChatReply | BaseException | Callable[[], Any]]) -> None:
        self.steps = list(steps)
        self.num_sent = 0

    async def send(self, request: ChatRequest) -> ChatReply:
        step = self.steps[min(self.num_sent, len(self.steps) - 1)]
        self.num_sent += 1
        if callable(step):
            step = await step()
        if isinstance(step, BaseException):
            raise step
        return step


def failed(
    *, billed: bool = False, transient: bool = True, after: float | None = None
) -> SendFailed:
    return SendFailed("down", maybe_billed=billed, transient=transient, retry_after_s=after)
