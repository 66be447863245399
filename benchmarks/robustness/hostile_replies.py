"""What do a hostile endpoint's replies reach: keys, hosts, a run's end, the bill?

    python -m benchmarks.robustness.hostile_replies [--src FOLDER]

A server on this machine repeats the API key in 16 spellings, at several places around the length
at which texts are cut, in errors, replies and broken bodies; redirects to a second server, which
counts what reaches it; and replies with what can't be stored. Printed are spellings of which 12
characters in a row were found in an error, a log record, a reply or a file, bytes at the second
server, replies that ended the run, and sends in three runs for one answer (3 are allowed). `--src`
measures another copy of the sources. The exit code is 1 if a promise is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import html
import json
import logging
import os
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.robustness.llm_server import FixedServer, closing, completion

ROOT = Path(__file__).parents[2]
KEY = "sk-planted/+9_Zx-0123456789abcdefGHIJKLMNOPqrstuvw"
VARIABLE = "OMNI2SOUND_PLANTED_KEY"
SHOWN = 12
SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "JSON": lambda key: json.dumps(key).replace("/", r"\/"),
    "JSON in JSON": lambda key: json.dumps(json.dumps(key.replace("/", r"\/"))),
    "unicode escapes": lambda key: "".join(f"\\u{ord(c):04x}" for c in key),
    "unicode escapes in JSON": lambda key: json.dumps("".join(f"\\u{ord(c):04X}" for c in key)),
    "hexadecimal escapes": lambda key: "".join(f"\\x{ord(c):02x}" for c in key),
    "percent": lambda key: urllib.parse.quote(key, safe=""),
    "percent, all": lambda key: "".join(f"%{ord(c):02X}" for c in key),
    "percent twice": lambda key: urllib.parse.quote("".join(f"%{ord(c):02X}" for c in key)),
    "HTML": lambda key: "".join(f"&#{ord(c)};" for c in key),
    "HTML hexadecimal": lambda key: "".join(f"&#x{ord(c):x};" for c in key),
    "HTML names": lambda key: html.escape(key).replace("/", "&sol;").replace("_", "&lowbar;"),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64 behind one": lambda key: base64.b64encode(b"a" + key.encode()).decode(),
    "base64 for URLs": lambda key: base64.urlsafe_b64encode(b"me:" + key.encode()).decode(),
    "hexadecimal": lambda key: key.encode().hex(),
}
BAD: dict[str, Any] = {
    "half of a character": '{"caption": "a \\ud800 bell"}',
    "NaN": '{"caption": "a", "more": NaN}',
    "1e999": '{"caption": "a", "more": 1e999}',
    "26 digits": '{"caption": "a", "more": ' + "9" * 26 + "}",
    "100,000 events": json.dumps({"caption": "a", "events": [0] * 10**5}),
    "10 MB": json.dumps({"caption": "a" * 10**7}),
    "content in parts": [{"type": "text", "text": '{"caption": "a bell"}'}],
    "content of numbers": [1, 2, 3],
    "26-digit token count": '{"caption": "a bell"}',
}


async def ask(host: FixedServer, store: Path, *, times: int = 1, sends: int = 6) -> list[str]:
    """Ask one question in several runs; what each said."""
    from pydantic import BaseModel

    from omni2sound.llm import CachedChat, CallStore, ChatRequest, OpenAIEndpoint, Prices, Retry
    from omni2sound.llm.chat import AudioPart, user

    class Caption(BaseModel):
        caption: str

    async def at_once(duration_s: float) -> None:
        await asyncio.sleep(0)

    sound = AudioPart(data=b"RIFF" * 250, format="wav", duration_s=1.0)
    request = ChatRequest(
        messages=(user("What is heard?", sound),),
        prompt_version="hostile/1",
        max_output_tokens=64,
        answer=Caption,
    )
    said = []
    for _ in range(times):
        with CallStore.open(store) as calls:
            endpoint = OpenAIEndpoint("m", base_url=host.url, key_variable=VARIABLE, timeout_s=20)
            model = CachedChat(
                endpoint,
                store=calls,
                prices=Prices({}),
                retry=Retry(max_sends=sends),
                sleep=at_once,
            )
            try:
                reply = await model.ask(request)
                reply.parsed(Caption).caption.encode()
                reply.text.encode()
                said.append(f"answered {reply.text}")
            except Exception as error:  # what a caller would see
                said.append(f"{type(error).__name__} {error}")
            await endpoint.aclose()
    return said


async def asked(response: bytes, store: Path, **options: int) -> tuple[int, list[str]]:
    """Ask a server that always replies so: its requests, and what each run said."""
    async with FixedServer(response) as host:
        said = await ask(host, store, **options)
        return host.num_requests, said


def shows(text: str, spelt: str) -> bool:
    """Whether 12 characters of a key, in the spelling at hand, stand in a text."""
    unit = max(1, len(spelt) // len(KEY))
    length = SHOWN * unit
    return any(
        spelt[at : at + length] in text for at in range(0, len(spelt) - length + 1, max(1, unit))
    )


def keys(folder: Path) -> Iterator[str]:
    """Yield the spellings that got through."""
    records: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record.getMessage())

    logging.getLogger().addHandler(Keep())
    logging.getLogger("omni2sound").setLevel(logging.DEBUG)
    number = 0
    for name, spell in SPELLINGS.items():
        spelt = spell(KEY)
        leaks = 0
        for at in (0, 470):
            text = "x" * at + spelt + " end"
            for body, status in (
                (json.dumps({"error": {"message": text}}).encode(), 400),
                (text.encode(), 200),
                (completion(text), 200),
                (completion('{"caption": "' + text.replace('"', "'") + '"}'), 200),
            ):
                number += 1
                store = folder / f"{number}.sqlite"
                _, seen = asyncio.run(asked(closing(body, status), store, sends=1))
                kept = b"".join(
                    p.read_bytes() for p in folder.glob(f"{number}.sqlite*") if p.is_file()
                )
                texts = [*seen, *records, kept.decode(errors="replace")]
                texts += [t.replace("\\\\", "\\") for t in texts]
                leaks += any(shows(t, spelt) or shows(t, spelt.strip('"')) for t in texts)
                records.clear()
        if leaks:
            yield name


def redirects(folder: Path) -> int:
    """Bytes that reach a host that nobody named."""

    async def once(status: int) -> int:
        async with FixedServer(closing(completion('{"caption": "a"}'))) as other:
            to = f"Location: {other.url}/chat/completions\r\n"
            async with FixedServer(closing(b"{}", status, to)) as named:
                await ask(named, folder / f"redirect-{status}.sqlite")
            return other.num_bytes

    return sum(asyncio.run(once(status)) for status in (301, 302, 303, 307, 308))


def bad_replies(folder: Path) -> Iterator[tuple[str, int, str]]:
    """Yield each bad reply, the sends in three runs, and what the last run said."""
    for number, (name, content) in enumerate(BAD.items()):
        tokens = 10**26 if "token" in name else 2
        response = closing(completion(content, completion_tokens=tokens))
        store = folder / f"bad-{number}.sqlite"
        num_requests, said = asyncio.run(asked(response, store, times=3))
        yield name, num_requests, said[-1]


def measure() -> int:
    os.environ[VARIABLE] = KEY
    bad = 0
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        leaked = list(keys(folder))
        print(
            f"keys: {len(leaked)} of {len(SPELLINGS)} spellings get through: {leaked}", flush=True
        )
        num_bytes = redirects(folder)
        print(f"redirects: {num_bytes} bytes reach a host that nobody named", flush=True)
        for name, num_sends, said in bad_replies(folder):
            is_settled = said.startswith(("answered", "Malformed", "Refused"))
            wrong = not is_settled or num_sends > 3
            bad += wrong
            print(f"  {name:22s} {num_sends:2d} sends in 3 runs: {said[:70]!r}{'  <--' * wrong}")
        print(f"replies: {bad} of {len(BAD)} end the run or are bought without end", flush=True)
    return 1 if leaked or num_bytes or bad else 0


def main() -> int:
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--src", type=Path, help="sources to measure; default: these")
    chosen = parser.parse_args()
    if chosen.src is None:
        return measure()
    environment = os.environ | {"PYTHONPATH": f"{chosen.src}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "benchmarks.robustness.hostile_replies"]
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
