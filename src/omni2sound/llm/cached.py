"""Cached chat model: each answer is paid for once.

In:   a `ChatEndpoint`, a `CallStore`, `Prices`, `Limits`; then `ChatRequest`s.
Out:  replies in the requested form; the cost of every send in the store.

A request goes: store -> turn (`limits.py`) -> intent on disk -> send -> check -> answer and cost on
disk -> caller. What not to get wrong: every path from intent to return settles the send, unless
the process dies; then the next one books it as lost.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import wrap_future
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import replace

from omni2sound.errors import (
    BudgetExceeded,
    CutOff,
    Malformed,
    ModelCallError,
    Refused,
    Rejected,
    Unavailable,
    UserError,
)
from omni2sound.llm.answers import parse_answer
from omni2sound.llm.chat import ChatEndpoint, ChatReply, ChatRequest, ModelId, SendFailed
from omni2sound.llm.content_key import content_key
from omni2sound.llm.limits import Limits, Pace
from omni2sound.llm.prices import Cost, Prices, input_tokens_at_most
from omni2sound.llm.replies import SHOWN_CHARACTERS, checked
from omni2sound.llm.retries import Retry
from omni2sound.llm.servers.health import RoleHealth, raised_tokens
from omni2sound.llm.store import Answered, CallStore, Claim, GivenUp, Granted, NoBudget, Outcome
from omni2sound.redact import shorten, whole_characters

_log = logging.getLogger(__name__)

_HELD_POLL_S = 0.25


class CachedChat:
    """`ChatModel` over an endpoint and a store; belongs to one event loop."""

    def __init__(
        self,
        endpoint: ChatEndpoint,
        *,
        store: CallStore,
        prices: Prices,
        limits: Limits | None = None,
        retry: Retry | None = None,
        max_malformed: int = 3,
        max_refused: int = 3,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Args.

        endpoint: Sends requests.
        store: Keeps answers and costs; several models may share one.
        prices: Without a row for this model its cost is unknown, and no budget can be kept.
        limits: Concurrency and rates.
        retry: Retry policy for failed sends.
        max_malformed: Most malformed replies to one request, over all runs.
        max_refused: Most refusals of one request, over all runs; each ends its `ask`.
        sleep: Replaces `asyncio.sleep` in tests.

        Raises:
            UserError: The store has a budget and the model has no price.
        """
        self.id: ModelId = endpoint.id
        self._endpoint = endpoint
        self._store = store
        self._price = prices.of(endpoint.id)
        self._pace = Pace(limits or Limits(), sleep=sleep)
        self._retry = retry or Retry()
        self._max_malformed, self._max_refused = max_malformed, max_refused
        self._sleep = sleep
        self._health: dict[str, RoleHealth] = {}
        """By prompt."""
        if self._price is None:
            if store.budget_usd is not None:
                raise UserError(
                    f"budget of {store.budget_usd} USD: {self.id} has no known price; give a "
                    "price file with a row for it, or no budget"
                )
            _log.warning("%s has no known price: its cost will not be counted", self.id)

    async def ask(self, request: ChatRequest) -> ChatReply:
        """Answer from the store or from the model; see `ChatModel`."""
        key = content_key(self.id, request)
        while True:
            reply = self._store.answer(key)
            if reply is not None:
                return _whole(reply)
            if await self._store.in_flight.alone(key):
                break
        with self._store.in_flight.asking(key):
            while True:
                reply = await self._send_with_retries(key, request)
                if reply is not None:
                    return reply
                _log.info("%s %s: malformed reply, asking again", self.id.model, request.label)

    async def _send_with_retries(self, key: str, request: ChatRequest) -> ChatReply | None:
        failure: SendFailed | None = None
        try:
            return await self._retry.policy(self._sleep)(self._once, key, request)
        except SendFailed as error:
            failure = error
        what = f"{self.id}, {request.prompt_version} {request.label}: {failure.reason}"
        if failure.transient:
            raise Unavailable(what)
        health = self._health_of(request)
        if failure.of_request:
            health.rejected(failure.reason)
            raise Rejected(what)
        if health.answered:  # a key that expired: the clip is not at fault, a later run may ask
            raise Unavailable(what)
        raise UserError(f"{what}; check the model's name, the key and the request's options")

    def _health_of(self, request: ChatRequest) -> RoleHealth:
        role = f"{self.id}, {request.prompt_version}"
        return self._health.setdefault(request.prompt_version, RoleHealth(role))

    async def _once(self, key: str, request: ChatRequest) -> ChatReply | None:
        """Send once, or not at all if the answer arrived meanwhile; None if it was malformed."""
        asked, health = request, self._health_of(request)
        if is_raised := health.starts_raised or self._store.num_cut(key) > 0:
            most = raised_tokens(asked.max_output_tokens)
            request = replace(asked, max_output_tokens=most)
        cost = None if self._price is None else self._price.before(request)
        tokens = input_tokens_at_most(request, self._price) + request.max_output_tokens
        while True:
            async with self._pace.turn(tokens):
                claim = await self._claim(key, request, cost)
                if isinstance(claim, Granted):
                    with self._store.in_flight.sent():
                        return await self._send(claim.attempt, request, cost, tokens, is_raised)
            self._pace.give_back(tokens)
            if isinstance(claim, Answered):
                return _whole(claim.reply)
            if isinstance(claim, GivenUp):
                kinds: dict[str, type[ModelCallError]] = {
                    "malformed": Malformed,
                    "refused": Refused,
                    "cut": CutOff,
                }
                times = f"{claim.num} of {claim.num} replies {claim.reason}"
                if claim.reason == "cut":
                    times = "the reply was cut off, with more tokens too"
                raise kinds[claim.reason](
                    f"{self.id}, {request.prompt_version} {request.label}: {times}; "
                    f"the last: {claim.detail}"
                )
            if not isinstance(claim, NoBudget):  # another process asks it
                await self._sleep(_HELD_POLL_S)
            elif cost is None:
                raise UserError(
                    f"budget of {self._store.budget_usd} USD: {self.id} has no known price for "
                    f"a request as long as {request.prompt_version} {request.label}"
                )
            elif not await self._store.in_flight.next_end():
                raise BudgetExceeded(
                    f"budget of {self._store.budget_usd} USD: spent {claim.spend.known_usd:f}, "
                    f"perhaps {claim.spend.uncertain_usd:f} more, and the next call may cost "
                    f"{cost.at_most_usd:f}"
                )

    async def _claim(self, key: str, request: ChatRequest, cost: Cost | None) -> Claim:
        future = self._store.claim(
            key,
            model=self.id,
            request=request,
            cost=cost,
            max_malformed=self._max_malformed,
            max_refused=self._max_refused,
        )
        try:
            return await wrap_future(future)
        except asyncio.CancelledError:
            future.add_done_callback(self._unsent)
            raise

    def _unsent(self, future: Future[Claim]) -> None:
        if future.exception() is None and isinstance(claim := future.result(), Granted):
            self._store.settle(claim.attempt, outcome="rejected", cost=None, detail="not sent")

    async def _send(
        self,
        attempt: int,
        request: ChatRequest,
        booked: Cost | None,
        tokens: int,
        is_raised: bool,
    ) -> ChatReply | None:
        try:
            reply = await self._endpoint.send(request)
        except SendFailed as error:
            if error.retry_after_s is not None:
                self._pace.pause(min(error.retry_after_s, self._retry.max_retry_after_s))
            outcome: Outcome = "lost" if error.maybe_billed else "rejected"
            await wrap_future(
                self._store.settle(attempt, outcome=outcome, cost=booked, detail=error.reason)
            )
            raise
        except BaseException as error:  # cancelled, or a bug: it may have cost something
            self._store.settle(attempt, outcome="lost", cost=booked, detail=type(error).__name__)
            raise
        reply = checked(reply, tokens)
        if reply.usage is not None:
            taken = reply.usage.input_tokens + reply.usage.output_tokens
            self._pace.give_back(max(0, tokens - taken))
        cost = booked
        if reply.usage is not None and self._price is not None:
            cost = self._price.after(request, reply.usage)
        reply = _found_in_thoughts(request, reply)
        outcome, detail = _check(request, reply)
        was_cut = outcome == "malformed" and _is_cut(request, reply)
        await wrap_future(
            self._store.settle(
                attempt,
                outcome=outcome,
                cost=cost,
                reply=reply,
                detail=detail,
                num_cut=was_cut * (2 if is_raised else 1),
            )
        )
        self._health_of(request).replied(
            was_cut=was_cut, raised=is_raised, answered=outcome == "answered"
        )
        if outcome == "refused":
            raise Refused(f"{self.id}, {request.prompt_version} {request.label}: {detail}")
        return replace(reply, from_store=False) if outcome == "answered" else None


