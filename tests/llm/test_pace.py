"""How fast, how often, and how long to wait."""

from __future__ import annotations

import asyncio
import heapq
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from omni2sound.errors import UserError
from omni2sound.llm import Limits, Retry, SendFailed
from omni2sound.llm.limits import Pace
from omni2sound.llm.retries import retry_after_s
from tests.llm.questions import failed


class Clock:
    """Time that passes when everybody waits for it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, duration_s: float) -> None:
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + duration_s, id(future), future))
        await future

    async def run(self, *tasks: Any) -> None:
        gathered = asyncio.gather(*tasks)
        while not gathered.done():
            for _ in range(50):
                await asyncio.sleep(0)
            if self._sleepers and not gathered.done():
                self.now, _, future = heapq.heappop(self._sleepers)
                future.set_result(None)
        await gathered


def sends(limits: Limits, tokens: list[int], taken: list[int] | None = None) -> list[float]:
    """When each send begins; sends take no time."""
    starts: list[tuple[float, int]] = []

    async def main() -> None:
        clock = Clock()
        pace = Pace(limits, clock=clock, sleep=clock.sleep)

        async def one(number: int) -> None:
            async with pace.turn(tokens[number]):
                starts.append((clock.now, number))
                if taken is not None:
                    pace.give_back(tokens[number] - taken[number])

        await clock.run(*(one(number) for number in range(len(tokens))))

    asyncio.run(main())
    return [start for start, _ in sorted(starts)]


@given(rate=st.integers(1, 600), num=st.integers(1, 60), concurrency=st.integers(1, 20))
def test_no_minute_has_more_requests_than_allowed(rate: int, num: int, concurrency: int) -> None:
    starts = sends(Limits(concurrency=concurrency, requests_per_minute=rate), [1] * num)
    for start in starts:
        assert sum(start <= other < start + 60 - 1e-6 for other in starts) <= rate
    assert starts[-1] <= (num - 1) * 60 / rate + 1e-6  # and no slower than that


@given(rate=st.integers(100, 10_000), tokens=st.lists(st.integers(1, 500), min_size=1, max_size=40))
def test_no_minute_has_more_tokens_than_allowed_and_one_send(rate: int, tokens: list[int]) -> None:
    starts = sends(Limits(concurrency=64, tokens_per_minute=rate), tokens)
    for start in starts:
        inside = sum(
            count
            for other, count in zip(starts, tokens, strict=True)
            if start <= other < start + 60 - 1e-6
        )
        assert inside <= rate + max(tokens)


def test_tokens_that_were_not_taken_are_given_back() -> None:
    limits = Limits(concurrency=1, tokens_per_minute=600)
    assert sends(limits, [100] * 4) == [0, 10, 20, 30]
    assert sends(limits, [100] * 4, taken=[10] * 4) == [0, 1, 2, 3]


def test_only_so_many_at_a_time() -> None:
    async def main() -> int:
        pace = Pace(Limits(concurrency=3))
        running = most = 0

        async def one() -> None:
            nonlocal running, most
            async with pace.turn(1):
                running += 1
                most = max(most, running)
                await asyncio.sleep(0)
                running -= 1

        await asyncio.gather(*(one() for _ in range(20)))
        return most

    assert asyncio.run(main()) == 3


def test_a_pause_holds_everybody() -> None:
    async def main() -> list[float]:
        clock = Clock()
        pace = Pace(Limits(concurrency=8), clock=clock, sleep=clock.sleep)
        pace.pause(30.0)
        starts: list[float] = []

        async def one() -> None:
            async with pace.turn(1):
                starts.append(clock.now)

        await clock.run(*(one() for _ in range(4)))
        return starts

    for start in asyncio.run(main()):
        assert 30 <= start <= 31


@pytest.mark.parametrize(
    "fields", [{"concurrency": 0}, {"requests_per_minute": 0}, {"tokens_per_minute": float("inf")}]
)
def test_limits_that_allow_nothing_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="expected"):
        Limits(**fields)


def waits(retry: Retry, failures: list[SendFailed]) -> tuple[int, list[float]]:
    """Sends, and the waits between them; the send after the last failure succeeds."""
    slept: list[float] = []
    num_sent = 0

    async def sleep(duration_s: float) -> None:
        slept.append(duration_s)

    async def send() -> None:
        nonlocal num_sent
        num_sent += 1
        if num_sent <= len(failures):
            raise failures[num_sent - 1]

    async def main() -> SendFailed | None:
        try:
            await retry.policy(sleep)(send)
        except SendFailed as error:
            return error
        return None

    last = asyncio.run(main())
    assert last is (failures[num_sent - 1] if num_sent <= len(failures) else None)
    return num_sent, slept


@given(num=st.integers(0, 12), most=st.integers(1, 8))
def test_patience_ends(num: int, most: int) -> None:
    num_sent, slept = waits(Retry(max_sends=most), [failed() for _ in range(num)])
    assert num_sent == min(num + 1, most)
    assert len(slept) == num_sent - 1


def test_waits_are_random_grow_and_have_a_cap() -> None:
    many = [waits(Retry(max_sends=12, max_wait_s=20), [failed()] * 11)[1] for _ in range(30)]
    for number in range(11):
        column = [slept[number] for slept in many]
        assert len(set(column)) > 20
        assert max(column) <= min(2**number, 20)
    assert max(slept[10] for slept in many) > 10


def test_what_the_endpoint_asks_for_is_what_it_gets() -> None:
    assert waits(Retry(), [failed(after=7.0), failed(after=0.0)]) == (3, [7.0, 0.0])
    assert waits(Retry(max_wait_s=1), [failed(after=200.0)]) == (2, [200.0])


def test_who_asks_for_too_long_has_failed() -> None:
    assert waits(Retry(max_retry_after_s=10), [failed(after=10.1)]) == (1, [])


def test_what_can_only_fail_again_is_not_tried_again() -> None:
    assert waits(Retry(), [failed(transient=False)]) == (1, [])
    with pytest.raises(UserError, match="expected 1 or more"):
        Retry(max_sends=0)


NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 5 ", 5.0),
        ("Tue, 24 Nov 2026 12:00:30 GMT", 30.0),
        ("Tue, 24 Nov 2026 12:00:30 -0000", 30.0),
        ("Tuesday, 24-Nov-26 12:00:30 GMT", 30.0),
        ("Tue, 24 Nov 2026 13:00:30 +0100", 30.0),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("-5", None),
        ("١٢", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, expected: float | None) -> None:
    assert retry_after_s({"retry-after": value}, NOW) == expected


@given(st.text())
@example("99 Foo 9999999999")
def test_no_header_breaks_the_client(value: str) -> None:
    seconds = retry_after_s({"retry-after": value, "retry-after-ms": value}, NOW)
    assert seconds is None or seconds >= 0


def test_milliseconds_are_more_exact() -> None:
    assert retry_after_s({"retry-after": "2", "retry-after-ms": "1500"}) == 1.5
    assert retry_after_s({}) is None
