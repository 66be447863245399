"""Is every question answered once, and every cent accounted for, if the process keeps dying?

    python -m benchmarks.robustness.llm_kills [--items 2000] [--kills 50] [--concurrency 16]

A process asks a misbehaving server (`llm_server.py`) one question an item, and is killed
(SIGKILL) again and again: half of the times when a random number of requests has come in, half
in the moment in which a reply has left the server and can't be committed yet. Then the run is
finished, and once more started when there is nothing left to do. A second store has a budget
that ends before the items do. Prints what the server saw beside what the store says; the
exit code is 1 if one of the promises is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sqlite3
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel

from benchmarks.robustness.llm_server import EVERYTHING, PRICES, LoopbackServer, Seen
from omni2sound.errors import BudgetExceeded, ModelCallError
from omni2sound.llm import (
    CachedChat,
    CallStore,
    ChatRequest,
    Limits,
    OpenAIEndpoint,
    Prices,
    Retry,
    system,
    user,
)

ROOT = Path(__file__).parents[2]
KEY_VARIABLE, KEY = "OMNI2SOUND_BENCHMARK_KEY", "sk-benchmark-0123456789"
OUT_OF_BUDGET = 3
GOOD = {"none", "slow", "no_usage"}
"""What the server calls replies that answer the question."""
MAX_REFUSED, MAX_MALFORMED = 1, 4


class Caption(BaseModel):
    caption: str


def request(item: int) -> ChatRequest:
    return ChatRequest(
        messages=(system("You describe sounds in one sentence."), user(f"item {item}")),
        prompt_version="kills/1",
        max_output_tokens=32,
        answer=Caption,
        label=f"item {item}",
    )


# ---- the process that dies


async def work(url: str, folder: Path, items: int, concurrency: int, budget: Decimal | None) -> int:
    with CallStore.open(folder / "calls.sqlite", budget_usd=budget) as store:
        endpoint = OpenAIEndpoint(
            "loopback", base_url=url, key_variable=KEY_VARIABLE, timeout_s=2.0
        )
        model = CachedChat(
            endpoint,
            store=store,
            prices=Prices.load(folder / "prices.toml"),
            limits=Limits(concurrency=concurrency),
            retry=Retry(first_wait_s=0.02),
            max_refused=MAX_REFUSED,
            max_malformed=MAX_MALFORMED,
        )
        left = iter(range(items))
        out_of_budget = False

        async def lane() -> None:
            nonlocal out_of_budget
            for item in left:
                try:
                    await model.ask(request(item))
                except ModelCallError:
                    pass  # the item has ended: refused, or malformed too often
                except BudgetExceeded:
                    out_of_budget = True
                    return

        await asyncio.gather(*(lane() for _ in range(concurrency)))
        await endpoint.aclose()
    return OUT_OF_BUDGET if out_of_budget else 0


# ---- the one that kills it


@dataclass(frozen=True, kw_only=True)
class Victim:
    """What is killed, and how to read what it leaves behind."""

    start: Callable[[str], Awaitable[Process]]
    """From the server's URL; goes on where the last one was."""
    store: Path
    """Its call store."""
    question_in: Callable[[str], str]
    """From the text of a good answer to the question that it answers."""
    ends: Callable[[], Counter[str]]
    """Items by how they ended; "none" and "twice" must not occur."""
    done: Collection[int] = (0,)
    """Exit codes of a run that came to its end."""
    out_of_budget: int = OUT_OF_BUDGET
    """Exit code of one that has spent its budget."""


