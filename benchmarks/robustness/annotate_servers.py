"""Do the documented commands of `annotate` end well with servers as they are?

    python -m benchmarks.robustness.annotate_servers

`omni2sound annotate run` against doubles (`server_doubles.py`), 19 clips with pictures each:

* a Gemini-like endpoint that thinks 1,200 tokens a reply, with the limits of the roles as they are;
* vLLM with two pictures a request at most, with and without `--max-pictures 2`;
* two endpoints with a key each;
* an endpoint that rejects every sound, and one whose key is wrong: the run stops, no clip fails.

Printed are clips by outcome, calls, cut replies and keys. Exit code 1: a promise is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.robustness.annotate_kills import answer, question_of
from benchmarks.robustness.server_doubles import Said, ServerDouble
from omni2sound.annotate import Thresholds
from omni2sound.data.corpora.manifest import Clip, write_manifest
from tests.media.clips import write_video

CLIPS = 19
KEPT = 17
"""Least number of clips that a server which thinks may leave."""


def say(body: dict[str, Any], thinking: int = 0) -> Said:
    """Answer plausibly, after some thoughts; nothing is dropped by the validator."""
    said = json.loads(answer(question_of(body)))
    if "plausible" in said:
        said["plausible"] = True
    return Said(text=json.dumps(said), thinking_tokens=thinking)


@contextlib.contextmanager
def serving(*servers: ServerDouble) -> Iterator[None]:
    """Serve in a thread: the command has an event loop of its own."""
    loop = asyncio.new_event_loop()
    started = threading.Event()
    stop: asyncio.Future[None] = loop.create_future()

    async def serve() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for server in servers:
                await stack.enter_async_context(server)
            started.set()
            await stop

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    started.wait()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set_result, None)
        thread.join()


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run ended."""

    code: int
    ends: dict[str, int]
    failed: Counter[str]
    output: str


def run(folder: Path, name: str, *options: str) -> Ended:
    """Run the command on the clips of `folder`."""
    from typer.testing import CliRunner

    from omni2sound.annotate.runs import failures
    from omni2sound.cli.main import app
    from omni2sound.errors import Omni2SoundError

    argv = ["annotate", "run", str(folder / "clips.jsonl"), str(folder / name), *options]
    argv += ["--thresholds", str(folder / "all.toml"), "--workers", "1"]
    done = CliRunner().invoke(app, argv)
    if done.exception is not None and not isinstance(done.exception, SystemExit | Omni2SoundError):
        raise done.exception
    ends = json.loads(done.stdout) if done.stdout.startswith("{") else {}
    failed: Counter[str] = Counter()
    with contextlib.suppress(Omni2SoundError):
        failed = Counter(f"{f.kind} at {f.step}" for f in failures(folder / name))
    told = str(done.exception or "") + done.output
    return Ended(code=done.exit_code, ends=ends, failed=failed, output=told)


def models(vision: str, hears: str) -> list[str]:
    """Name a model for each role."""
    return ["--vision", vision, "--junior", hears, "--senior", hears]


