"""Probe of an endpoint: what it takes, found out with at most five cheap calls.

In:   `NAME@URL`.
Out:  a `Probe`: findings, and the settings for `annotate run`.

The calls: a form (as a schema, then as a request for JSON), a sound (in up to three forms) and
pictures. All ask the same, so that the counts of tokens tell whether a sound or pictures were taken
or dropped without a word. Nothing is stored, and nothing is retried.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from pydantic import BaseModel

from omni2sound.annotate.chat.models import ChatOptions
from omni2sound.annotate.media import SAMPLE_RATE_HZ, sound_part
from omni2sound.errors import Malformed, UserError
from omni2sound.llm import ChatReply, ChatRequest, ImagePart, SendFailed, user
from omni2sound.llm.answers import parse_answer
from omni2sound.llm.chat import Part
from omni2sound.llm.servers.options import AudioForm, ServerOptions, Structured

if TYPE_CHECKING:
    from omni2sound.llm import OpenAIEndpoint

MAX_CALLS = 5
_CAP = 2048
_PICTURES = 8
"""Frames of a clip with four shots."""
_LEAST_TOKENS = 8
"""A sound or a picture costs more tokens than this, or it was dropped."""
_TEXT = "What do you get here, beside this text? Answer with one word; with none if nothing."


class WordAnswer(BaseModel):
    """One word."""

    word: str


@dataclass(kw_only=True, slots=True)
class Probe:
    """What an endpoint takes."""

    model: str
    host: str
    num_calls: int = 0
    options: ServerOptions = field(default_factory=ServerOptions)
    counts_tokens: bool = False
    hears: bool = False
    sound: str = ""
    max_pictures: int | None = None
    pictures: str = ""
    thinking_tokens: int = 0
    cut: bool = False

    @property
    def settings(self) -> list[str]:
        """Options of `annotate run`."""
        found = [
            f"--structured {self.host}={self.options.structured}",
            f"--audio-part {self.host}={self.options.audio_part}",
        ]
        if self.max_pictures is not None:
            found.append(f"--max-pictures {self.host}={self.max_pictures}")
        if self.thinking_tokens or self.cut:
            most = max(2000, 2 * self.thinking_tokens + 1000) if not self.cut else 4 * _CAP
            found += [f"--cap {role}={most}" for role in ("junior", "validator")]
        return found

    def __str__(self) -> str:
        thoughts = f"about {self.thinking_tokens} tokens a reply, which count towards --cap"
        if self.cut:
            thoughts = f"more than {_CAP} tokens a reply: cap the reasoning with --extra"
        lines = [
            f"{self.model}: {self.num_calls} calls",
            f"structured output: {self.options.structured}",
            f"sound: {self.sound}",
            f"pictures: {self.pictures}",
            f"thoughts: {thoughts if self.thinking_tokens or self.cut else 'none seen'}",
            f"token counts: {'yes' if self.counts_tokens else 'none; costs stay upper bounds'}",
            "settings: " + " ".join(self.settings),
        ]
        return "\n".join(lines)


async def probe_endpoint(name: str, options: ChatOptions) -> Probe:
    """Ask an endpoint up to five times.

    Raises:
        UserError: The name is malformed; or the endpoint does not answer, or rejects the model
            or the key.
    """
    model, _, url = name.partition("@")
    if not model or not url:
        raise UserError(f"model {name!r}: expected NAME@URL of an OpenAI-compatible endpoint")
    from omni2sound.llm import OpenAIEndpoint  # needs the extra `annotate`

    endpoint = OpenAIEndpoint(
        model,
        base_url=url,
        key_variable=options.key_of("junior", url),
        timeout_s=options.timeout_s,
    )
    asking = _Asking(name, Probe(model=name, host=urlsplit(url).netloc), endpoint)
    try:
        baseline = await asking.form()
        await asking.listen(baseline)
        await asking.look(baseline)
    finally:
        await endpoint.aclose()
    return asking.found


@dataclass(slots=True)
class _Asking:
    name: str
    found: Probe
    endpoint: OpenAIEndpoint

    async def send(self, *parts: Part) -> ChatReply | SendFailed:
        """Send one request with the settings found so far."""
        self.found.num_calls += 1
        request = ChatRequest(
            messages=(user(_TEXT, *parts),),
            prompt_version="check/1",
            max_output_tokens=_CAP,
            answer=WordAnswer,
        )
        try:
            reply = await self.endpoint.with_options(self.found.options).send(request)
        except SendFailed as error:
            if not error.of_request:
                raise UserError(f"{self.name}: {error.reason}") from None
            return error
        self._note(reply)
        return reply

    def _note(self, reply: ChatReply) -> None:
        found = self.found
        found.cut |= reply.finish == "length"
        if reply.usage is not None:
            found.counts_tokens = True
            visible = len(reply.text.split()) * 2 + 16
            hidden = max(0, reply.usage.output_tokens - visible)
            found.thinking_tokens = max(found.thinking_tokens, hidden)

    async def form(self) -> ChatReply | None:
        """Find the form of answers."""
        forms: tuple[Structured, ...] = ("json_schema", "json_object")
        for form in forms:
            self.found.options = replace(self.found.options, structured=form)
            reply = await self.send()
            if isinstance(reply, ChatReply):
                if not _has_word(reply) and not self.found.cut:
                    self.found.options = replace(self.found.options, structured="text")
                return reply
        self.found.options = replace(self.found.options, structured="text")
        return None

    async def listen(self, baseline: ChatReply | None) -> None:
        """Find the form of sounds."""
        seconds = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
        beeps_N = 0.3 * np.sin(2 * np.pi * 880 * seconds) * (seconds % 0.5 < 0.2)
        part, _ = sound_part(beeps_N.astype(np.float32))
        forms: tuple[AudioForm, ...] = ("input_audio", "audio_url", "data_uri")
        problem = ""
        for form in forms[: MAX_CALLS - 1 - self.found.num_calls]:
            self.found.options = replace(self.found.options, audio_part=form)
            reply = await self.send(part)
            if isinstance(reply, SendFailed):
                problem = problem or reply.reason
                continue
            tokens = _more_tokens(reply, baseline)
            if tokens is not None and tokens < _LEAST_TOKENS:
                problem = f"{form} is dropped without an error (the prompt has no more tokens)"
                continue
            self.found.hears = True
            count = "not counted, so perhaps dropped" if tokens is None else f"{tokens} tokens a s"
            self.found.sound = f"as {form}, {count}"
            return
        self.found.options = replace(self.found.options, audio_part="input_audio")
        self.found.sound = f"not taken: {problem}"

    async def look(self, baseline: ChatReply | None) -> None:
        """Find the number of pictures of a request."""
        for num in (_PICTURES, 1):
            if self.found.num_calls >= MAX_CALLS:
                return
            reply = await self.send(*[_picture(index) for index in range(num)])
            if isinstance(reply, SendFailed):
                self.found.pictures = f"{num} are rejected: {reply.reason}"
                limit = re.search(r"[Aa]t most (\d+) image", reply.reason)
                if limit is not None:
                    self.found.max_pictures = int(limit[1]) or None
                    self.found.pictures = f"at most {limit[1]} a request"
                    return
                continue
            tokens = _more_tokens(reply, baseline)
            if tokens is not None and tokens < _LEAST_TOKENS:
                self.found.pictures = "dropped without an error"
                return
            count = "not counted" if tokens is None else f"{tokens // num} tokens each"
            self.found.pictures = f"{num} a request, {count}"
            self.found.max_pictures = None if num == _PICTURES else 1
            return


def _has_word(reply: ChatReply) -> bool:
    try:
        parse_answer(reply.text if reply.text.strip() else reply.thoughts, WordAnswer)
    except Malformed:
        return False
    return True


def _more_tokens(reply: ChatReply, baseline: ChatReply | None) -> int | None:
    """Count the prompt tokens beyond those of the text; None if they are not counted."""
    if reply.usage is None or baseline is None or baseline.usage is None:
        return None
    return reply.usage.input_tokens - baseline.usage.input_tokens


def _picture(number: int) -> ImagePart:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), (30 * number, 120, 255 - 30 * number)).save(file, format="JPEG")
    return ImagePart(data=file.getvalue(), media_type="image/jpeg", detail="low")
