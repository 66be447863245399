"""An OpenAI-compatible server on this machine that misbehaves, and counts what it bills.

    async with LoopbackServer(faults=Faults(...), seed=0) as server: ... server.url ...
    async with FixedServer(closing(completion("text"))) as server: ... server.url ...

Which fault meets a request is drawn from (seed, question, how often it was asked), so the
same run meets the same faults whatever its order. Unless told otherwise, a question is the last
text of the last user message. Whatever is billed is written down before the first byte of the
reply leaves. A `FixedServer` gives one response to everything.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import TracebackType
from typing import Any, Self

USD_PER_MTOK = {"loopback": (2, 8), "loopback-senior": (8, 32)}
"""Of input and output tokens, by model."""
PRICES = "".join(
    f"""
[[price]]
endpoint = "127.0.0.1"
model = "{model}"
read_on = 2026-11-24
source = "https://example.org/prices"
input = "{per_input}"
output = "{per_output}"
"""
    for model, (per_input, per_output) in USD_PER_MTOK.items()
)
"""A price file for this server; what it bills, it bills by this."""


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Shares of requests that meet a fault; the rest is answered."""

    busy: float = 0.0
    """429 with Retry-After in seconds, not billed."""
    busy_date: float = 0.0
    """429 with Retry-After as a date, not billed."""
    broken: float = 0.0
    """500, billed."""
    broken_free: float = 0.0
    """500, not billed."""
    hang: float = 0.0
    """Billed, and never answered."""
    cut: float = 0.0
    """Billed; the connection closes in the middle of the body."""
    no_json: float = 0.0
    """Billed; the body is not JSON."""
    malformed: float = 0.0
    """Billed; the answer is not what was asked for."""
    refusal: float = 0.0
    """Billed; the model declines."""
    slow: float = 0.0
    """Billed and answered, in a trickle of bytes."""
    no_usage: float = 0.0
    """Billed and answered, without the tokens."""


EVERYTHING = Faults(
    busy=0.03, busy_date=0.005, broken=0.02, broken_free=0.02, hang=0.005, cut=0.02,
    no_json=0.02, malformed=0.05, refusal=0.02, slow=0.03, no_usage=0.02,
)  # fmt: skip


@dataclass(kw_only=True)
class Seen:
    """One request."""

    question: str
    fault: str
    billed_pusd: int
    complete: bool = False
    """All bytes of the reply left for the client."""
    body: dict[str, Any] = field(repr=False)
    headers: dict[str, str] = field(repr=False)


