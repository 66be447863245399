"""How fast annotation goes when its models take no time, and whether memory grows.

    python -m benchmarks.speed.annotate_rate [--clips 1000 10000 100000] [--served 2000]
        [--rounds 3]

First with models in this process: every step is taken, decided and written to the disk; only
media and networks are left out. The second run over the same folder finds everything there. Each
number of clips has a process of its own, so that its peak of memory is its own.

Then with a junior behind an instant server in a process of its own, beside a bare loop around the
SDK that reads the same sounds and asks the same: in turns, as many calls at a time. Exit code 1:
the median ratio is below 0.6, fewer than 300 clips a second go through, or memory grows.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import openai

from benchmarks.robustness.annotate_kills import answer, question_of, write_clips
from benchmarks.robustness.llm_server import PRICES, LoopbackServer
from omni2sound.annotate import (
    Caption,
    Crew,
    HandOffRules,
    HeardEvent,
    SourceClip,
    StepStore,
    Thresholds,
    Work,
    annotate,
)
from omni2sound.annotate.chat.agents import ChatJunior
from omni2sound.annotate.chat.answers import CaptionAnswer
from omni2sound.annotate.chat.prompts import load_prompt
from omni2sound.annotate.chat.scripted import ScriptedScorer
from omni2sound.annotate.media import clip_sound, sound_part
from omni2sound.annotate.records import SeniorCaption
from omni2sound.annotate.runs import source_clips
from omni2sound.data.corpora.manifest import read_manifest
from omni2sound.llm import CachedChat, CallStore, Limits, OpenAIEndpoint, Prices
from omni2sound.llm.answers import strict_schema

LOWEST_RATIO, LOWEST_RATE, MOST_GROWTH_MIB = 0.6, 300.0, 64.0
CONCURRENCY = 64

CAPTION = Caption(
    text="A dog barks, then a bell rings.",
    events=(HeardEvent(what="a dog", start_s=1.0), HeardEvent(what="a bell", start_s=2.0)),
)


class Instant:
    identity = "instant"
    lanes = None

    async def caption(self, works: Sequence[Work]) -> AsyncIterator[tuple[int, Caption]]:
        for place in range(len(works)):
            yield place, CAPTION

    async def revise(self, works: Sequence[Work]) -> AsyncIterator[tuple[int, SeniorCaption]]:
        for place in range(len(works)):
            yield place, SeniorCaption(caption=CAPTION, turns=())


class Made(Sequence[SourceClip]):
    """Clips that are made when they are asked for: a manifest of a million would fill memory."""

    def __init__(self, places: range) -> None:
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return Made(self.places[place])
        return SourceClip(name=f"made/{self.places[place]}", audio=Path("no.wav"), video=None)


async def run(folder: Path, count: int) -> int:
    crew = Crew(
        scorer=ScriptedScorer({"scorer": {"*": {"similarity": 0.4, "score": 0.4}}}),
        viewer=None,
        junior=Instant(),  # type: ignore[arg-type]
        senior=Instant(),  # type: ignore[arg-type]
        validator=None,
        thresholds=Thresholds.of("paper"),
        rules=HandOffRules(max_events=1),  # everything goes to the senior
    )
    kept = 0
    with StepStore.open(folder / "steps.sqlite") as store:
        async for journey in annotate(Made(range(count)), crew, store):
            kept += journey.end == "kept"
    return kept


def measure(count: int, pipe: Connection) -> None:
    with tempfile.TemporaryDirectory() as name:
        for attempt in ("first", "again"):
            wall, cpu = time.perf_counter(), time.process_time()
            kept = asyncio.run(run(Path(name), count))
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{count} clips, {attempt}: {kept} kept, {count / wall:.0f} clips/s, "
                f"{count / cpu:.0f} a second of CPU, peak {peak_mib:.0f} MiB",
                flush=True,
            )
            pipe.send((count / wall, peak_mib))


# ---- with a server


def serve(pipe: Connection) -> None:
    async def until_killed() -> None:
        async with LoopbackServer(keep=False, question_of=question_of, answer=answer) as server:
            pipe.send(server.url)
            await asyncio.Event().wait()

    asyncio.run(until_killed())


async def bare(url: str, clips: Sequence[SourceClip]) -> float:
    """Clips a second of a loop that keeps nothing."""
    client = openai.AsyncOpenAI(api_key="-", base_url=url, max_retries=0)
    prompt = load_prompt("junior").text
    schema = {"name": "CaptionAnswer", "schema": strict_schema(CaptionAnswer), "strict": True}

    async def ask(clip: SourceClip) -> None:
        part, _ = sound_part(await asyncio.to_thread(clip_sound, clip))
        sound = {"data": base64.b64encode(part.data).decode(), "format": "wav"}
        reply = await client.chat.completions.create(
            model="loopback",
            messages=[
                {"role": "system", "content": [{"type": "text", "text": prompt}]},
                {
                    "role": "user",
                    "content": [
                        {"type": "input_audio", "input_audio": sound},  # type: ignore[list-item]
                        {"type": "text", "text": "There is no description of the picture."},
                    ],
                },
            ],
            max_completion_tokens=700,
            response_format={"type": "json_schema", "json_schema": schema},  # type: ignore[arg-type]
        )
        CaptionAnswer.model_validate_json(reply.choices[0].message.content or "")

    left = iter(clips)

    async def lane() -> None:
        for clip in left:
            await ask(clip)

    before = time.monotonic()
    await asyncio.gather(*(lane() for _ in range(CONCURRENCY)))
    spent_s = time.monotonic() - before
    await client.close()
    return len(clips) / spent_s


async def annotated(url: str, clips: Sequence[SourceClip], folder: Path) -> float:
    """Clips a second of the whole pipeline with both stores."""
    folder.mkdir()
    (folder / "prices.toml").write_text(PRICES, encoding="utf-8")
    endpoint = OpenAIEndpoint("loopback", base_url=url, key_variable=None)
    with (
        CallStore.open(folder / "calls.sqlite") as calls,
        StepStore.open(folder / "steps.sqlite") as steps,
    ):
        model = CachedChat(
            endpoint,
            store=calls,
            prices=Prices.load(folder / "prices.toml"),
            limits=Limits(concurrency=CONCURRENCY),
        )
        crew = Crew(
            scorer=ScriptedScorer({"scorer": {"*": {"similarity": 0.4, "score": 0.9}}}),
            viewer=None,
            junior=ChatJunior(model, concurrency=CONCURRENCY),
            senior=Instant(),  # type: ignore[arg-type]
            validator=None,
            thresholds=Thresholds.of("paper"),
            rules=HandOffRules(),
        )
        before = time.monotonic()
        kept = sum([j.end == "kept" async for j in annotate(clips, crew, steps)])
        spent_s = time.monotonic() - before
    await endpoint.aclose()
    assert kept == len(clips)
    return len(clips) / spent_s


def served(count: int, rounds: int) -> float:
    """The median ratio of the pipeline's rate to the bare loop's."""
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    ratios = []
    try:
        url = here.recv()
        with tempfile.TemporaryDirectory() as name:
            clips = source_clips(read_manifest(write_clips(Path(name), count)))
            asyncio.run(bare(url, clips[:200]))  # caches
            for number in range(rounds):
                alone = asyncio.run(bare(url, clips))
                ours = asyncio.run(annotated(url, clips, Path(name) / f"run{number}"))
                ratios.append(ours / alone)
                print(
                    f"bare {alone:.0f} clips/s, annotate {ours:.0f}, ratio {ratios[-1]:.2f}",
                    flush=True,
                )
    finally:
        server.kill()
        server.join()
    print(f"median ratio {statistics.median(ratios):.2f}")
    return statistics.median(ratios)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--served", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found = []
    for count in options.clips:
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(count, there))
        process.start()
        found.append(here.recv())
        here.recv()
        process.join()
    good = served(options.served, options.rounds) >= LOWEST_RATIO
    good &= min(rate for rate, _ in found) >= LOWEST_RATE
    good &= found[-1][1] - found[0][1] <= MOST_GROWTH_MIB
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
