"""Replies that are hostile or broken: each is one failure, counted, and nothing of it is stored."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from benchmarks.robustness.llm_server import FixedServer, closing, completion
from omni2sound.errors import Malformed, UserError
from omni2sound.llm import CachedChat, CallStore, ChatReply, OpenAIEndpoint, Usage
from omni2sound.llm.answers import MAX_VALUES, parse_answer
from omni2sound.llm.chat import AudioPart, user
from omni2sound.llm.replies import MAX_BODY_BYTES, MAX_TEXT_CHARACTERS, checked
from tests.llm.questions import Caption, prices, question

GOOD_TEXT = '{"caption": "a bell"}'


def asked(folder: Path, response: bytes, times: int = 1) -> tuple[Any, int, dict[str, int]]:
    """The last result of asking `times` times, what reached the server, sends by outcome."""

    async def main() -> tuple[Any, int, dict[str, int]]:
        async with FixedServer(response) as host:
            with CallStore.open(folder / "c.sqlite") as store:
                endpoint = OpenAIEndpoint("loopback", base_url=host.url, key_variable=None)
                model = CachedChat(endpoint, store=store, prices=prices(folder), sleep=_at_once)
                result: Any = None
                for _ in range(times):
                    try:
                        result = await model.ask(question())
                    except (Malformed, UserError) as error:
                        result = error
                await endpoint.aclose()
                ends = {total.state: total.num for total in store.totals()}
                return result, host.num_requests, ends

    return asyncio.run(main())


async def _at_once(duration_s: float) -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nothing_reaches_a_host_that_nobody_named(tmp_path: Path, status: int) -> None:
    async def main() -> tuple[str, int, int]:
        async with FixedServer(closing(completion(GOOD_TEXT))) as other:
            to = f"Location: {other.url}/chat/completions?key=secret\r\n"
            async with FixedServer(closing(b"{}", status, to)) as named:
                endpoint = OpenAIEndpoint("m", base_url=named.url, key_variable=None)
                with CallStore.open(tmp_path / "c.sqlite") as store:
                    model = CachedChat(endpoint, store=store, prices=prices(tmp_path))
                    sound = AudioPart(data=b"RIFF" * 1000, format="wav", duration_s=1.0)
                    with pytest.raises(UserError) as caught:
                        await model.ask(question(messages=(user(sound),)))
                await endpoint.aclose()
            return str(caught.value), other.num_bytes, named.num_requests

    line, num_bytes, num_requests = asyncio.run(main())
    assert num_bytes == 0
    assert num_requests == 1, "a redirect is no reason to try again"
    assert "redirects to http://127.0.0.1:" in line and "not followed" in line
    assert "secret" not in line and "\n" not in line


def test_content_in_parts_is_read(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": '{"caption": '}, {"type": "text", "text": '"a bell"}'}]
    reply, num_requests, _ = asked(tmp_path, closing(completion(parts)))
    assert reply.parsed(Caption) == Caption(caption="a bell")
    assert num_requests == 1


@pytest.mark.parametrize(
    "content", [3, ["a"], [{"type": "image_url", "image_url": {"url": "x"}}], {"text": "a"}]
)
def test_content_that_is_no_text_is_malformed_and_counted(tmp_path: Path, content: Any) -> None:
    error, num_requests, ends = asked(tmp_path, closing(completion(content)), times=3)
    assert isinstance(error, Malformed) and "no text" in str(error)
    assert num_requests == 3 and ends == {"malformed": 3}, "later runs buy it no more"


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(closing(completion("x" * MAX_BODY_BYTES)), id="10 MB"),
        pytest.param(closing(completion("x" * (MAX_TEXT_CHARACTERS + 1))), id="long text"),
        pytest.param(
            closing(b"\x1f\x8b" * 9, headers="Content-Encoding: gzip\r\n"), id="compressed"
        ),
        pytest.param(
            closing(completion(json.dumps({"caption": "a", "events": [0] * 10**5}))), id="events"
        ),
        pytest.param(closing(completion('{"caption": NaN}')), id="NaN"),
        pytest.param(closing(completion('{"caption": "a", "more": 1e999}')), id="infinite"),
        pytest.param(
            closing(completion('{"caption": "a", "more": ' + "9" * 26 + "}")), id="digits"
        ),
        pytest.param(closing(completion('{"a":' * 10**4)), id="deep"),
    ],
)
def test_a_reply_beyond_its_bounds_is_one_failure_and_no_more(
    tmp_path: Path, response: bytes
) -> None:
    error, num_requests, ends = asked(tmp_path, response, times=3)
    assert isinstance(error, Malformed), error
    assert len(str(error)) < 2000
    assert num_requests == 3 and ends == {"malformed": 3}


def test_absurd_token_counts_are_unknown_ones(tmp_path: Path) -> None:
    for number, count in enumerate((10**25, 10**12, 5 * 10**8)):
        folder = tmp_path / str(number)
        folder.mkdir()
        reply, _, ends = asked(folder, closing(completion(GOOD_TEXT, completion_tokens=count)))
        assert reply.usage is None and ends == {"answered": 1}
        with sqlite3.connect(folder / "c.sqlite") as db:
            known, uncertain = db.execute(
                "SELECT sum(known_pusd), sum(uncertain_pusd) FROM attempt"
            ).fetchone()
        assert known == 0 and uncertain > 0, "the booked bound stays"


def test_halves_of_characters_become_replacement_characters(tmp_path: Path) -> None:
    text = r'{"caption": "a \ud800 bell \ud83d\ude00"}'
    whole = "a \N{REPLACEMENT CHARACTER} bell \U0001f600"
    assert parse_answer(text, Caption).caption == whole
    assert parse_answer(text.encode().decode("unicode_escape"), Caption).caption == whole
    reply, num_requests, _ = asked(tmp_path, closing(completion("\ud800" + text)), times=2)
    reply.text.encode()
    reply.parsed(Caption).caption.encode()
    assert num_requests == 1


def test_answers_of_older_releases_do_not_end_a_run(tmp_path: Path) -> None:
    asked(tmp_path, closing(completion(GOOD_TEXT)))
    with sqlite3.connect(tmp_path / "c.sqlite") as db:
        old = json.dumps({"text": '{"caption": "\ud800"}', "finish": "stop", "usage": None})
        assert db.execute("UPDATE call SET answer = ?", (old,)).rowcount == 1
    db.close()
    # The server's port, and so the question's key, is another one: look by the key itself.
    with CallStore.open(tmp_path / "c.sqlite") as store:
        db = sqlite3.connect(tmp_path / "c.sqlite")
        (key,) = db.execute("SELECT key FROM call").fetchone()
        db.close()
        found = store.answer(key)
    assert found is not None
    found.parsed(Caption).caption.encode()


def test_the_limit_of_values_holds_at_both_ends() -> None:
    class Many(Caption):
        events: list[int]

    fits = json.dumps({"caption": "a", "events": [0] * (MAX_VALUES - 3)})
    assert len(parse_answer(fits, Many).events) == MAX_VALUES - 3
    with pytest.raises(Malformed, match="more than"):
        parse_answer(fits.replace("[0", "[0, 0"), Many)


def test_what_any_endpoint_replies_is_checked() -> None:
    usage = Usage(input_tokens=1, output_tokens=10**30)
    reply = checked(ChatReply(text="\udfff", usage=usage, finish="x" * 999, refusal="\ud800"), 100)
    assert (reply.text, reply.usage, reply.refusal) == ("\N{REPLACEMENT CHARACTER}", None, "\ufffd")
    assert len(reply.finish) < 50
