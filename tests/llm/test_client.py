"""One send, to a server that is real and misbehaves."""

from __future__ import annotations

import asyncio
import base64
import socket
from typing import Any

import pytest

from benchmarks.robustness.llm_server import Faults, FixedServer, LoopbackServer, closing
from omni2sound.errors import UserError
from omni2sound.llm import (
    AudioPart,
    ChatReply,
    ChatRequest,
    ImagePart,
    OpenAIEndpoint,
    SendFailed,
    Usage,
    assistant,
    system,
    user,
)
from omni2sound.llm.replies import read_usage
from omni2sound.llm.servers.options import ServerOptions
from tests.llm.questions import Caption, question


def send(
    request: ChatRequest, *, server: dict[str, Any] | None = None, **options: Any
) -> tuple[ChatReply | SendFailed, LoopbackServer]:
    async def main() -> tuple[ChatReply | SendFailed, LoopbackServer]:
        async with LoopbackServer(**(server or {})) as there:
            endpoint = OpenAIEndpoint("loopback", base_url=there.url, key_variable=None, **options)
            try:
                return await endpoint.send(request), there
            except SendFailed as error:
                return error, there
            finally:
                await endpoint.aclose()

    return asyncio.run(main())


def sent(request: ChatRequest, **options: Any) -> dict[str, Any]:
    _, server = send(request, **options)
    (seen,) = server.seen
    return seen.body


def test_texts_pictures_and_sounds_arrive_as_they_were_given() -> None:
    request = question(
        messages=(
            system("be brief"),
            user("look", ImagePart(data=b"png bytes", media_type="image/png", detail="low")),
            assistant("done"),
            user("hear", AudioPart(data=b"wav bytes", format="wav", duration_s=1.0)),
        )
    )
    picture, sound = (
        base64.b64encode(b"png bytes").decode(),
        base64.b64encode(b"wav bytes").decode(),
    )
    assert sent(request)["messages"] == [
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {
                    "type": "image_url",
                    "image_url": {"url": f"data:image/png;base64,{picture}", "detail": "low"},
                },
            ],
        },
        {"role": "assistant", "content": "done"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "hear"},
                {"type": "input_audio", "input_audio": {"data": sound, "format": "wav"}},
            ],
        },
    ]


def test_options_are_sent_when_they_are_given_and_only_then() -> None:
    plain = sent(question(answer=None))
    assert set(plain) == {"model", "messages", "max_completion_tokens"}
    full = sent(
        question(answer=None, temperature=0.0, seed=3, extra={"google": {"budget": 128}}),
        options=ServerOptions(tokens_option="max_tokens"),
    )
    assert full == {
        "model": "loopback",
        "messages": plain["messages"],
        "max_tokens": 20,
        "temperature": 0.0,
        "seed": 3,
        "google": {"budget": 128},
    }


def test_the_form_of_the_answer_is_sent_as_the_endpoint_can_take_it() -> None:
    by_schema = sent(question(), options=ServerOptions(structured="json_schema"))
    assert by_schema["response_format"]["type"] == "json_schema"
    assert by_schema["response_format"]["json_schema"]["name"] == "Caption"
    assert by_schema["response_format"]["json_schema"]["schema"]["required"] == ["caption"]
    assert len(by_schema["messages"]) == 1
    as_object = sent(question(), options=ServerOptions(structured="json_object"))
    assert as_object["response_format"] == {"type": "json_object"}
    in_text = sent(question(), options=ServerOptions(structured="text"))
    assert "response_format" not in in_text
    for body in (as_object, in_text):
        assert '"required": ["caption"]' in body["messages"][-1]["content"]


def test_a_reply_has_its_text_and_its_tokens() -> None:
    reply, server = send(question("the question"))
    assert isinstance(reply, ChatReply)
    assert reply.parsed(Caption) == Caption(caption="about the question")
    assert reply.usage is not None
    billed = reply.usage.input_tokens * 2 + reply.usage.output_tokens * 8
    assert server.billed_pusd == billed * 10**6