class LoopbackServer:
    """Listens on a free port of 127.0.0.1 while its `async with` lasts."""

    def __init__(
        self,
        *,
        faults: Faults | None = None,
        seed: int = 0,
        answer: Callable[[str], str] | None = None,
        question_of: Callable[[dict[str, Any]], str] | None = None,
        echo_key: bool = False,
        delay_s: float = 0.0,
        keep: bool = True,
        retry_after_s: int = 0,
    ) -> None:
        """Args.

        faults: None for a server that behaves.
        seed: Of the faults.
        answer: From a question (with the key, if it is echoed) to the content of the reply.
        question_of: From the body of a request to what it asks.
        echo_key: Whether errors and replies repeat the key, as some servers do.
        delay_s: Before each reply.
        keep: Whether requests are kept in `seen`; a server asked for hours should not.
        retry_after_s: What a 429 says.
        """
        self.faults, self.seed = faults or Faults(), seed
        self.answer = answer or (lambda question: json.dumps({"caption": f"about {question}"}))
        self.question_of = question_of or _question
        self.echo_key, self.delay_s, self.keep = echo_key, delay_s, keep
        self.retry_after_s = retry_after_s
        self.seen: list[Seen] = []
        self.num_asked: Counter[str] = Counter()
        self.num_requests = 0
        self.billed_pusd = 0
        self.in_flight = self.most_in_flight = 0
        self.after_reply: Callable[[Seen], None] = lambda seen: None
        """Called when the last byte of a reply has left."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        self._connections: set[asyncio.Task[None]] = set()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    def fault_of(self, question: str, time: int) -> str:
        """What meets `question` when it is asked for the `time`-th time, from 1."""
        digest = hashlib.sha256(f"{self.seed}/{question}/{time}".encode()).digest()
        draw = int.from_bytes(digest[:8], "big") / 2**64
        for option in fields(self.faults):
            draw -= getattr(self.faults, option.name)
            if draw < 0:
                return option.name
        return "none"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                pairs = (line.split(":", 1) for line in head[1:] if line)
                headers = {name.strip().lower(): value.strip() for name, value in pairs}
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                try:
                    await self._respond(body, headers, writer)
                finally:
                    self.in_flight -= 1
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client is gone, or the server is closing
        finally:
            self._connections.discard(task)
            writer.close()

    async def _respond(
        self, body: dict[str, Any], headers: dict[str, str], writer: asyncio.StreamWriter
    ) -> None:
        question = self.question_of(body)
        self.num_asked[question] += 1
        self.num_requests += 1
        fault = self.fault_of(question, self.num_asked[question])
        key = headers.get("authorization", "").removeprefix("Bearer ")
        echo = f" (key {key})" if self.echo_key else ""
        prompt_tokens = sum(len(_text(message)) for message in body["messages"]) // 4 + 1
        completion_tokens = 5 + len(question) % 7
        billed = fault not in ("busy", "busy_date", "broken_free")
        per_input, per_output = USD_PER_MTOK[body["model"]]
        picodollars = 10**6 * (prompt_tokens * per_input + completion_tokens * per_output)
        seen = Seen(
            question=question,
            fault=fault,
            billed_pusd=picodollars if billed else 0,
            body=body,
            headers=headers,
        )
        if self.keep:
            self.seen.append(seen)
        self.billed_pusd += seen.billed_pusd
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if fault in ("busy", "busy_date"):
            after = str(self.retry_after_s)
            if fault == "busy_date":
                moment = datetime.now(UTC) + timedelta(seconds=self.retry_after_s)
                after = format_datetime(moment, usegmt=True)
            error = {"error": {"message": f"slow down{echo}", "code": "rate_limit_exceeded"}}
            writer.write(_response(429, error, f"Retry-After: {after}\r\n"))
        elif fault in ("broken", "broken_free"):
            writer.write(_response(500, {"error": {"message": f"internal error{echo}"}}))
        elif fault == "hang":
            await asyncio.sleep(3600)
        elif fault == "no_json":
            writer.write(_http(200, f"<html>{echo}".encode()))
        else:
            message: dict[str, Any] = {"role": "assistant", "content": self.answer(question + echo)}
            if fault == "malformed":
                message["content"] = '{"caption": "unfinished' + echo
            elif fault == "refusal":
                message = {"role": "assistant", "content": None, "refusal": f"I can't{echo}"}
            data: dict[str, Any] = {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            }
            if fault != "no_usage":
                data["usage"] = {
                    "prompt_tokens": prompt_tokens,
                    "completion_tokens": completion_tokens,
                    "total_tokens": prompt_tokens + completion_tokens,
                }
            response = _response(200, data)
            if fault == "cut":
                writer.write(response[: len(response) - 20])
                await writer.drain()
                raise ConnectionResetError
            if fault == "slow":
                for start in range(0, len(response), 100):
                    writer.write(response[start : start + 100])
                    await writer.drain()
                    await asyncio.sleep(0.005)
            else:
                writer.write(response)
        await writer.drain()
        seen.complete = True
        self.after_reply(seen)


class FixedServer:
    """Gives one response to everything while its `async with` lasts, and counts what reaches it."""

    def __init__(self, response: bytes) -> None:
        """Args.

        response: Head and content, as `closing` makes them: each connection ends with it.
        """
        self.response = response
        self.num_requests = self.num_bytes = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
            self.num_requests += 1
            self.num_bytes += len(head) + len(await reader.readexactly(int(length or 0)))
            writer.write(self.response)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client is gone
        finally:
            writer.close()


def closing(content: bytes, status: int = 200, headers: str = "") -> bytes:
    """A response after which the connection ends."""
    return _http(status, content, f"Connection: close\r\n{headers}")


def completion(content: Any, **usage: Any) -> bytes:
    """A chat completion of any content; `usage` changes its counts of tokens."""
    counts = {"prompt_tokens": 5, "completion_tokens": 2} | usage
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return json.dumps({"choices": [choice], "usage": counts}).encode()


def _question(body: dict[str, Any]) -> str:
    for message in reversed(body["messages"]):
        if message["role"] == "user" and not isinstance(message["content"], str):
            texts = [part["text"] for part in message["content"] if part["type"] == "text"]
            if texts:
                return str(texts[-1])
    return ""


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def _response(status: int, data: dict[str, Any], headers: str = "") -> bytes:
    return _http(status, json.dumps(data).encode(), headers)


def _http(status: int, content: bytes, headers: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status} .\r\nContent-Type: application/json\r\n{headers}"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content