def _whole(reply: ChatReply) -> ChatReply:
    """Return a stored reply with whole characters; older releases stored halves of them."""
    return replace(reply, text=whole_characters(reply.text))


def _found_in_thoughts(request: ChatRequest, reply: ChatReply) -> ChatReply:
    """Return the reply with the answer that its server put where thoughts belong.

    vLLM, llama.cpp and others do so when a grammar keeps the model from ending its thoughts.
    """
    if reply.text.strip() or not reply.thoughts or request.answer is None:
        return reply
    if reply.finish == "length" or reply.refusal is not None or reply.malformed is not None:
        return reply
    try:
        parse_answer(reply.thoughts, request.answer)
    except Malformed:
        return reply
    return replace(reply, text=reply.thoughts)


def _is_cut(request: ChatRequest, reply: ChatReply) -> bool:
    """Whether a reply without an answer ended at its limit; some servers give no reason."""
    if reply.malformed is not None:
        return False
    counted = None if reply.usage is None else reply.usage.output_tokens
    return reply.finish == "length" or (
        counted is not None and counted >= request.max_output_tokens
    )


def _check(request: ChatRequest, reply: ChatReply) -> tuple[Outcome, str | None]:
    """Classify a reply, with the reason if it is no answer."""
    if reply.malformed is not None:
        return "malformed", reply.malformed
    if reply.refusal is not None:
        return "refused", reply.refusal
    if reply.finish == "length":
        shown = shorten(reply.text, SHOWN_CHARACTERS)
        return "malformed", f"cut off at {request.max_output_tokens} tokens: {shown!r}"
    if not reply.text.strip():
        return "malformed", "empty"
    if request.answer is not None:
        try:
            parse_answer(reply.text, request.answer)
        except Malformed as error:
            return "malformed", str(error)
    return "answered", None
