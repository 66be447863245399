"""How fast annotation goes when its models take no time, and whether memory grows.

    python benchmarks/annotate_rate.py [--clips 1000 10000]

Every step is taken, decided and written to the disk; only media and networks are left out. The
second run over the same folder finds everything there. Each number of clips has a process of its
own, so that its peak of memory is its own.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

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
from omni2sound.annotate.records import SeniorCaption
from omni2sound.annotate.scripted import ScriptedScorer

CAPTION = Caption(
    text="A dog barks, then a bell rings.",
    events=(HeardEvent(what="a dog", start_s=1.0), HeardEvent(what="a bell", start_s=2.0)),
)


class Instant:
    identity = "instant"

    async def caption(self, works: Sequence[Work]) -> AsyncIterator[tuple[int, Caption]]:
        for place in range(len(works)):
            yield place, CAPTION

    async def revise(self, works: Sequence[Work]) -> AsyncIterator[tuple[int, SeniorCaption]]:
        for place in range(len(works)):
            yield place, SeniorCaption(caption=CAPTION, turns=())


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
    clips = [
        SourceClip(name=f"made/{i}", audio=folder / "no.wav", video=None) for i in range(count)
    ]
    with StepStore.open(folder / "steps.sqlite") as store:
        return sum([journey.end == "kept" async for journey in annotate(clips, crew, store)])


def measure(count: int) -> None:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    for count in parser.parse_args().clips:
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(count,))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