@dataclass
class Report:
    """What the server saw, and what the store says."""

    num_items: int
    num_kills: int = 0
    kills_after_reply: int = 0
    """Kills with a reply delivered and not committed."""
    in_flight: list[int] = field(default_factory=list)
    """Open sends at each kill."""
    asked_again: int = 0
    """Requests for questions whose answer had been committed."""
    bought_twice: int = 0
    """Good answers beyond the first, by question."""
    outside: int = 0
    """Moments at which the server's bill lay outside of what the store knew."""
    ends: Counter[str] = field(default_factory=Counter)
    """Items by how they ended; "none" and "twice" must not occur."""
    idle_requests: int = 0
    """Sent by a run that had nothing left to do."""
    num_requests: int = 0
    billed_usd: Decimal = Decimal(0)
    known_usd: Decimal = Decimal(0)
    uncertain_usd: Decimal = Decimal(0)
    budget_usd: Decimal | None = None
    dearest_call_usd: Decimal = Decimal(0)
    came_to_its_end: bool = False
    ran_out_of_budget: bool = False

    def broken(self) -> list[str]:
        """The promises that do not hold."""
        promises = {
            "the kills happened": self.num_kills == len(self.in_flight) > 0,
            "no committed answer was asked for again": self.asked_again == 0,
            "answers bought twice are at most those in flight at kills": self.bought_twice
            <= sum(self.in_flight),
            "the bill lies inside of [known, known + uncertain]": self.outside == 0,
            "no item ended twice": self.ends["twice"] == 0,
            "a run with nothing to do sends nothing": self.idle_requests == 0,
        }
        if self.budget_usd is None:
            promises["some kills lie between a reply and its commit"] = self.kills_after_reply > 0
            promises["every item ended"] = (
                self.ends["none"] == 0
                and self.ends.total() == self.num_items
                and self.came_to_its_end
            )
        else:
            most = self.budget_usd + max(self.in_flight, default=0) * self.dearest_call_usd
            promises["the budget is exceeded by the calls in flight at most"] = (
                self.billed_usd <= most
            )
            promises["the budget was reached"] = self.ran_out_of_budget
        return [promise for promise, holds in promises.items() if not holds]


async def kill_and_finish(
    victim: Victim,
    server: LoopbackServer,
    *,
    items: int,
    kills: int,
    spread: int,
    seed: int = 0,
    budget: Decimal | None = None,
) -> Report:
    """Kill a run `kills` times, then let it finish.

    Args:
        victim: Who dies.
        server: Who is asked; it listens already.
        items: What the run has to bring to an end.
        kills: How often.
        spread: A kill comes after at most so many further requests.
        seed: Of the moments.
        budget: Of the run's store.
    """
    draw = random.Random(seed)
    report = Report(num_items=items, budget_usd=budget)
    committed: dict[str, int] = {}

    def look() -> None:
        db = sqlite3.connect(victim.store)
        known, uncertain = db.execute(
            "SELECT ifnull(sum(known_pusd), 0), ifnull(sum(uncertain_pusd), 0) FROM attempt"
        ).fetchone()
        report.outside += not known <= server.billed_pusd <= known + uncertain
        report.known_usd = Decimal(known).scaleb(-12)
        report.uncertain_usd = Decimal(uncertain).scaleb(-12)
        for (answer,) in db.execute("SELECT answer FROM call WHERE answer IS NOT NULL"):
            question = victim.question_in(json.loads(answer)["text"])
            committed.setdefault(question, server.num_asked[question])
        (open_sends,) = db.execute("SELECT count(*) FROM attempt WHERE state = 'sent'").fetchone()
        db.close()
        report.in_flight.append(open_sends)

    while report.num_kills < kills:
        process = await victim.start(server.url)
        first = len(server.seen)
        threshold = server.num_requests + draw.randint(1, spread)
        if draw.random() < 0.5:

            def strike(seen: Seen, process: Process = process, threshold: int = threshold) -> None:
                if server.num_requests >= threshold and process.returncode is None:
                    process.kill()

            server.after_reply = strike
        else:
            while server.num_requests < threshold and process.returncode is None:
                await asyncio.sleep(0.001)
            await asyncio.sleep(draw.uniform(0, 0.03))
            if process.returncode is None:
                process.kill()
        code = await process.wait()
        server.after_reply = lambda seen: None
        await asyncio.sleep(0.05)  # what the dead had sent arrives, and is billed
        if code >= 0:  # it ended before its time: nothing left to kill
            break
        report.num_kills += 1
        look()
        report.kills_after_reply += any(
            seen.complete and seen.fault in GOOD and seen.question not in committed
            for seen in server.seen[first:]
        )

    code = await (await victim.start(server.url)).wait()
    report.came_to_its_end = code in victim.done
    report.ran_out_of_budget = code == victim.out_of_budget
    look()
    del report.in_flight[-1]  # nobody was killed
    report.num_requests = server.num_requests
    again = await (await victim.start(server.url)).wait()
    assert again == code, f"exit codes {code} and {again}"
    report.idle_requests = server.num_requests - report.num_requests
    report.asked_again = sum(server.num_asked[question] - n for question, n in committed.items())
    good = Counter(seen.question for seen in server.seen if seen.fault in GOOD and seen.complete)
    report.bought_twice = sum(n - 1 for n in good.values())
    report.billed_usd = Decimal(server.billed_pusd).scaleb(-12)
    report.dearest_call_usd = Decimal(max(seen.billed_pusd for seen in server.seen)).scaleb(-12)
    report.ends = victim.ends()
    return report


