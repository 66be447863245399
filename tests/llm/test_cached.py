"""Asking through the store: each answer is paid once, and every way out is booked."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from benchmarks.robustness.llm_server import EVERYTHING, LoopbackServer
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
from omni2sound.llm import (
    CachedChat,
    CallStore,
    ChatReply,
    ChatRequest,
    Limits,
    OpenAIEndpoint,
    Prices,
    Retry,
    SendFailed,
    Usage,
)
from omni2sound.llm.servers.health import raised_tokens
from tests.llm.questions import (
    COST_USD,
    MODEL,
    USAGE,
    Caption,
    Script,
    failed,
    good,
    prices,
    question,
)

BAD = ChatReply(text="no JSON", usage=USAGE)
CUT = ChatReply(text='{"caption": "a bell"}', usage=USAGE, finish="length")
NO = ChatReply(text="", usage=USAGE, refusal="I can't")


async def at_once(duration_s: float) -> None:
    await asyncio.sleep(0)


def asked(
    folder: Path,
    script: Script,
    ask: Callable[[CachedChat], Awaitable[Any]],
    budget: str | None = None,
    **options: Any,
) -> tuple[Any, dict[str, int], Decimal, Decimal]:
    """The result or error of `ask`, sends by how they ended, known and uncertain spend."""

    async def main() -> Any:
        with CallStore.open(
            folder / "c.sqlite", budget_usd=None if budget is None else Decimal(budget)
        ) as store:
            model = CachedChat(script, store=store, prices=prices(folder), sleep=at_once, **options)
            result: Any
            try:
                result = await ask(model)
            except (ModelCallError, UserError, BudgetExceeded) as error:
                result = error
            spend = store.spend()
            ends = {total.state: total.num for total in store.totals()}
            return result, ends, spend.known_usd, spend.uncertain_usd

    return asyncio.run(main())  # type: ignore[no-any-return]


async def once(model: CachedChat) -> ChatReply:
    return await model.ask(question())


def test_an_answer_is_bought_once(tmp_path: Path) -> None:
    script = Script([good()])
    first = asked(tmp_path, script, once)
    second = asked(tmp_path, script, once)
    assert first[0].parsed(Caption) == second[0].parsed(Caption) == Caption(caption="a bell")
    assert (first[0].from_store, second[0].from_store) == (False, True)
    assert script.num_sent == 1
    assert first[1:] == second[1:] == ({"answered": 1}, Decimal(COST_USD), 0)


def test_who_asks_the_same_at_the_same_time_shares_one_send(tmp_path: Path) -> None:
    async def slowly() -> ChatReply:
        await asyncio.sleep(0.05)
        return good()

    script = Script([slowly])

    async def together(model: CachedChat) -> list[ChatReply]:
        return await asyncio.gather(*(model.ask(question()) for _ in range(10)))

    replies, ends, *_ = asked(tmp_path, script, together)
    assert script.num_sent == 1 and ends == {"answered": 1}
    assert Counter(reply.from_store for reply in replies) == {True: 9, False: 1}


def test_two_takes_are_two_answers(tmp_path: Path) -> None:
    script = Script([good("first"), good("second")])

    async def twice(model: CachedChat) -> list[str]:
        return [(await model.ask(question(take=n))).parsed(Caption).caption for n in range(2)]

    assert asked(tmp_path, script, twice)[0] == ["first", "second"]


@pytest.mark.parametrize("bad", [BAD, ChatReply(text=" ", usage=USAGE)])
def test_malformed_replies_are_asked_again_and_paid(tmp_path: Path, bad: ChatReply) -> None:
    reply, ends, known, _ = asked(tmp_path, Script([bad, bad, good()]), once)
    assert isinstance(reply, ChatReply)
    assert ends == {"malformed": 2, "answered": 1}
    assert known == 3 * Decimal(COST_USD)


class Capped(Script):
    """Remembers the limit of tokens of each send."""

    def __init__(self, steps: Any) -> None:
        super().__init__(steps)
        self.caps: list[int] = []

    async def send(self, request: ChatRequest) -> ChatReply:
        self.caps.append(request.max_output_tokens)
        return await super().send(request)


def test_a_cut_reply_raises_the_limit_once_over_all_runs(tmp_path: Path) -> None:
    script = Capped([CUT, good()])
    reply, ends, *_ = asked(tmp_path, script, once)
    assert isinstance(reply, ChatReply) and ends == {"malformed": 1, "answered": 1}
    assert script.caps == [20, raised_tokens(20)]
    script = Capped([CUT])
    for _ in range(2):
        error, *_ = asked(tmp_path, script, lambda model: model.ask(question("another")))
        assert isinstance(error, CutOff) and "with more tokens too" in str(error)
    assert len(script.caps) == 2


def test_a_limit_that_is_mostly_too_low_starts_raised(tmp_path: Path) -> None:
    script = Capped([CUT, good()] * 3 + [good()])

    async def ten(model: CachedChat) -> None:
        for take in range(10):
            await model.ask(question(take=take))

    asked(tmp_path, script, ten)
    assert script.caps == [20, raised_tokens(20)] * 3 + [raised_tokens(20)] * 7


def test_replies_that_are_mostly_cut_end_the_run(tmp_path: Path) -> None:
    async def hundred(model: CachedChat) -> None:
        for take in range(100):
            with contextlib.suppress(CutOff):
                await model.ask(question(take=take))

    script = Script([CUT])
    error, *_ = asked(tmp_path, script, hundred)
    assert isinstance(error, UserError) and "50 of the first 50 replies were cut off" in str(error)
    assert script.num_sent == 50


def _rejected(reason: str = "status 400: too many images") -> SendFailed:
    return SendFailed(reason, maybe_billed=False, transient=False, of_request=True)


def test_a_request_that_is_rejected_fails_alone(tmp_path: Path) -> None:
    script = Script([good(), *[_rejected()] * 20, good()])

    async def many(model: CachedChat) -> Counter[str]:
        results = [
            await asyncio.gather(model.ask(question(take=take)), return_exceptions=True)
            for take in range(22)
        ]
        return Counter(type(result).__name__ for (result,) in results)

    assert asked(tmp_path, script, many)[0] == {"ChatReply": 2, "Rejected": 20}


def test_first_calls_that_fail_alike_end_the_run_and_others_do_not(tmp_path: Path) -> None:
    async def many(model: CachedChat) -> int:
        for take in range(30):
            with contextlib.suppress(Rejected):
                await model.ask(question(take=take))
        return 30

    error, ends, *_ = asked(
        tmp_path, Script([_rejected(f"status 400: {n}") for n in range(30)]), many
    )
    assert isinstance(error, UserError) and "first 8 calls were all rejected" in str(error)
    assert ends == {"rejected": 8}
    folder = tmp_path / "various"
    folder.mkdir()
    kinds = [_rejected(f"status 400: {'abc'[n % 3]}") for n in range(20)]
    assert asked(folder, Script([*kinds, good()]), many)[0] == 30


def test_a_key_that_expires_leaves_the_clip_to_a_later_run(tmp_path: Path) -> None:
    async def two(model: CachedChat) -> ChatReply:
        await model.ask(question())
        return await model.ask(question(take=1))

    error, *_ = asked(tmp_path, Script([good(), failed(transient=False)]), two)
    assert isinstance(error, Unavailable)


def test_malformed_replies_are_asked_again_only_so_often_in_all_runs(tmp_path: Path) -> None:
    script = Script([BAD])
    error, ends, *_ = asked(tmp_path, script, once, max_malformed=2)
    assert isinstance(error, Malformed) and "no JSON" in str(error)
    assert ends == {"malformed": 2}
    assert isinstance(asked(tmp_path, script, once, max_malformed=2)[0], Malformed)
    assert script.num_sent == 2
    asked(tmp_path, script, once, max_malformed=3)
    assert script.num_sent == 3


def test_a_refusal_is_no_answer_and_is_asked_again_by_a_later_run(tmp_path: Path) -> None:
    script = Script([NO, good()])
    error, ends, known, _ = asked(tmp_path, script, once)
    assert isinstance(error, Refused) and "I can't" in str(error)
    assert (ends, known) == ({"refused": 1}, Decimal(COST_USD))
    reply, ends, *_ = asked(tmp_path, script, once)
    assert isinstance(reply, ChatReply) and ends == {"answered": 1, "refused": 1}


def test_refusals_too_have_an_end(tmp_path: Path) -> None:
    script = Script([NO])
    for _ in range(4):
        assert isinstance(asked(tmp_path, script, once, max_refused=2)[0], Refused)
    assert script.num_sent == 2


def test_every_failed_send_is_booked_by_what_it_may_have_cost(tmp_path: Path) -> None:
    script = Script([failed(), failed(billed=True), failed(after=3.0), good()])
    reply, ends, known, uncertain = asked(tmp_path, script, once)
    assert isinstance(reply, ChatReply)
    assert ends == {"rejected": 2, "lost": 1, "answered": 1}
    assert known == Decimal(COST_USD) and uncertain > 0


def test_patience_ends_in_one_line(tmp_path: Path) -> None:
    error, ends, *_ = asked(tmp_path, Script([failed()]), once, retry=Retry(max_sends=3))
    assert isinstance(error, Unavailable) and "down" in str(error)
    assert ends == {"rejected": 3}


def test_what_can_only_fail_is_the_users_to_mend(tmp_path: Path) -> None:
    error, ends, *_ = asked(tmp_path, Script([failed(transient=False)]), once)
    assert isinstance(error, UserError) and "check the model's name" in str(error)
    assert ends == {"rejected": 1}


@pytest.mark.parametrize(
    "end", [asyncio.CancelledError(), KeyboardInterrupt(), ZeroDivisionError()]
)
def test_no_way_out_leaves_a_send_unsettled(tmp_path: Path, end: BaseException) -> None:
    async def main() -> tuple[list[str], Decimal]:
        with CallStore.open(tmp_path / "c.sqlite") as store:
            model = CachedChat(Script([end]), store=store, prices=prices(tmp_path))
            with pytest.raises(type(end)):
                await model.ask(question())
            store._writer.submit(lambda db: None).result()
            return [total.state for total in store.totals()], store.spend().uncertain_usd

    try:
        states, uncertain = asyncio.run(main())
    except KeyboardInterrupt:  # asyncio.run hands this one on whatever the task makes of it
        with CallStore.open(tmp_path / "c.sqlite") as store:
            states = [total.state for total in store.totals()]
            uncertain = store.spend().uncertain_usd
    assert states == ["lost"] and uncertain > 0


def test_a_question_that_is_given_up_before_it_is_sent_costs_nothing(tmp_path: Path) -> None:
    """Cancelled at every step of the way; whatever was not sent is not booked."""

    async def main() -> None:
        with CallStore.open(tmp_path / "c.sqlite") as store:
            script = Script([good()])
            model = CachedChat(script, store=store, prices=prices(tmp_path))
            for steps in range(12):
                before = script.num_sent
                task = asyncio.create_task(model.ask(question(take=steps)))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                store._writer.submit(lambda db: None).result()
                await asyncio.sleep(0.01)
                store._writer.submit(lambda db: None).result()
                states = {total.state: total.num for total in store.totals()}
                assert "sent" not in states
                if script.num_sent == before:
                    assert store.spend().uncertain_usd == 0

    asyncio.run(main())


def test_a_reply_without_tokens_stays_uncertain(tmp_path: Path) -> None:
    script = Script([ChatReply(text='{"caption": "x"}')])
    reply, ends, known, uncertain = asked(tmp_path, script, once)
    assert isinstance(reply, ChatReply) and ends == {"answered": 1}
    assert known == 0 and uncertain > 0


def test_without_a_price_there_is_no_budget_and_no_invented_cost(tmp_path: Path) -> None:
    with (
        CallStore.open(tmp_path / "a.sqlite", budget_usd=Decimal(1)) as store,
        pytest.raises(UserError, match="no known price"),
    ):
        CachedChat(Script([good()]), store=store, prices=Prices({}))

    async def main() -> None:
        with CallStore.open(tmp_path / "b.sqlite") as store:
            await CachedChat(Script([good()]), store=store, prices=Prices({})).ask(question())
            spend = store.spend()
            assert (spend.known_usd, spend.uncertain_usd, spend.num_unpriced) == (0, 0, 1)

    asyncio.run(main())


def test_a_budget_waits_for_what_is_in_flight_and_is_used_up(tmp_path: Path) -> None:
    """Booked at four times the cost: without the wait three of four answers would be missed."""

    async def slowly() -> ChatReply:
        await asyncio.sleep(0.002)
        return ChatReply(text='{"caption": "x"}', usage=Usage(input_tokens=10, output_tokens=2))

    script = Script([slowly])
    cost = Decimal("0.000036")

    async def many(model: CachedChat) -> Counter[str]:
        results = await asyncio.gather(
            *(model.ask(question(take=n)) for n in range(120)), return_exceptions=True
        )
        return Counter(type(result).__name__ for result in results)

    results, ends, known, uncertain = asked(tmp_path, script, many, budget="0.003")
    assert set(results) == {"ChatReply", "BudgetExceeded"}
    assert known + uncertain <= Decimal("0.003")
    assert known == ends["answered"] * cost
    booked = prices(tmp_path).of(MODEL)
    assert booked is not None
    most = booked.before(question())
    assert most is not None
    assert known + most.at_most_usd > Decimal("0.003"), "more would have fitted"


def test_a_slower_process_waits_for_the_answer_of_the_faster(tmp_path: Path) -> None:
    """Two stores on one file are what two processes are."""

    async def slowly() -> ChatReply:
        await asyncio.sleep(0.2)
        return good()

    async def main() -> None:
        with (
            CallStore.open(tmp_path / "c.sqlite") as one,
            CallStore.open(tmp_path / "c.sqlite") as two,
        ):
            script, idle = Script([slowly]), Script([slowly])
            faster = CachedChat(script, store=one, prices=prices(tmp_path))
            slower = CachedChat(idle, store=two, prices=prices(tmp_path))
            first = asyncio.create_task(faster.ask(question()))
            await asyncio.sleep(0.1)
            reply = await slower.ask(question())
            assert reply.from_store and reply.text == (await first).text
            assert (script.num_sent, idle.num_sent) == (1, 0)

    asyncio.run(main())


def test_a_server_with_every_fault_is_survived_and_its_bill_is_known(tmp_path: Path) -> None:
    async def main() -> None:
        async with LoopbackServer(faults=EVERYTHING, seed=1) as server:
            with CallStore.open(tmp_path / "c.sqlite") as store:
                endpoint = OpenAIEndpoint(
                    "loopback", base_url=server.url, key_variable=None, timeout_s=1.0
                )
                model = CachedChat(
                    endpoint,
                    store=store,
                    prices=prices(tmp_path),
                    limits=Limits(concurrency=8),
                    retry=Retry(first_wait_s=0.01),
                )
                results = await asyncio.gather(
                    *(model.ask(question(f"clip {n}")) for n in range(120)),
                    return_exceptions=True,
                )
                await endpoint.aclose()
                ends = Counter(type(result).__name__ for result in results)
                assert set(ends) <= {"ChatReply", "Refused"} and ends["ChatReply"] > 100
                spend = store.spend()
                billed = Decimal(server.billed_pusd).scaleb(-12)
                assert spend.known_usd <= billed <= spend.at_most_usd
                assert server.most_in_flight <= 8
                assert {seen.fault for seen in server.seen} > {"none", "busy", "cut", "slow"}
                assert sum(total.num for total in store.totals()) == server.num_requests

    asyncio.run(main())
