"""The one retry policy: which sends are tried again, when, and how often.

In:   `SendFailed`, with what the endpoint said about coming back.
Out:  a tenacity policy; the seconds that a Retry-After header means.

An endpoint that names a time gets that time, all of it: one that asks for longer than we are
ready to wait has failed. Otherwise exponential with full jitter, so that calls which failed
together do not come back together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from omni2sound.errors import UserError
from omni2sound.llm.chat import SendFailed
from omni2sound.llm.optional import needs

with needs("tenacity"):
    from tenacity import (
        AsyncRetrying,
        RetryCallState,
        retry_if_exception,
        stop_after_attempt,
        wait_random_exponential,
    )

__all__ = ["Retry", "retry_after_s"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """How patient to be."""

    max_sends: int = 6
    """Of one question, malformed replies not counted."""
    first_wait_s: float = 1.0
    """The first wait lies between 0 and this, the next between 0 and twice this, ..."""
    max_wait_s: float = 60.0
    """... and none above this."""
    max_retry_after_s: float = 300.0
    """An endpoint that asks for a longer wait counts as failed."""

    def __post_init__(self) -> None:
        if self.max_sends < 1:
            raise UserError(f"max_sends={self.max_sends}: expected 1 or more")

    def policy(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> AsyncRetrying:
        """For one question; raises the last `SendFailed` when patience ends."""
        exponential = wait_random_exponential(multiplier=self.first_wait_s, max=self.max_wait_s)

        def wait(state: RetryCallState) -> float:
            error = None if state.outcome is None else state.outcome.exception()
            asked = error.retry_after_s if isinstance(error, SendFailed) else None
            return float(exponential(state)) if asked is None else asked

        return AsyncRetrying(
            retry=retry_if_exception(self._again),
            wait=wait,
            stop=stop_after_attempt(self.max_sends),
            sleep=sleep,
            reraise=True,
        )

    def _again(self, error: BaseException) -> bool:
        if not isinstance(error, SendFailed) or not error.transient:
            return False
        return error.retry_after_s is None or error.retry_after_s <= self.max_retry_after_s


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds until the endpoint wants to be asked again; None if it does not say.

    Args:
        headers: Of the response, names in lower case or a mapping that does not mind.
        now: For a header that names a date.
    """
    try:
        # Not in the standard, but more exact; OpenAI and Azure send it.
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    except (KeyError, ValueError):
        pass
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:  # "-0000": UTC, and no opinion about the place
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
