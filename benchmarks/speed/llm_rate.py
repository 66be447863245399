"""What do the store, the intents and the limits cost, beside a bare loop around the SDK?

    python -m benchmarks.speed.llm_rate [--calls 2000] [--rounds 3] [--concurrency 64]
        [--long 10000]

Both ask the same server on this machine, which answers at once and runs in a process of its
own: in turns, the same number of calls at a time. The bare loop is the SDK and nothing else; ours
writes an intent before and an answer after each call, each flushed to disk. Then a long
run, and what the process holds in memory along the way. Exit code 1: the ratio is below 0.6.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path

import openai

from benchmarks.robustness.llm_kills import Caption
from benchmarks.robustness.llm_server import PRICES, LoopbackServer
from omni2sound.llm import CachedChat, CallStore, ChatRequest, Limits, OpenAIEndpoint, Prices, user

LOWEST_RATIO = 0.6


def serve(pipe: Connection) -> None:
    async def until_killed() -> None:
        async with LoopbackServer(keep=False) as server:
            pipe.send(server.url)
            await asyncio.Event().wait()

    asyncio.run(until_killed())


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def calls_per_s(
    ask: Callable[[int], Awaitable[object]], items: range, concurrency: int
) -> float:
    left = iter(items)

    async def lane() -> None:
        for item in left:
            await ask(item)

    before = time.monotonic()
    await asyncio.gather(*(lane() for _ in range(concurrency)))
    return len(items) / (time.monotonic() - before)


async def measure(url: str, folder: Path, options: argparse.Namespace) -> float:
    (folder / "prices.toml").write_text(PRICES, encoding="utf-8")
    bare = openai.AsyncOpenAI(api_key="-", base_url=url, max_retries=0)
    endpoint = OpenAIEndpoint("loopback", base_url=url, key_variable=None)
    schema = {"name": "Caption", "schema": Caption.model_json_schema(), "strict": False}

    async def ask_bare(item: int) -> None:
        reply = await bare.chat.completions.create(
            model="loopback",
            messages=[{"role": "user", "content": [{"type": "text", "text": f"item {item}"}]}],
            max_completion_tokens=32,
            response_format={"type": "json_schema", "json_schema": schema},  # type: ignore[arg-type]
        )
        Caption.model_validate_json(reply.choices[0].message.content or "")

    with CallStore.open(folder / "calls.sqlite") as store:
        model = CachedChat(
            endpoint,
            store=store,
            prices=Prices.load(folder / "prices.toml"),
            limits=Limits(concurrency=options.concurrency),
        )

        async def ask_ours(item: int) -> None:
            request = ChatRequest(
                messages=(user(f"item {item}"),),
                prompt_version="rate/1",
                max_output_tokens=32,
                answer=Caption,
            )
            (await model.ask(request)).parsed(Caption)

        await calls_per_s(ask_bare, range(200), options.concurrency)  # connections, caches
        await calls_per_s(ask_ours, range(-200, 0), options.concurrency)
        ratios = []
        for number in range(options.rounds):
            items = range(number * options.calls, (number + 1) * options.calls)
            alone = await calls_per_s(ask_bare, items, options.concurrency)
            ours = await calls_per_s(ask_ours, items, options.concurrency)
            ratios.append(ours / alone)
            print(f"bare {alone:.0f}/s, stored {ours:.0f}/s, ratio {ratios[-1]:.2f}", flush=True)
        ratio = statistics.median(ratios)
        print(f"median ratio {ratio:.2f}")
        done = options.rounds * options.calls
        again = await calls_per_s(ask_ours, range(done), options.concurrency)
        print(f"from the store: {again:.0f}/s")
        for part in range(10):
            start = done + part * options.long // 10
            await calls_per_s(
                ask_ours, range(start, done + (part + 1) * options.long // 10), options.concurrency
            )
            calls = (part + 1) * options.long // 10
            print(f"after {calls} calls more: {resident_mib():.1f} MiB", flush=True)
        size = sum(path.stat().st_size for path in folder.glob("calls.sqlite*") if path.is_file())
        print(f"store: {size / (done + options.long + 200):.0f} bytes a call")
    await bare.close()
    await endpoint.aclose()
    return ratio


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--long", type=int, default=10000)
    options = parser.parse_args()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            ratio = asyncio.run(measure(here.recv(), Path(folder), options))
    finally:
        server.kill()
        server.join()
    return 0 if ratio >= LOWEST_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
