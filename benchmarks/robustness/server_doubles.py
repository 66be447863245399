"""Doubles of six OpenAI-compatible servers, as their documentation and bug trackers describe them.

    async with ServerDouble("vllm", say, max_pictures=2) as server: ... server.url ...

What each does, and who says so:

* vLLM: `At most 2 image(s) may be provided in one request.` with status 400 (vllm#9739, #17092);
  a reasoning parser that leaves `content` null and the answer in `reasoning_content` (vllm#17349),
  called `reasoning` since (vllm-ascend#10940); without a parser thoughts stand in `content`, with
  or without their opening tag (vllm#21130, #22507).
* SGLang: sounds as `audio_url` only, `input_audio` fails validation (sglang#33606); `matched_stop`.
* llama.cpp: `unsupported content[].type` for `audio_url` with 400, `audio input is not supported`
  with 500 (llamafile#960); a grammar that leaks into `reasoning_content` (llama.cpp#22537).
* Ollama: thoughts in `reasoning` (ollama#15288); a sound that is dropped without a word, which only
  the count of prompt tokens gives away (ollama#17730).
* Gemini: errors as a list of one; a wrong key with 400 (timesketch#3703); thoughts that count
  towards the limit, so that a message may come without content (helm#3804), and that only
  `total_tokens` counts; fields that it does not know are rejected.
* OpenAI: audio models without `json_schema` (simonw/llm#794) and without pictures; refusals.

A model says what `say` returns for a request; the server adds its own habits, counts what it bills
and remembers when it was busy and which keys it saw. Pictures and sounds cost tokens.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from benchmarks.robustness.llm_server import LoopbackServer, _response

Kind = Literal["vllm", "sglang", "llama.cpp", "ollama", "gemini", "openai"]
KINDS: tuple[Kind, ...] = ("vllm", "sglang", "llama.cpp", "ollama", "gemini", "openai")
AUDIO_FORM: dict[Kind, str] = {**dict.fromkeys(KINDS, "input_audio"), "sglang": "audio_url"}
STRUCTURED: dict[Kind, str] = {**dict.fromkeys(KINDS, "json_schema"), "openai": "text"}
"""The setting with which each server takes sounds and forms."""
IMAGE_TOKENS, AUDIO_TOKENS = 258, 320
_TOKENS_A_WORD = 1.3
_GEMINI_FIELDS = {
    *("model", "messages", "max_completion_tokens", "max_tokens", "temperature", "seed"),
    *("response_format", "reasoning_effort", "extra_body", "stream", "n", "stop", "top_p"),
}


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a model says."""

    text: Any = ""
    """Text, or content parts."""
    thoughts: str = ""
    thinking_tokens: int | None = None
    """Tokens of hidden thoughts; None counts the words of `thoughts`."""
    finish: str | None = "stop"
    refusal: str | None = None
    usage: bool = True
    thoughts_in_content: bool = False
    """Whether there is no reasoning parser: thoughts stand before the text, between tags."""
    answer_in_thoughts: bool = False
    """Whether the server puts all text where thoughts belong."""
    body: bytes | None = None
    """Sent as it is in place of a completion."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request that reached the double."""

    key: str
    role: str
    start_s: float
    end_s: float
    status: int
    billed: bool
    cut: bool
    body: Mapping[str, Any] = field(repr=False)


