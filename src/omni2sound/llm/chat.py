"""Requests to chat models, replies, and the protocols between them.

In:   texts, encoded pictures and encoded sounds, by role; the form of the answer.
Out:  `ChatRequest`, `ChatReply`; the protocols `ChatModel` (for callers) and `ChatEndpoint` (for a
      new kind of server).

    request = ChatRequest(
        messages=(system("You describe sounds."), user("What is heard?", AudioPart(...))),
        prompt_version="junior/1",
        max_output_tokens=512,
        answer=Caption,                 # a pydantic model, or None for free text
        label="clip-0001",              # for inspection; not part of the key
    )
    reply = await model.ask(request)    # Refused, Malformed, Unavailable, BudgetExceeded
    caption = reply.parsed(Caption)

What not to get wrong: everything that can change the answer is a field here and so part of the
content key (`content_key.py`); everything else (time-outs, retries, concurrency) is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from pydantic import BaseModel

from omni2sound.errors import UserError
from omni2sound.llm.answers import parse_answer

Answer = TypeVar("Answer", bound=BaseModel)


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPart:
    """Text."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagePart:
    """Encoded picture."""

    data: bytes = field(repr=False)
    media_type: Literal["image/png", "image/jpeg"]
    detail: Literal["auto", "low", "high"] = "auto"
    """Resolution, where an endpoint knows the option."""

    def __post_init__(self) -> None:
        if self.media_type not in ("image/png", "image/jpeg"):
            raise UserError(f"picture of type {self.media_type!r}: expected PNG or JPEG")


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioPart:
    """Encoded sound."""

    data: bytes = field(repr=False)
    format: Literal["wav", "mp3"]
    duration_s: float
    """For the estimate of the cost."""

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
    """Build a system message."""
    return Message(role="system", parts=(TextPart(text=text),))


def user(*parts: Part | str) -> Message:
    """Build a user message of texts, pictures and sounds in order."""
    return Message(role="user", parts=tuple(_part(part) for part in parts))


def assistant(text: str) -> Message:
    """Build a message from an earlier turn of the model."""
    return Message(role="assistant", parts=(TextPart(text=text),))


def _part(part: Part | str) -> Part:
    return TextPart(text=part) if isinstance(part, str) else part


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatRequest:
    """Complete request; the model gets nothing else."""

    messages: tuple[Message, ...]
    prompt_version: str
    """Name of the prompt, "junior/3": part of the key; costs are summed by it."""
    max_output_tokens: int
    """Hard limit, reasoning included; bounds the cost of an unanswered call."""
    answer: type[BaseModel] | None = None
    """Form of the answer; its JSON schema is sent and checked."""
    temperature: float | None = None
    """None takes the endpoint's default."""
    seed: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Extra fields of the body, for options of one endpoint (a cap on reasoning)."""
    take: int = 0
    """Number of the sample, for several answers to one request."""
    label: str = ""
    """Name shown in the store, such as the clip's; not part of the key."""

    def __post_init__(self) -> None:
        if not self.messages:
            raise UserError("request without messages: expected at least one")
        if not self.prompt_version:
            raise UserError('request without prompt_version: expected a name like "junior/1"')
        if self.max_output_tokens < 1:
            raise UserError(f"max_output_tokens={self.max_output_tokens}: expected 1 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Tokens as counted by the endpoint; None where it gives no count."""

    input_tokens: int
    """All input tokens, including those of sounds and those from a cache."""
    output_tokens: int
    """All output tokens, including reasoning."""
    audio_input_tokens: int | None = None
    cached_input_tokens: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatReply:
    """Reply of a model."""

    text: str
    usage: Usage | None = None
    finish: str = "stop"
    """Reason of the end: "stop", "length" (cut off), "content_filter"."""
    refusal: str | None = None
    """The model's text if it declined; `ChatModel.ask` then raises `Refused`."""
    malformed: str | None = None
    """Why the reply can't be used; None if it can. It was billed all the same."""
    thoughts: str = field(default="", repr=False)
    """What the model thought, where the endpoint sends it apart; not stored. Some servers put the
    answer itself there."""
    from_store: bool = False
    """Whether the answer came from the store and nothing was sent."""

    def parsed(self, answer: type[Answer]) -> Answer:
        """Parse the text as an `answer`.

        Raises:
            Malformed: It has another form; never after `ask` for the same `answer`.
        """
        return parse_answer(self.text, answer)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelId:
    """Name of a model and its endpoint."""

    endpoint: str
    """Base URL without credentials; "local" for models in this process."""
    model: str

    def __str__(self) -> str:
        return f"{self.model} at {self.endpoint}"


class ChatModel(Protocol):
    """Protocol for callers: one call gives one settled answer or one error."""

    @property
    def id(self) -> ModelId:
        """Name of the model and its endpoint."""

    async def ask(self, request: ChatRequest) -> ChatReply:
        """Answer from the store or from the model.

        Raises:
            Refused: The model declined.
            Malformed: No usable reply in the allowed number of tries (`CutOff`: they were cut).
            Rejected: The endpoint rejects this request; the role has had answers to others.
            Unavailable: The endpoint failed in every allowed try.
            BudgetExceeded: The call could exceed the budget.
            UserError: The endpoint rejects the model's name, the key, or the first requests of the
                role alike; or most replies are cut.
        """


class SendFailed(Exception):
    """A send brought no reply, but may have been billed."""

    def __init__(
        self,
        reason: str,
        *,
        maybe_billed: bool,
        transient: bool,
        retry_after_s: float | None = None,
        of_request: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.maybe_billed = maybe_billed
        self.transient = transient
        """Whether the same send may succeed later."""
        self.retry_after_s = retry_after_s
        """Pause that the endpoint requested."""
        self.of_request = of_request
        """Whether the endpoint rejects what is in this request, such as a sound or its length."""


class ChatEndpoint(Protocol):
    """Protocol for a new kind of server: one call is one send and may cost money."""

    @property
    def id(self) -> ModelId:
        """Name of the model and its endpoint."""

    async def send(self, request: ChatRequest) -> ChatReply:
        """Send once; refusals and cut-off replies are returned, because they are billed too.

        Raises:
            SendFailed: No reply.
        """
