"""Retry policy: which sends are repeated, when, and how often.

In:   `SendFailed` with the pause that the endpoint requested.
Out:  a tenacity policy; the seconds of a Retry-After header.

A requested pause is kept in full; one beyond the limit counts as failed. Otherwise waits are
exponential with full jitter, so that calls which failed together don't return together.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """Number of sends and waits between them."""

    max_sends: int = 6
    """Most failed sends of one request, malformed replies not counted."""
    first_wait_s: float = 1.0
    """Upper end of the first wait; it doubles with each wait."""
    max_wait_s: float = 60.0
    """Upper end of all waits."""
    max_retry_after_s: float = 300.0
    """Longest requested pause that is kept."""

    def __post_init__(self) -> None:
        if self.max_sends < 1:
            raise UserError(f"expected 1 or more, got {self.max_sends}", field="max_sends")

    def policy(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> AsyncRetrying:
        """Build the policy for one request; it reraises the last `SendFailed`."""
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
    """Read the requested pause in seconds; None if there is none.

    Args:
        headers: Headers of the response; names in lower case, or a case-insensitive mapping.
        now: Reference for a header with a date; None takes the current time.
    """
    try:
        # Not in the standard but finer; OpenAI and Azure send it.
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
    if moment.tzinfo is None:  # "-0000" means UTC of unknown place
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