class ServerDouble(LoopbackServer):
    """One of the six, on a free port of 127.0.0.1."""

    def __init__(
        self,
        kind: Kind,
        say: Callable[[dict[str, Any]], Said],
        *,
        delay_s: float = 0.0,
        max_pictures: int | None = None,
        key: str | None = None,
        hears: bool = True,
        role_of: Callable[[dict[str, Any]], str] = lambda body: "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args.

        kind: Which server.
        say: What the model says to a body.
        delay_s: Before each reply.
        max_pictures: Most pictures of a request; None is no limit.
        key: The only key that is accepted; None takes any.
        hears: Whether the model has ears.
        role_of: Who asks, from a body.
        clock: In seconds.
        """
        super().__init__(delay_s=delay_s, keep=False)
        self.kind, self.say, self.max_pictures, self.key = kind, say, max_pictures, key
        self.hears, self.role_of, self.clock = hears, role_of, clock
        self.calls: list[Call] = []

    async def _respond(
        self, body: dict[str, Any], headers: dict[str, str], writer: asyncio.StreamWriter
    ) -> None:
        start_s = self.clock()
        key = headers.get("authorization", "").removeprefix("Bearer ")
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        problem = self._problem(body, key)
        said, billed = None, False
        if problem is not None:
            status, data = problem
            response = _response(status, data)
        else:
            said = self._capped(body, self.say(body))
            status, billed = 200, True
            response = _response(200, self._completion(body, said))
            if said.body is not None:
                head = f"HTTP/1.1 200 .\r\nContent-Length: {len(said.body)}\r\n\r\n"
                response = head.encode() + said.body
        self.num_requests += 1
        self.calls.append(
            Call(
                key=key,
                role=self.role_of(body),
                start_s=start_s,
                end_s=self.clock(),
                status=status,
                billed=billed,
                cut=said is not None and said.finish == "length",
                body=body,
            )
        )
        writer.write(response)
        await writer.drain()

    # ---- what is rejected

    def _problem(self, body: dict[str, Any], key: str) -> tuple[int, Any] | None:
        parts = _parts(body)
        count = Counter(part["type"] for part in parts)
        if self.key is not None and key != self.key:
            return self._error(401, "Incorrect API key provided", "invalid_api_key")
        if self.max_pictures is not None and count["image_url"] > self.max_pictures:
            return self._error(
                400, f"At most {self.max_pictures} image(s) may be provided in one request."
            )
        form = body.get("response_format", {}).get("type")
        if self.kind == "sglang" and count["input_audio"]:
            return self._error(400, "1 validation error: Input should be 'audio_url'")
        if self.kind in ("llama.cpp", "ollama", "openai", "gemini") and count["audio_url"]:
            return self._error(400, "unsupported content[].type")
        if self.kind == "llama.cpp" and count["input_audio"] and not self.hears:
            told = "audio input is not supported - hint: you may need to provide the mmproj"
            return self._error(500, told, "server_error")
        if self.kind in ("vllm", "sglang") and not self.hears and _sounds(parts):
            return self._error(400, "At most 0 audio(s) may be provided in one request.")
        if self.kind == "openai" and form == "json_schema":
            told = "Invalid parameter: 'response_format' of type 'json_schema' is not supported"
            return self._error(400, f"{told} with this model.", "invalid_request_error")
        if self.kind == "gemini" and (unknown := set(body) - _GEMINI_FIELDS):
            told = f'Invalid JSON payload received. Unknown name "{min(unknown)}": Cannot find'
            return self._error(400, f"{told} field.")
        return None

    def _error(self, status: int, message: str, code: str | None = None) -> tuple[int, Any]:
        if self.kind in ("vllm", "sglang"):
            kind = "BadRequestError"
            data = {"object": "error", "message": message, "type": kind, "param": None}
            return status, {**data, "code": status}
        if self.kind == "gemini":
            if code == "invalid_api_key":
                status, message = 400, "API key not valid. Please pass a valid API key."
            error = {"code": status, "message": message, "status": "INVALID_ARGUMENT"}
            return status, [{"error": error}]
        return status, {"error": {"message": message, "type": "error", "code": code or status}}

    # ---- what is said

    def _capped(self, body: dict[str, Any], said: Said) -> Said:
        """Cut what goes over the limit of tokens; thoughts come first."""
        cap = body.get("max_completion_tokens", body.get("max_tokens", 10**6))
        thinking = _thinking(said)
        if not isinstance(said.text, str) or thinking + _tokens(said.text) <= cap:
            return said
        left = max(0, int((cap - thinking) / _TOKENS_A_WORD))
        words = said.text.split(" ")[:left]
        return replace(
            said, text=" ".join(words), finish="length", thinking_tokens=min(thinking, cap)
        )

    def _completion(self, body: dict[str, Any], said: Said) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": said.text}
        thoughts = "reasoning" if self.kind == "ollama" else "reasoning_content"
        if said.refusal is not None:
            message = {"role": "assistant", "content": None, "refusal": said.refusal}
        elif said.answer_in_thoughts:
            blank = "" if self.kind in ("llama.cpp", "ollama") else None
            message = {"role": "assistant", "content": blank, thoughts: said.text}
        elif said.thoughts and self.kind not in ("gemini", "openai"):
            if said.thoughts_in_content and isinstance(said.text, str):
                message["content"] = f"<think>\n{said.thoughts}\n</think>\n\n{said.text}"
            else:
                message[thoughts] = said.thoughts
        if said.text == "" and self.kind == "gemini":
            del message["content"]
        choice = {"index": 0, "message": message, "finish_reason": said.finish}
        if self.kind == "sglang":
            choice["matched_stop"] = None
        data = {"id": "1", "object": "chat.completion", "model": body["model"], "choices": [choice]}
        if said.usage:
            data["usage"] = self._usage(body, said)
        return data

    def _usage(self, body: dict[str, Any], said: Said) -> dict[str, Any]:
        parts = _parts(body)
        prompt = sum(_tokens(str(part.get("text", ""))) for part in parts)
        prompt += IMAGE_TOKENS * sum(part["type"] == "image_url" for part in parts)
        prompt += AUDIO_TOKENS * _sounds(parts) * self.hears
        visible, thinking = _tokens(json.dumps(said.text)), _thinking(said)
        counted = visible if self.kind == "gemini" else visible + thinking
        usage: dict[str, Any] = {
            "prompt_tokens": prompt,
            "completion_tokens": counted,
            "total_tokens": prompt + visible + thinking,
        }
        if self.kind == "openai":
            usage["prompt_tokens_details"] = {"audio_tokens": AUDIO_TOKENS * _sounds(parts)}
        return usage

    # ---- what happened

    @property
    def billed(self) -> int:
        """Number of calls that cost something."""
        return sum(call.billed for call in self.calls)

    def busy_s(self) -> float:
        """Time in which at least one call was under way."""
        busy, until = 0.0, float("-inf")
        for call in sorted(self.calls, key=lambda c: c.start_s):
            busy += max(0.0, call.end_s - max(call.start_s, until))
            until = max(until, call.end_s)
        return busy


def _parts(body: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for message in body["messages"]:
        content = message["content"]
        found += [{"type": "text", "text": content}] if isinstance(content, str) else content
    return found


def _sounds(parts: list[dict[str, Any]]) -> int:
    return sum(part["type"] in ("input_audio", "audio_url") for part in parts)


def _thinking(said: Said) -> int:
    return _tokens(said.thoughts) if said.thinking_tokens is None else said.thinking_tokens


def _tokens(text: str) -> int:
    return round(_TOKENS_A_WORD * len(text.split(" "))) if text else 0