FAULTS: dict[str, tuple[bool, bool]] = {
    # may have been billed, worth another try
    "busy": (False, True),
    "busy_date": (False, True),
    "broken": (True, True),
    "broken_free": (True, True),
    "hang": (True, True),
    "cut": (True, True),
    "no_json": (True, True),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_send_says_whether_to_pay_and_whether_to_try_again(fault: str) -> None:
    server = {"faults": Faults(**{fault: 1.0}), "retry_after_s": 9}
    failure, there = send(question(), server=server, timeout_s=0.5)
    assert isinstance(failure, SendFailed)
    assert (failure.maybe_billed, failure.transient) == FAULTS[fault], failure.reason
    assert there.num_requests == 1, "the SDK tried again by itself"
    if fault.startswith("busy"):
        assert failure.retry_after_s is not None
        assert 7 < failure.retry_after_s <= 9
    else:
        assert failure.retry_after_s is None


def test_slow_bytes_arrive_within_the_time_and_not_beyond() -> None:
    server: dict[str, Any] = {"faults": Faults(slow=1.0), "answer": lambda question: "word " * 4000}
    reply, _ = send(question(answer=None), server=server, timeout_s=20)
    assert isinstance(reply, ChatReply) and len(reply.text) == 20_000
    # Each byte comes soon enough, all of them do not: the limit is for the whole.
    failure, _ = send(question(answer=None), server=server, timeout_s=0.3)
    assert isinstance(failure, SendFailed)
    assert failure.maybe_billed and "no reply within 0.3 s" in failure.reason


def test_refusals_are_replies_because_they_cost_money() -> None:
    reply, _ = send(question(), server={"faults": Faults(refusal=1.0)})
    assert isinstance(reply, ChatReply)
    assert reply.refusal == "I can't" and reply.usage is not None


def test_a_reply_without_tokens_has_no_usage() -> None:
    reply, _ = send(question(), server={"faults": Faults(no_usage=1.0)})
    assert isinstance(reply, ChatReply) and reply.usage is None


def test_nobody_there_is_not_billed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    async def main() -> None:
        endpoint = OpenAIEndpoint(
            "loopback", base_url=f"http://127.0.0.1:{port}/v1", key_variable=None
        )
        with pytest.raises(SendFailed, match="no connection") as caught:
            await endpoint.send(question())
        await endpoint.aclose()
        assert caught.value.transient and not caught.value.maybe_billed

    asyncio.run(main())


def against(response: bytes) -> ChatReply | SendFailed:
    """What a client makes of `response`."""

    async def main() -> ChatReply | SendFailed:
        async with FixedServer(response) as server:
            endpoint = OpenAIEndpoint(
                "loopback", base_url=server.url, key_variable=None, timeout_s=10
            )
            try:
                return await endpoint.send(question())
            except SendFailed as error:
                return error
            finally:
                await endpoint.aclose()

    return asyncio.run(main())


@pytest.mark.parametrize(
    "content",
    [
        b"", b"null", b"[]", b"{}", b'{"choices": [{}]}', b"\xff\xfe",
        b'{"choices": [{"message": null}]}', b'{"choices": {"0": 1}}', b"[" * 10**5,
    ],
)  # fmt: skip
def test_whatever_is_no_completion_fails_and_may_have_been_billed(content: bytes) -> None:
    failure = against(closing(content))
    assert isinstance(failure, SendFailed), failure
    assert failure.maybe_billed and failure.transient, failure.reason


@pytest.mark.parametrize(
    ("status", "code", "transient", "billed"),
    [
        (400, "invalid_request_error", False, False),
        (401, "invalid_api_key", False, False),
        (404, "model_not_found", False, False),
        (408, "", True, True),
        (429, "rate_limit_exceeded", True, False),
        (429, "insufficient_quota", False, False),
        (500, "", True, True),
        (529, "", True, True),
    ],
)
def test_a_status_says_what_it_is_worth(
    status: int, code: str, transient: bool, billed: bool
) -> None:
    content = f'{{"error": {{"message": "said so", "code": "{code}"}}}}'.encode()
    failure = against(closing(content, status))
    assert isinstance(failure, SendFailed)
    assert (failure.transient, failure.maybe_billed) == (transient, billed)
    assert f"status {status}" in failure.reason and "said so" in failure.reason


def test_a_prompt_that_a_filter_stops_is_a_refusal_of_unknown_cost() -> None:
    content = b'{"error": {"message": "filtered", "code": "content_filter"}}'
    reply = against(closing(content, 400))
    assert isinstance(reply, ChatReply)
    assert reply.refusal is not None and "filtered" in reply.refusal
    assert reply.usage is None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2}, Usage(input_tokens=3, output_tokens=2)),
        (
            {"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623},
            Usage(input_tokens=20, output_tokens=603),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 1,
                "total_tokens": 10,
                "prompt_tokens_details": {"audio_tokens": 5, "cached_tokens": 4},
            },
            Usage(input_tokens=9, output_tokens=1, audio_input_tokens=5, cached_input_tokens=4),
        ),
        ({"prompt_tokens": 3}, None),
        ({"prompt_tokens": -3, "completion_tokens": 2}, None),
        ({"prompt_tokens": "3", "completion_tokens": 2}, None),
        ({"prompt_tokens": True, "completion_tokens": 2}, None),
        (None, None),
        ([], None),
    ],
)
def test_tokens_are_counted_as_they_are_billed(data: object, expected: Usage | None) -> None:
    assert read_usage(data) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.org",
        "ftp://h/v1",
        "http://",
        "https://me:secret@h/v1",
        "https://h/v1?key=s",
    ],
)
def test_a_url_that_cannot_be_or_carries_a_secret_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="expected") as caught:
        OpenAIEndpoint("m", base_url=url, key_variable=None)
    assert "secret" not in str(caught.value)


def test_a_missing_key_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(UserError, match="SOME_KEY"):
        OpenAIEndpoint("m", key_variable="SOME_KEY")
    monkeypatch.setenv("SOME_KEY", "sk-with-ümlaut-123")
    with pytest.raises(UserError, match="printable ASCII") as caught:
        OpenAIEndpoint("m", key_variable="SOME_KEY")
    assert "mlaut" not in str(caught.value)