async def start_process(
    *argv: str, log: BinaryIO | None = None, python: Sequence[str] = (sys.executable,)
) -> Process:
    """This Python, with our code and a key in the environment."""
    paths = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
    return await asyncio.create_subprocess_exec(
        *python,
        *argv,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths, KEY_VARIABLE: KEY},
        stdout=log,
        stderr=log,
    )


async def run_of_questions(
    folder: Path,
    *,
    items: int,
    kills: int,
    concurrency: int,
    seed: int = 0,
    budget: Decimal | None = None,
    spread: int | None = None,
) -> Report:
    """Kill a run that asks one question an item; `spread` as in `kill_and_finish`."""
    (folder / "prices.toml").write_text(PRICES, encoding="utf-8")
    limit = "" if budget is None else str(budget)
    store = folder / "calls.sqlite"
    victim = Victim(
        start=lambda url: start_process(
            *("-m", "benchmarks.robustness.llm_kills", "--work"),
            *(url, str(folder), str(items), str(concurrency), limit),
        ),
        store=store,
        question_in=lambda text: str(json.loads(text)["caption"].removeprefix("about ")),
        ends=lambda: _ends(store, items),
    )
    async with LoopbackServer(faults=EVERYTHING, seed=seed) as server:
        return await kill_and_finish(
            victim,
            server,
            items=items,
            kills=kills,
            spread=spread or max(4, 3 * items // (2 * kills)),
            seed=seed,
            budget=budget,
        )


def _ends(path: Path, items: int) -> Counter[str]:
    db = sqlite3.connect(path)
    rows = db.execute(
        "SELECT answer IS NOT NULL, num_refused >= ?, num_malformed >= ?,"
        " (SELECT count(*) FROM attempt WHERE attempt.key = call.key AND state = 'answered')"
        " FROM call",
        (MAX_REFUSED, MAX_MALFORMED),
    ).fetchall()
    db.close()
    ends: Counter[str] = Counter()
    for answered, refused, malformed, num_answers in rows:
        if answered + refused + malformed > 1 or num_answers != answered:
            ends["twice"] += 1
        else:
            ends[
                "answered"
                if answered
                else "refused"
                if refused
                else "malformed"
                if malformed
                else "none"
            ] += 1
    ends["none"] += items - len(rows)
    return ends


def print_report(title: str, report: Report, wall_s: float) -> None:
    print(f"{title}, {wall_s:.0f} s")
    print(
        f"  killed {report.num_kills} times, {report.kills_after_reply} of them with a reply "
        f"delivered and not committed; in flight at kills: {sum(report.in_flight)} "
        f"(at most {max(report.in_flight, default=0)})"
    )
    print(f"  {report.num_requests} requests; ends of items: {dict(report.ends)}")
    print(
        f"  asked again after the answer was committed: {report.asked_again}; "
        f"answers bought twice: {report.bought_twice}; sent with nothing to do: "
        f"{report.idle_requests}"
    )
    print(
        f"  billed {report.billed_usd:f} USD, store says [{report.known_usd:f}, "
        f"{report.known_usd + report.uncertain_usd:f}]; moments outside: {report.outside}"
    )
    if report.budget_usd is not None:
        print(f"  budget {report.budget_usd:f} USD, reached: {report.ran_out_of_budget}")
    for promise in report.broken():
        print(f"  BROKEN: {promise}")


def main() -> int:
    if sys.argv[1:2] == ["--work"]:
        url, folder, items, concurrency, budget = sys.argv[2:]
        limit = Decimal(budget) if budget else None
        return asyncio.run(work(url, Path(folder), int(items), int(concurrency), limit))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    broken = 0
    fifth, few = max(1, options.items // 5), max(1, options.kills // 12)
    # A call costs about $0.00006 and is booked with $0.001, which is what each fault, and a kill
    # for each call in flight, leaves behind: enough for about half of the items.
    budget = Decimal("0.0001") * fifth + Decimal("0.0005") * few * options.concurrency
    for title, items, kills, limit, spread in (
        ("to the end", options.items, options.kills, None, None),
        ("with a budget", fifth, few, budget, max(4, fifth // (4 * few))),
    ):
        with tempfile.TemporaryDirectory() as folder:
            before = time.monotonic()
            report = asyncio.run(
                run_of_questions(
                    Path(folder),
                    items=items,
                    kills=kills,
                    concurrency=options.concurrency,
                    seed=options.seed,
                    budget=limit,
                    spread=spread,
                )
            )
            print_report(title, report, time.monotonic() - before)
            broken += len(report.broken())
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
