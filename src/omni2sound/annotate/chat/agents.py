"""Roles played by chat models behind the `ChatModel` protocol.

In:   a `ChatModel` (an API with its store, or a scripted one); works.
Out:  records; a `Failure` where the model refused or its answers were malformed; a `Retry` where
      its endpoint could not be reached.

What not to get wrong: messages hold only what the role may know. Junior and senior get sound and
text; the exception, `shows_frames`, exists to measure its cost in accuracy.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel

from omni2sound.annotate.chat.answers import (
    CaptionAnswer,
    ContextAnswer,
    JudgeAnswer,
    SeniorAnswer,
    ValidatorAnswer,
)
from omni2sound.annotate.chat.prompts import Prompt, load_prompt
from omni2sound.annotate.media import MAX_FPS, SAMPLE_RATE_HZ, clip_sound, shots_of, sound_part
from omni2sound.annotate.records import (
    Caption,
    Failure,
    SeniorCaption,
    Turn,
    Verdict,
    VisualContext,
)
from omni2sound.annotate.roles import Pair, Preference, Results, Retry, SourceClip, Work
from omni2sound.config import to_json
from omni2sound.errors import (
    CutOff,
    Malformed,
    MediaError,
    Refused,
    Rejected,
    Unavailable,
    UserError,
)
from omni2sound.llm import (
    ChatModel,
    ChatRequest,
    ImagePart,
    Message,
    assistant,
    system,
    user,
)

Result = TypeVar("Result")
Item = TypeVar("Item")

REASONING_TOKENS = 128
"""[paper] Cap on the senior's reasoning."""
_ANSWER_TOKENS = 700
_CONTEXT_TOKENS = 900
_FRAME_PX = 360
_FRAMES_PER_SHOT = 2
_FAILURES: dict[type[Exception], Literal["refused", "malformed", "cut", "rejected", "media"]] = {
    Refused: "refused",
    Malformed: "malformed",
    CutOff: "cut",
    Rejected: "rejected",
    MediaError: "media",
}


async def in_parallel(
    function: Callable[[Item], Awaitable[Result]], items: Sequence[Item], *, limit: int
) -> AsyncIterator[tuple[int, Result]]:
    """Yield (index, result) as results come; at most `limit` items are in flight."""
    waiting = iter(enumerate(items))
    running: dict[asyncio.Task[Result], int] = {}

    def start() -> None:
        for place, item in waiting:
            running[asyncio.ensure_future(function(item))] = place
            if len(running) >= limit:
                return

    try:
        start()
        while running:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                place = running.pop(task)
                yield place, task.result()
            start()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Frames:
    """Choice of the frames that a model sees."""

    per_second: float | None = None
    """None takes two of each shot."""
    most: int | None = None
    """Most pictures that its endpoint takes in a request."""

    def __post_init__(self) -> None:
        if self.per_second is not None and not 0 < self.per_second <= MAX_FPS:
            raise UserError(
                f"expected more than 0 and up to {MAX_FPS}, got {self.per_second:g}",
                field="frames_per_second",
            )
        if self.most is not None and self.most < 1:
            raise UserError(f"expected 1 or more, got {self.most}", field="max_pictures")

    @property
    def identity(self) -> list[Any]:
        """Empty for the default, so that earlier results stay valid."""
        return [] if self == Frames() else [to_json(self)]


