"""Do a server that sees and one that hears work at the same time?

    python -m benchmarks.speed.two_servers [--clips 500] [--delay 0.5] [--concurrency 16]

Clips with pictures go through all steps; scores are scripted. One double is viewer, the other
junior and validator, each takes `--delay` seconds a call. Printed is the share of the time between
the first call and the last in which each has a call under way, calls by role, and answers that were
bought twice. Exit code 1: a server is busy less than .8 of the time, or an answer was bought twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.robustness.annotate_kills import answer, question_of, write_clips
from benchmarks.robustness.server_doubles import Said, ServerDouble


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the servers saw."""

    took_s: float
    busy: tuple[float, float]
    """Share of the time in which the seeing and the hearing server had a call under way."""
    overlap: float
    """Share of the viewer's calls that began after the hearing server's first call had ended."""
    calls: Counter[str]
    bought_twice: int
    ends: Counter[str]


def say(body: dict[str, Any]) -> Said:
    """Answer as the tests' models do."""
    return Said(text=answer(question_of(body)))


async def measure(folder: Path, clips: int, delay_s: float, concurrency: int) -> Measured:
    """Annotate `clips` clips with two servers."""
    from omni2sound.annotate import HandOffRules, StepStore, Thresholds, annotate
    from omni2sound.annotate.build import Crew
    from omni2sound.annotate.chat.agents import (
        ChatJunior,
        ChatSenior,
        ChatValidator,
        ChatViewer,
    )
    from omni2sound.annotate.chat.models import ChatOptions, chat_models
    from omni2sound.annotate.chat.scripted import ScriptedScorer
    from omni2sound.annotate.runs import source_clips
    from omni2sound.data.corpora.manifest import read_manifest
    from omni2sound.llm import CallStore

    manifest = read_manifest(write_clips(folder, clips, pictured=1))
    script = {"scorer": {"*": {"similarity": 0.4, "score": 0.5}}}
    async with (
        ServerDouble("vllm", say, delay_s=delay_s, role_of=_role) as sees,
        ServerDouble("vllm", say, delay_s=delay_s, role_of=_role) as hears,
    ):
        from contextlib import AsyncExitStack

        with (
            CallStore.open(folder / "calls.sqlite") as calls,
            StepStore.open(folder / "steps.sqlite") as store,
        ):
            async with AsyncExitStack() as stack:
                names = {
                    "vision": f"sees@{sees.url}",
                    **dict.fromkeys(("junior", "senior", "validator"), f"hears@{hears.url}"),
                }
                options = ChatOptions(concurrency=concurrency)
                models = chat_models(names, options, calls=calls, stack=stack)
                many = {"concurrency": concurrency}
                crew = Crew(
                    scorer=ScriptedScorer(script),
                    viewer=ChatViewer(models["vision"], **many),
                    junior=ChatJunior(models["junior"], **many),
                    senior=ChatSenior(models["senior"], **many),
                    validator=ChatValidator(models["validator"], **many),
                    thresholds=Thresholds.of("paper"),
                    rules=HandOffRules(),
                )
                start_s = time.monotonic()
                sources = source_clips(manifest)
                ends = Counter([str(j.end) async for j in annotate(sources, crew, store)])
                took_s = time.monotonic() - start_s
    every = [*sees.calls, *hears.calls]
    span_s = max(c.end_s for c in every) - min(c.start_s for c in every)
    bodies = Counter(json.dumps(c.body, sort_keys=True) for c in every if c.billed)
    return Measured(
        took_s=took_s,
        busy=(sees.busy_s() / span_s, hears.busy_s() / span_s),
        overlap=sum(c.start_s > min(h.end_s for h in hears.calls) for c in sees.calls)
        / len(sees.calls),
        calls=Counter(c.role for c in every),
        bought_twice=sum(count - 1 for count in bodies.values()),
        ends=ends,
    )


def _role(body: dict[str, Any]) -> str:
    return question_of(body).partition(":")[0]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=500)
    parser.add_argument("--delay", type=float, default=0.5)
    parser.add_argument("--concurrency", type=int, default=16)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(
            measure(Path(folder), options.clips, options.delay, options.concurrency)
        )
    print(f"{options.clips} clips in {found.took_s:.1f} s: {dict(found.ends)}")
    print(f"busy: sees {found.busy[0]:.2f}, hears {found.busy[1]:.2f} of the time")
    print(f"calls: {dict(found.calls)}; answers bought twice: {found.bought_twice}")
    sys.exit(min(found.busy) < 0.8 or found.bought_twice > 0)


if __name__ == "__main__":
    main()
