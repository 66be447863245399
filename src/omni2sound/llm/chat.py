"""What is asked of a chat model, and what comes back.

In:   texts, encoded pictures and encoded sounds, by role; the form that the answer must have.
Out:  `ChatRequest`, `ChatReply`; the protocols `ChatModel` (for those who ask) and
      `ChatEndpoint` (for those who bring a new kind of server).

    request = ChatRequest(
        messages=(system("You describe sounds."), user("What is heard?", AudioPart(...))),
        prompt_version="junior/1",
        max_output_tokens=512,
        answer=Caption,                 # a pydantic model, or None for free text
        label="clip-0001",              # for people; not part of the question
    )
    reply = await model.ask(request)    # Refused, Malformed, Unavailable, BudgetExceeded
    caption = reply.parsed(Caption)

What not to get wrong: whatever can change the answer is a field here (and so part of the
content key, `keys.py`); whatever can't (time-outs, retries, concurrency) is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from pydantic import BaseModel

from omni2sound.errors import UserError
from omni2sound.llm.answers import parse_answer

__all__ = [
    "AudioPart",
    "ChatEndpoint",
    "ChatModel",
    "ChatReply",
    "ChatRequest",
    "ImagePart",
    "Message",
    "ModelId",
    "Part",
    "SendFailed",
    "TextPart",
    "Usage",
    "assistant",
    "system",
    "user",
]

Answer = TypeVar("Answer", bound=BaseModel)


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPart:
    """Words."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagePart:
    """One picture, encoded."""

    data: bytes = field(repr=False)
    media_type: Literal["image/png", "image/jpeg"]
    detail: Literal["auto", "low", "high"] = "auto"
    """How closely to look, where an endpoint knows the option."""

    def __post_init__(self) -> None:
        if self.media_type not in ("image/png", "image/jpeg"):
            raise UserError(f"picture of type {self.media_type!r}: expected PNG or JPEG")


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioPart:
    """One sound, encoded."""

    data: bytes = field(repr=False)
    format: Literal["wav", "mp3"]
    duration_s: float
    """For the estimate of what it will cost."""

    def __post_init__(self) -> None:
        if self.format not in ("wav", "mp3"):
            raise UserError(f"sound of format {self.format!r}: expected wav or mp3")
        if not 0 < self.duration_s < float("inf"):
            raise UserError(f"sound of {self.duration_s} s: expected more than 0")


Part = TextPart | ImagePart | AudioPart


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise UserError(f"message of {self.role}: expected at least one part, got none")


def system(text: str) -> Message:
    """What the model is told about its task."""
    return Message(role="system", parts=(TextPart(text=text),))


def user(*parts: Part | str) -> Message:
    """What the model is asked: texts, pictures and sounds in order."""
    return Message(role="user", parts=tuple(_part(part) for part in parts))


def assistant(text: str) -> Message:
    """What the model said in an earlier turn."""
    return Message(role="assistant", parts=(TextPart(text=text),))


def _part(part: Part | str) -> Part:
    return TextPart(text=part) if isinstance(part, str) else part


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatRequest:
    """One question, complete: a model gets nothing else to know."""

    messages: tuple[Message, ...]
    prompt_version: str
    """Which prompt this is, "junior/3": costs are summed by it, and it is part of the key."""
    max_output_tokens: int
    """A hard limit, reasoning included; also what an unanswered call may have cost."""
    answer: type[BaseModel] | None = None
    """The form of the answer; its JSON schema is sent, and replies are checked against it."""
    temperature: float | None = None
    """None leaves the endpoint's own."""
    seed: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Sent as it is in the body, for options that one endpoint has (a cap on reasoning)."""
    take: int = 0
    """To ask the same thing again and get a second answer."""
    label: str = ""
    """For people who look into the store, a clip's name; not part of the question."""

    def __post_init__(self) -> None:
        if not self.messages:
            raise UserError("request without messages: expected at least one")
        if not self.prompt_version:
            raise UserError('request without prompt_version: expected a name like "junior/1"')
        if self.max_output_tokens < 1:
            raise UserError(f"max_output_tokens={self.max_output_tokens}: expected 1 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Tokens as the endpoint counted them; None where it did not say."""

    input_tokens: int
    """All of them: those of sounds and those read from a cache too."""
    output_tokens: int
    """All of them: reasoning too."""
    audio_input_tokens: int | None = None
    cached_input_tokens: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatReply:
    """What came back."""

    text: str
    usage: Usage | None = None
    finish: str = "stop"
    """Why it ended: "stop", "length" (cut off), "content_filter"."""
    refusal: str | None = None
    """In the model's words, if it declined. `ChatModel.ask` raises `Refused` then."""
    from_store: bool = False
    """Nothing was sent: this had been answered before."""

    def parsed(self, answer: type[Answer]) -> Answer:
        """The text as an instance of `answer`.

        Raises:
            Malformed: It is not one. Not after `ask` with a request for the same `answer`.
        """
        return parse_answer(self.text, answer)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelId:
    """Which weights answer, and where."""

    endpoint: str
    """Base URL without credentials; "local" for what runs in this process."""
    model: str

    def __str__(self) -> str:
        return f"{self.model} at {self.endpoint}"


class ChatModel(Protocol):
    """For those who ask: one call is one settled answer, or one error."""

    @property
    def id(self) -> ModelId:
        """Which model this is."""
        ...

    async def ask(self, request: ChatRequest) -> ChatReply:
        """Answer, from the store or from the model.

        Raises:
            Refused: The model declined.
            Malformed: No usable reply in the allowed number of tries.
            Unavailable: The endpoint failed in every allowed try.
            BudgetExceeded: The limit leaves no room for this call.
            UserError: The endpoint says that the request, the model's name or the key is wrong.
        """
        ...


class SendFailed(Exception):
    """One send brought no reply. Says whether it may have been billed all the same."""

    def __init__(
        self,
        reason: str,
        *,
        maybe_billed: bool,
        transient: bool,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.maybe_billed = maybe_billed
        self.transient = transient
        """Worth another try, unchanged."""
        self.retry_after_s = retry_after_s
        """How long the endpoint wants to be left alone."""


class ChatEndpoint(Protocol):
    """For those who bring a new kind of server: one call is one send, and may cost money."""

    @property
    def id(self) -> ModelId:
        """Which model this is."""
        ...

    async def send(self, request: ChatRequest) -> ChatReply:
        """Send once. Refusals and cut-off replies are returned: they cost money too.

        Raises:
            SendFailed: No reply.
        """
        ...