@dataclass(frozen=True)
class ChatAgent:
    """Base of all roles: a model, a prompt, errors as records."""

    role: ClassVar[str]
    """Name of the prompt."""

    model: ChatModel
    _: KW_ONLY
    concurrency: int = 16
    """Most requests in flight."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Extra fields of the requests' bodies."""
    cap: int | None = None
    """Limit of output tokens, hidden thoughts included; None takes the role's own."""
    prompts: Path | None = None
    """Folder with prompts in place of the bundled ones."""

    @cached_property
    def _prompt(self) -> Prompt:
        return load_prompt(self.role, folder=self.prompts)

    @property
    def prompt_version(self) -> str:
        """Role and digest of the prompt."""
        return self._prompt.version

    @property
    def lanes(self) -> int:
        """One for each request in flight."""
        return self.concurrency

    @property
    def identity(self) -> Any:
        """Model, prompt version and extra fields of the request."""
        return [to_json(self.model.id), self._prompt.version, dict(self.extra)]

    def _request(
        self, clip: SourceClip, messages: Sequence[Message], answer: type[BaseModel], tokens: int
    ) -> ChatRequest:
        return ChatRequest(
            messages=tuple(messages),
            prompt_version=self._prompt.version,
            max_output_tokens=self.cap or tokens,
            answer=answer,
            extra=self.extra,
            label=clip.name,
        )

    def _many(
        self, ask: Callable[[Item], Awaitable[Result]], items: Sequence[Item]
    ) -> Results[Result]:
        async def settled(item: Item) -> Result | Failure | Retry:
            try:
                return await ask(item)
            except (Refused, Malformed, Rejected, MediaError) as error:
                return Failure(kind=_FAILURES[type(error)], reason=str(error))
            except Unavailable as error:
                return Retry(reason=str(error))

        return in_parallel(settled, items, limit=self.concurrency)


@dataclass(frozen=True)
class ChatViewer(ChatAgent):
    """Describes frames shot by shot, without sound."""

    role = "viewer"

    frames: Frames = Frames()

    @property
    def identity(self) -> Any:
        """Adds the choice of frames where it is not the default."""
        return [*super().identity, *self.frames.identity]

    def describe(self, works: Sequence[Work]) -> Results[VisualContext]:
        """See `roles.Viewer`."""
        return self._many(self._describe, works)

    async def _describe(self, work: Work) -> VisualContext:
        parts = await asyncio.to_thread(_pictures, work, self.frames)
        request = self._request(
            work.clip, [system(self._prompt.text), user(*parts)], ContextAnswer, _CONTEXT_TOKENS
        )
        reply = await self.model.ask(request)
        return reply.parsed(ContextAnswer).record()


def _pictures(work: Work, frames: Frames) -> list[ImagePart | str]:
    parts: list[ImagePart | str] = []
    shots = shots_of(
        work.clip,
        height_px=_FRAME_PX,
        frames_per_shot=_FRAMES_PER_SHOT,
        frames_per_second=frames.per_second,
        max_frames=frames.most,
    )
    for number, shot in enumerate(shots, start=1):
        parts.append(f"Shot {number}, {shot.start_s:.2f} to {shot.end_s:.2f} s:")
        parts += [_jpeg(frame) for frame in shot.frames_THWC]
    return parts


def _jpeg(frame_HWC: NDArray[np.uint8]) -> ImagePart:
    file = io.BytesIO()
    Image.fromarray(frame_HWC).save(file, format="JPEG", quality=85)
    return ImagePart(data=file.getvalue(), media_type="image/jpeg", detail="low")


@dataclass(frozen=True)
class ChatJunior(ChatAgent):
    """Captions from the clip's sound and the visual context."""

    role = "junior"

    shows_frames: bool = False
    """Adds frames to the request, to measure their effect."""
    frames: Frames = Frames()

    @property
    def identity(self) -> Any:
        """Adds whether it gets frames."""
        frames = self.frames.identity if self.shows_frames else []
        return [*super().identity, self.shows_frames, *frames]

    def caption(self, works: Sequence[Work]) -> Results[Caption]:
        """See `roles.Junior`."""
        return self._many(self._caption, works)

    async def _caption(self, work: Work) -> Caption:
        samples_N = await asyncio.to_thread(clip_sound, work.clip)
        part, _ = sound_part(samples_N)
        parts: list[Any] = [part, *_context(work)]
        if self.shows_frames:
            parts += await asyncio.to_thread(_pictures, work, self.frames)
        messages = [system(self._prompt.text), user(*parts)]
        request = self._request(work.clip, messages, CaptionAnswer, _ANSWER_TOKENS)
        reply = await self.model.ask(request)
        return reply.parsed(CaptionAnswer).record(len(samples_N) / SAMPLE_RATE_HZ)