def make_clips(folder: Path) -> None:
    """Write clips of 1.5 s whose pictures have up to five shots; thresholds that all pass."""
    rng = np.random.default_rng(0)
    clips = []
    for number in range(CLIPS):
        shots = rng.integers(0, 256, (1 + number % 5, 1, 1, 3), np.uint8)
        write_video(
            folder / f"v{number}.mp4",
            ticks=range(0, 900, 75),
            picture=lambda tick, shots=shots: np.tile(  # type: ignore[misc]
                shots[tick * len(shots) // 12], (32, 48, 1)
            ),
        )
        noise = 0.2 * rng.standard_normal(24_000)
        soundfile.write(folder / f"s{number}.wav", noise, 16_000, subtype="PCM_16")
        clips.append(
            Clip(
                clip_id=f"c{number}",
                corpus="tiny",
                split="train",
                audio=f"s{number}.wav",
                video=f"v{number}.mp4",
                duration_s=1.5,
            )
        )
    write_manifest(folder / "clips.jsonl", clips, media=folder)
    numbers = "".join(
        f"{f.name} = -1.0\n" for f in fields(Thresholds) if f.name not in ("scorer", "source")
    )
    (folder / "all.toml").write_text(f'[embedded]\nsource = "all pass"\n{numbers}')


Check = tuple[str, bool]


def thinking(folder: Path) -> Check:
    """A Gemini-like endpoint that thinks 1,200 tokens a reply."""
    server = ServerDouble("gemini", lambda body: say(body, 1200), key="key-of-the-first-host")
    with serving(server):
        who = models(f"flash@{server.url}", f"flash@{server.url}")
        found = run(folder, "thinking", *who, "--key-variable", "KEY_ONE")
    cut = sum(call.cut for call in server.calls)
    told = f"{found.ends}, {server.billed} replies, {cut} cut {dict(found.failed)}"
    return told, found.ends.get("kept", 0) >= KEPT and bought_twice(server) == 0


def few_pictures(folder: Path) -> Check:
    """VLLM with two pictures a request at most."""
    told, good = [], True
    for name, more in (("as it is", []), ("--max-pictures 2", ["--max-pictures", "2"])):
        server = ServerDouble("vllm", say, max_pictures=2)
        with serving(server):
            who = models(f"vl@{server.url}", f"omni@{server.url}")
            found = run(folder, f"few {len(more)}", *who, *more)
        told.append(f"{name}: {found.ends} {dict(found.failed)}")
        ends = found.ends
        good &= ends.get("kept", 0) + sum(found.failed.values()) == CLIPS
        good &= set(found.failed) <= {"rejected at compress"} and bought_twice(server) == 0
        good &= not more or ends["kept"] == CLIPS
    return "; ".join(told), good


def two_keys(folder: Path) -> Check:
    """Two endpoints with a key each; one key for both is refused."""
    sees = ServerDouble("vllm", say, key="key-of-the-first-host")
    hears = ServerDouble("sglang", say, key="key-of-the-second-host")
    with serving(sees, hears):
        who = models(f"vl@{sees.url}", f"omni@{hears.url}")
        refused = run(folder, "one key", *who, "--key-variable", "KEY_ONE")
        hosts = [server.url.split("/")[2] for server in (sees, hears)]
        keys = [f"{hosts[0]}=KEY_ONE", f"{hosts[1]}=KEY_TWO"]
        options = [part for key in keys for part in ("--key-variable", key)]
        found = run(folder, "keys", *who, *options, "--audio-part", f"{hosts[1]}=audio_url")
    seen = [{call.key for call in server.calls} for server in (sees, hears)]
    right = seen == [{"key-of-the-first-host"}, {"key-of-the-second-host"}]
    told = f"{found.ends}, each key only where it belongs: {right}, one for both: {refused.code}"
    return told, right and found.ends["kept"] == CLIPS and "would go to" in refused.output


def deaf(folder: Path) -> Check:
    """An endpoint that rejects every sound."""
    server = ServerDouble("vllm", say, hears=False)
    with serving(server):
        who = models(f"vl@{server.url}", f"vl@{server.url}")
        found = run(folder, "deaf", *who, "--concurrency", "4")
    stopped = "first 8 calls were all rejected" in found.output
    told = f"exit {found.code}, {len(server.calls)} calls, failed clips {dict(found.failed)}"
    return told, stopped and not found.failed


def wrong_key(folder: Path) -> Check:
    """An endpoint with another key."""
    server = ServerDouble("gemini", say, key="another")
    with serving(server):
        who = models(f"flash@{server.url}", f"flash@{server.url}")
        found = run(folder, "wrong", *who, "--key-variable", "KEY_ONE", "--concurrency", "4")
    told = f"exit {found.code}, {len(server.calls)} calls, failed clips {dict(found.failed)}"
    return told, "API key not valid" in found.output and not found.failed


def bought_twice(server: ServerDouble) -> int:
    """Count requests that were answered whole and sent again."""
    whole = Counter(
        json.dumps(call.body, sort_keys=True)
        for call in server.calls
        if call.billed and not call.cut
    )
    return sum(count - 1 for count in whole.values())


def main() -> None:
    """Print what happened."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    logging.disable(logging.WARNING)
    os.environ.update(KEY_ONE="key-of-the-first-host", KEY_TWO="key-of-the-second-host")
    broken = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_clips(folder)
        for check in (thinking, few_pictures, two_keys, deaf, wrong_key):
            told, is_kept = check(folder)
            print(f"{check.__name__}: {told}", flush=True)
            if not is_kept:
                broken.append(check.__name__)
    print(f"broken: {', '.join(broken)}" if broken else "all promises hold")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
