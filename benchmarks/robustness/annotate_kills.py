"""Does every clip end once, and is nothing bought twice, if `annotate run` keeps dying?

    python -m benchmarks.robustness.annotate_kills [--clips 2000] [--kills 50] [--concurrency 16]

`omni2sound annotate run` sends tiny clips, some of them with pictures, through every step: a
local scorer, and a misbehaving server (`llm_server.py`) as viewer, junior, senior and validator.
It is killed (SIGKILL) as in `llm_kills.py`, half of the times between a reply and its commit.
Then the run is finished, exported, and started once more with nothing left to do; another run
has a budget that ends too early. The server's errors and replies repeat the API key: it must
be in no file. Printed are also the price of this run and of one with the senior for all.
Exit code 1: a promise is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.robustness.llm_kills import (
    KEY,
    KEY_VARIABLE,
    Report,
    Victim,
    kill_and_finish,
    print_report,
    start_process,
)
from benchmarks.robustness.llm_server import EVERYTHING, PRICES, LoopbackServer
from omni2sound.annotate.report.status import costs_of
from omni2sound.data.corpora.manifest import Clip, write_manifest
from tests.media.clips import write_video

NUM_VIDEOS = 8
"""Different pictures; every fourth clip has one of them."""
CLIP_S = 0.25
BUDGET_ENDED = 2
"""Exit code of the command line for a budget that is used up."""


# ---- clips


def write_clips(folder: Path, count: int, *, pictured: int = 4) -> Path:
    """Sounds that all differ, so that each clip is a question of its own; their manifest.

    Args:
        folder: For the files.
        count: Number of clips.
        pictured: Every so many clips have one of `NUM_VIDEOS` pictures; at 1 each has its own.
    """
    num_videos = count if pictured == 1 else NUM_VIDEOS
    for number in range(num_videos):
        picture = np.full((32, 48, 3), (25 * number + 20) % 256, np.uint8)
        picture[:, 24:] = 40 * (number // 256)
        write_video(
            folder / f"v{number}.mp4",
            ticks=range(0, 300, 75),
            picture=lambda _, picture=picture: picture,  # type: ignore[misc]
        )
    rng = np.random.default_rng(0)
    clips = []
    for number in range(count):
        noise = 0.2 * rng.standard_normal(round(CLIP_S * 16_000))
        soundfile.write(folder / f"s{number}.wav", noise, 16_000, subtype="PCM_16")
        clips.append(
            Clip(
                clip_id=f"c{number}",
                corpus="tiny",
                split="train",
                audio=f"s{number}.wav",
                video=f"v{number // pictured % num_videos}.mp4" if number % pictured == 0 else None,
                duration_s=CLIP_S,
            )
        )
    manifest = folder / "clips.jsonl"
    write_manifest(manifest, clips, media=folder)
    return manifest


# ---- what the server is asked, and what it answers


def question_of(body: dict[str, Any]) -> str:
    """`junior:1:0f3a...`: the role, its turn, a digest of all that the role was given."""
    messages = body["messages"]
    told = str(messages[0]["content"])
    role = next(
        role
        for role, start in (
            ("viewer", "You look at frames"),
            ("junior", "You caption sounds"),
            ("senior", "You revise captions"),
            ("validator", "You check captions"),
        )
        if start in told
    )
    turn = sum(message["role"] == "assistant" for message in messages) + 1
    digest = hashlib.sha256(json.dumps(messages[1:], sort_keys=True).encode()).hexdigest()
    return f"{role}:{turn}:{digest[:16]}"


def answer(question: str) -> str:
    """Plausible answers; the question stands in them, so that the store can be read."""
    role, turn, digest = question.partition(" ")[0].split(":")
    draw = int(digest[:8], 16) / 16**8
    caption = {
        "caption": f"A dog barks. {question}",
        "events": [
            {
                "what": "a dog",
                "start_s": 0.0,
                "end_s": 0.1,
                "on_screen": None,
                "confidence": 0.1 if draw < 0.3 else 0.9,
            }
        ],
        "is_music": False,
    }
    if role == "viewer":
        shot = {"start_s": 0, "end_s": 0.25, "description": f"Noise. {question}", "things": []}
        return json.dumps({"shots": [shot]})
    if role == "junior":
        return json.dumps(caption)
    if role == "validator":
        return json.dumps({"plausible": draw > 0.05, "reason": question})
    if turn == "1" and draw < 0.3:
        span = {"start_s": 0.0, "end_s": 0.2}
        return json.dumps({"reasoning": question, "listen_again": span, "answer": None})
    return json.dumps({"reasoning": question, "listen_again": None, "answer": caption})


def question_in(text: str) -> str:
    """The inverse, as far as the question goes."""
    said = json.loads(text)
    told = said.get("reasoning") or said.get("reason") or said.get("caption")
    told = told or said["shots"][0]["description"]
    return next(word for word in str(told).split() if word.count(":") == 2)


# ---- the proof


def ends_of(run: Path, count: int) -> Counter[str]:
    """Clips by how they ended, from the store of steps."""
    db = sqlite3.connect(run / "steps.sqlite")
    rows = db.execute("SELECT clip, record FROM steps WHERE step = 'end'").fetchall()
    db.close()
    ends = Counter(json.loads(record)["Ending"]["end"] for _, record in rows)
    ends["none"] = count - len({clip for clip, _ in rows})
    ends["twice"] = len(rows) - len({clip for clip, _ in rows})
    return ends


async def killed_run(
    folder: Path,
    *,
    clips: int,
    kills: int,
    concurrency: int = 16,
    seed: int = 0,
    budget: Decimal | None = None,
    spread: int | None = None,
) -> Report:
    """`annotate run` over tiny clips, killed and finished; everything lies in `folder`."""
    manifest, run = write_clips(folder, clips), folder / "run"
    (folder / "prices.toml").write_text(PRICES, encoding="utf-8")
    (folder / "thresholds.toml").write_text(
        # Noise fits no caption: nothing is dropped for it here, the server's words decide.
        "[embedded]\nroute_audio_visual = -1.0\nroute_drop = -1.0\nhand_off = -1.0\n"
        "hand_off_music = -1.0\nhand_off_event = -1.0\ndrop = -1.0\ndrop_music = -1.0\n"
        "drop_event = -1.0\n"
        'source = "all pass"\n',
        encoding="utf-8",
    )
    logs = (folder / "log.txt").open("ab")

    def command(url: str) -> list[str]:
        return [
            *("-m", "omni2sound", "-v", "annotate", "run", str(manifest), str(run)),
            *("--vision", f"loopback@{url}", "--junior", f"loopback@{url}"),
            *("--senior", f"loopback-senior@{url}", "--key-variable", KEY_VARIABLE),
            *("--prices", str(folder / "prices.toml"), "--timeout", "10"),
            *("--thresholds", str(folder / "thresholds.toml"), "--workers", "1"),
            *("--concurrency", str(concurrency)),
            *(() if budget is None else ("--budget-usd", str(budget))),
        ]

    victim = Victim(
        start=lambda url: start_process(*command(url), log=logs),
        store=run / "calls.sqlite",
        question_in=question_in,
        ends=lambda: ends_of(run, clips),
        done=(0, 1),  # 1: some clips failed, as the server's refusals want it
        out_of_budget=BUDGET_ENDED,
    )
    async with LoopbackServer(
        faults=EVERYTHING, seed=seed, question_of=question_of, answer=answer, echo_key=True
    ) as server:
        report = await kill_and_finish(
            victim,
            server,
            items=clips,
            kills=kills,
            spread=spread or max(4, 2 * clips // kills),
            seed=seed,
            budget=budget,
        )
    if budget is None:
        for words in (("export", "--out", str(folder / "export")), ("status",)):
            told = await start_process(
                *("-m", "omni2sound", "annotate", words[0], str(run), *words[1:]),
                log=logs,
            )
            assert await told.wait() == 0, f"annotate {words[0]} failed; see {folder / 'log.txt'}"
    logs.close()
    return report


def files_with_the_key(folder: Path) -> list[Path]:
    """Files in which the API key stands."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if KEY.encode() in path.read_bytes()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    broken = 0
    fifth, few = max(8, options.clips // 5), max(1, options.kills // 12)
    for title, clips, kills, budget, spread in (
        ("to the end", options.clips, options.kills, None, None),
        ("with a budget", fifth, few, Decimal("0.002") * fifth, max(4, fifth // (4 * few))),
    ):
        with tempfile.TemporaryDirectory() as name:
            folder, before = Path(name), time.monotonic()
            report = asyncio.run(
                killed_run(
                    folder,
                    clips=clips,
                    kills=kills,
                    concurrency=options.concurrency,
                    seed=options.seed,
                    budget=budget,
                    spread=spread,
                )
            )
            print_report(title, report, time.monotonic() - before)
            leaks = files_with_the_key(folder)
            print(f"  files with the API key: {len(leaks)}")
            for unit, costs in costs_of(folder / "run").items():
                if costs.ratio is not None:
                    print(
                        f"  {costs.escalated} of {costs.clips} clips to the senior: "
                        f"{costs.spent:.4g} {unit}; the senior for all {costs.senior_for_all:.4g}, "
                        f"{costs.ratio:.2f} times as much",
                        flush=True,
                    )
            broken += len(report.broken()) + len(leaks)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