def _context(work: Work) -> list[str]:
    if work.context is None:
        return ["There is no description of the picture."]
    return [f"The silent picture, described:\n{work.context.text}"]


@dataclass(frozen=True)
class ChatSenior(ChatAgent):
    """Revises from sound, context, the junior's caption and the reasons; may hear a span again."""

    role = "senior"

    max_turns: int = 3
    """Most requests per clip; each but the last may ask for a span."""

    @property
    def identity(self) -> Any:
        """Adds the number of turns and the cap on reasoning."""
        return [*super().identity, self.max_turns, REASONING_TOKENS]

    def revise(self, works: Sequence[Work]) -> Results[SeniorCaption]:
        """See `roles.Senior`."""
        return self._many(self._revise, works)

    async def _revise(self, work: Work) -> SeniorCaption:
        samples_N = await asyncio.to_thread(clip_sound, work.clip)
        junior = work.caption
        assert junior is not None  # the senior comes after the junior
        messages = [
            system(self._prompt.filled(reasoning_tokens=REASONING_TOKENS)),
            user(
                sound_part(samples_N)[0],
                *_context(work),
                f"The colleague's caption: {junior.text}",
                "Doubts: " + "; ".join(work.reasons),
            ),
        ]
        turns: list[Turn] = []
        for turn in range(1, self.max_turns + 1):
            if turn == self.max_turns:
                messages.append(user("This is the last turn: give `answer` now."))
            request = self._request(
                work.clip, messages, SeniorAnswer, REASONING_TOKENS + _ANSWER_TOKENS
            )
            reply = await self.model.ask(request)
            answer = reply.parsed(SeniorAnswer)
            if answer.answer is not None:
                turns.append(Turn(reasoning=answer.reasoning, listened_s=None))
                caption = answer.answer.record(len(samples_N) / SAMPLE_RATE_HZ)
                return SeniorCaption(caption=caption, turns=tuple(turns))
            if answer.listen_again is None:
                raise Malformed("the senior neither answered nor asked to listen again")
            wish_s = (answer.listen_again.start_s, answer.listen_again.end_s)
            part, span_s = sound_part(samples_N, wish_s)
            turns.append(Turn(reasoning=answer.reasoning, listened_s=span_s))
            messages += [
                assistant(reply.text),
                user(f"The sound from {span_s[0]:.2f} to {span_s[1]:.2f} s:", part),
            ]
        raise Malformed(f"the senior gave no caption in {self.max_turns} turns")


class ChatValidator(ChatAgent):
    """Checks a caption against the context, without sound or frames."""

    role = "validator"

    def validate(self, works: Sequence[Work]) -> Results[Verdict]:
        """See `roles.Validator`."""
        return self._many(self._validate, works)

    async def _validate(self, work: Work) -> Verdict:
        assert work.caption is not None  # the workflow asks with both
        assert work.context is not None
        messages = [
            system(self._prompt.text),
            user(f"Scene:\n{work.context.text}", f"Caption: {work.caption.text}"),
        ]
        reply = await self.model.ask(self._request(work.clip, messages, ValidatorAnswer, 200))
        answer = reply.parsed(ValidatorAnswer)
        return Verdict(plausible=answer.plausible, reason=answer.reason)


class ChatJudge(ChatAgent):
    """Compares two captions of a sound that it hears."""

    role = "judge"

    def compare(self, pairs: Sequence[Pair]) -> Results[Preference]:
        """See `roles.CaptionJudge`."""
        return self._many(self._compare, pairs)

    async def _compare(self, pair: Pair) -> Preference:
        part, _ = sound_part(await asyncio.to_thread(clip_sound, pair.clip))
        messages = [
            system(self._prompt.text),
            user(part, f"First: {pair.first}", f"Second: {pair.second}"),
        ]
        reply = await self.model.ask(self._request(pair.clip, messages, JudgeAnswer, 200))
        return reply.parsed(JudgeAnswer).better
