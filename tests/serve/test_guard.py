"""Who may ask: hosts, origins, tokens, addresses."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from examples.studio_client import Client, ServerError
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from starlette.types import Message

from omni2sound.errors import UserError
from omni2sound.serve.app import create_app
from omni2sound.serve.context import Settings
from omni2sound.serve.guard import HEADERS, Access
from omni2sound.serve.limits import BODY_BYTES
from omni2sound.serve.run import check_address
from tests.serve.served import ServerThread

TOKEN = "a token of the test"


def _status(headers: dict[str, str], *, token: str | None = None, path: str = "/v1/jobs") -> int:
    refusal = Access("127.0.0.1", token).refusal("POST", path, {"host": "localhost:1"} | headers)
    return 200 if refusal is None else refusal[0]


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {}),
        (200, {"host": "127.0.0.1:8765", "origin": "http://127.0.0.1:8765"}),
        (200, {"host": "[::1]:8765"}),
        (421, {"host": "evil.example"}),
        (421, {"host": "localhost.evil.example"}),
        (421, {"host": ""}),
        (421, {"host": "127.0.0.1@evil.example"}),
        (421, {"host": "[::1"}),
        (403, {"origin": "https://evil.example"}),
        (403, {"origin": "null"}),
        (403, {"origin": "http://["}),
        (403, {"origin": "http://localhost:2"}),
        (403, {"sec-fetch-site": "cross-site"}),
        (403, {"sec-fetch-site": "same-site"}),
        (200, {"sec-fetch-site": "same-origin"}),
    ],
)
def test_only_pages_of_this_server_may_ask(status: int, headers: dict[str, str]) -> None:
    assert _status(headers) == status


@settings(max_examples=25)
@given(st.text(max_size=40))
def test_without_the_token_nothing_passes(given_token: str) -> None:
    headers = {"authorization": f"Bearer {given_token}", "cookie": f"omni2sound_session={TOKEN}"}
    assert _status(headers, token=TOKEN) == (200 if given_token.strip() == TOKEN else 401)


def test_the_cookie_opens_what_the_token_opens() -> None:
    session = Access("127.0.0.1", TOKEN).session()
    assert TOKEN not in session
    assert _status({"cookie": f"a=b; omni2sound_session={session}"}, token=TOKEN) == 200
    assert _status({}, token=TOKEN, path="/v1/login") == 200


def test_the_token_is_exchanged_for_a_cookie(tmp_path: Path) -> None:
    app = create_app(Settings(folder=tmp_path, token=TOKEN))
    browser = TestClient(app, base_url="http://127.0.0.1:8765")
    assert browser.get("/").status_code == 200
    assert browser.get("/v1/jobs").status_code == 401
    assert browser.post("/v1/login", json={"token": "another one"}).status_code == 401
    answer = browser.post("/v1/login", json={"token": TOKEN})
    assert answer.status_code == 204
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=strict" in answer.headers["set-cookie"]
    assert browser.get("/v1/jobs").json() == []


def test_an_address_that_others_reach_needs_a_flag_and_a_token() -> None:
    check_address("127.0.0.1", None, allow_remote=False)
    check_address("0.0.0.0", TOKEN, allow_remote=True)
    for host, token, allowed in (
        ("0.0.0.0", TOKEN, False),
        ("192.0.2.1", None, True),
        ("127.0.0.1", "short", False),
    ):
        with pytest.raises(UserError):
            check_address(host, token, allow_remote=allowed)


def test_answers_outside_the_routes_have_the_form_of_all_others(tmp_path: Path) -> None:
    app = create_app(Settings(folder=tmp_path, token=TOKEN))
    app.add_api_route("/v1/broken", lambda: 1 // 0)
    address = "http://127.0.0.1:8765"
    browser = TestClient(app, base_url=address, raise_server_exceptions=False)
    assert browser.post("/v1/jobs", content=bytes(BODY_BYTES + 1)).status_code == 401
    assert browser.get("/v1/jobs", headers={"origin": "http://["}).status_code == 403
    browser.headers["authorization"] = f"Bearer {TOKEN}"
    answers = {
        500: browser.get("/v1/broken"),
        413: browser.post("/v1/jobs", content=bytes(BODY_BYTES + 1)),
        403: browser.get("/v1/jobs", headers={"origin": "http://["}),
    }
    told = browser.get("/metrics").text
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.json()["error"]["message"]
        assert HEADERS.items() <= dict(answer.headers).items()
        assert f'http_requests_total{{status="{status}"}}' in told


def test_the_call_that_waits_reads_no_more_json_than_other_routes(tmp_path: Path) -> None:
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/audio/generate", "headers": headers}
    num_read, statuses = 0, []

    async def receive() -> Message:
        nonlocal num_read
        num_read += 2**16
        return {"type": "http.request", "body": bytes(2**16), "more_body": num_read < 2**24}

    async def send(message: Message) -> None:
        statuses.append(message.get("status"))

    app = create_app(Settings(folder=tmp_path))
    asyncio.run(app({**scope, "query_string": b"", "client": None}, receive, send))
    assert statuses[0] == 413
    assert num_read <= BODY_BYTES + 2**16


def test_the_call_that_waits_leaves_no_file_of_what_it_refuses(tmp_path: Path, film: bytes) -> None:
    browser = TestClient(create_app(Settings(folder=tmp_path)), base_url="http://127.0.0.1:8765")
    asked = {"request": '{"prompt": "rain", "takes": 2}'}
    answer = browser.post("/v1/audio/generate", data=asked, files={"file": ("film.mp4", film)})
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == "takes"
    assert not [*(tmp_path / "media").iterdir()]


def test_every_answer_has_the_headers_also_a_refusal(server: ServerThread) -> None:
    client = Client(server.address)
    client._headers["Origin"] = "https://evil.example"
    with pytest.raises(ServerError) as refusal:
        client.json("GET", "/v1/health")
    assert refusal.value.status == 403
    browser = TestClient(server.app, base_url=server.address)
    refused = browser.get("/v1/health", headers={"origin": "https://evil.example"})
    assert HEADERS.items() <= dict(refused.headers).items()
    with Client(server.address).open("GET", "/v1/health") as answer:
        assert {k: v for k, v in answer.headers.items() if k in HEADERS} == HEADERS
        assert "access-control-allow-origin" not in answer.headers
