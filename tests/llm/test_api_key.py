"""A key goes from its variable into one header, and nowhere else."""

from __future__ import annotations

import asyncio
import logging
import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from benchmarks.robustness.llm_server import Faults, LoopbackServer
from omni2sound.errors import MissingPartError, UserError
from omni2sound.llm import CachedChat, CallStore, Limits, OpenAIEndpoint, Retry
from omni2sound.llm.optional import needs
from omni2sound.redact import ApiKey, scrub
from tests.llm.questions import prices, question

KEY = 'sk-planted/"+secret-0123456789'
"""With characters that URLs and JSON spell in another way."""
FORMS = ("sk-planted", "secret-0123456789")

ENDS = Faults(
    busy=0.1, broken=0.2, hang=0.05, cut=0.1, no_json=0.1, malformed=0.2, refusal=0.1
)  # fmt: skip


def _with_locals(error: BaseException) -> str:
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(told.format()) + repr(vars(error))


def _chain(error: BaseException | None) -> list[BaseException]:
    if error is None:
        return []
    return [error, *_chain(error.__cause__), *_chain(error.__context__)]


def test_a_planted_key_is_found_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in logs at their most talkative, files, or errors with all their locals, though the
    server repeats it wherever it can.
    """
    monkeypatch.setenv("PLANTED_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    told: list[str] = []

    async def main() -> None:
        async with LoopbackServer(faults=ENDS, echo_key=True) as server:
            with CallStore.open(tmp_path / "c.sqlite") as store:
                endpoint = OpenAIEndpoint(
                    "loopback", base_url=server.url, key_variable="PLANTED_KEY", timeout_s=0.5
                )
                model = CachedChat(
                    endpoint,
                    store=store,
                    prices=prices(tmp_path),
                    limits=Limits(concurrency=8),
                    retry=Retry(max_sends=2, first_wait_s=0.01),
                    max_malformed=2,
                )
                results = await asyncio.gather(
                    *(model.ask(question(f"clip {n}")) for n in range(80)), return_exceptions=True
                )
                for result in results:
                    errors = _chain(result) if isinstance(result, BaseException) else []
                    told.extend(_with_locals(error) for error in errors)
                    told.append(repr(result))
                told.extend([repr(endpoint), repr(model), repr(store), repr(store.totals())])
                await endpoint.aclose()
                names = {type(result).__name__ for result in results}
                assert names == {"ChatReply", "Refused", "Malformed", "Unavailable"}
                # The test can fail: the key did travel, and did come back.
                assert {seen.headers["authorization"] for seen in server.seen} == {f"Bearer {KEY}"}

    asyncio.run(main())
    assert any("[key]" in text for text in told)
    assert any(record.name.startswith("openai") for record in caplog.records)
    assert any(record.name.startswith("httpcore") for record in caplog.records)
    told.append(caplog.text)
    told.extend(str(vars(record)) for record in caplog.records)
    for text in told:
        for form in FORMS:
            assert form not in text
    for path in tmp_path.rglob("*"):
        if path.is_file():
            for form in FORMS:
                assert form.encode() not in path.read_bytes(), path


def test_texts_lose_the_key_however_it_is_spelt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_KEY", f" {KEY}\n")
    key = ApiKey.from_variable("PLANTED_KEY")
    assert key.reveal() == KEY
    spelt = (
        f"a {KEY} b sk-planted%2F%22%2Bsecret-0123456789 c " + r"sk-planted/\"+secret-0123456789"
    )
    assert scrub(spelt) == "a [key] b [key] c [key]"
    assert scrub("nothing here") == "nothing here"
    assert KEY not in repr(key)


def test_a_placeholder_tears_no_holes_into_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_KEY", "none")
    ApiKey.from_variable("PLANTED_KEY")
    assert scrub("none of them") == "none of them"
    ApiKey.from_variable(None)
    assert scrub("a-b") == "a-b"


def test_a_key_does_not_travel_to_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_KEY", KEY)
    with pytest.raises(UserError, match="stays in its process"):
        pickle.dumps(ApiKey.from_variable("PLANTED_KEY"))


WITHOUT = """
import sys
for name in ("openai", "tenacity"):
    sys.modules[name] = None
from omni2sound.llm import CallStore, Prices, ChatRequest
from omni2sound.errors import UserError
for name in ("OpenAIEndpoint", "CachedChat", "Retry"):
    try:
        __import__("omni2sound.llm", fromlist=[name]).__getattr__(name)
    except UserError as error:
        print(error)
"""


def test_without_the_extra_one_line_says_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [
        f"package {name} missing; run: pip install 'omni2sound[annotate]'"
        for name in ("tenacity", "tenacity", "tenacity")
    ]


def test_another_missing_package_is_not_blamed_on_the_extra() -> None:
    with pytest.raises(ModuleNotFoundError, match="other_package"), needs("openai"):
        raise ModuleNotFoundError("No module named 'other_package'", name="other_package")
    with pytest.raises(MissingPartError, match="package openai missing"), needs("openai"):
        raise ModuleNotFoundError("No module named 'openai.x'", name="openai.x")
