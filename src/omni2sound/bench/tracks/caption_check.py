"""Caption check: a language model flags captions that may be wrong about sound and visibility.

In:   a clip's label, its caption and, if there is one, a description of its silent video.
Out:  a `ModalityCheck`, and the `flags` for which a person has to look.

The model decides nothing: flagged clips go to the review queue (`review`), the others are
accepted. The model's answer is kept with the clip.

The docstrings of `HeardSound` and `ModalityCheck` are part of the schema that is sent, and so of
the key under which paid answers are kept: don't reword them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from omni2sound.errors import BudgetExceeded, Malformed, Refused, Rejected, Unavailable, UserError
from omni2sound.llm.chat import ChatModel, ChatRequest, system, user
from omni2sound.readers import read_text

PROMPT_VERSION = "bench-modality/1"
MAX_OUTPUT_TOKENS = 400
_TOGETHER = 64
"""Requests in flight; the model's own limits are stricter."""

_TASK = (
    "You check captions of short video clips for a benchmark of sound generation. A caption must "
    "say what can be heard, and nothing else. You are given the clip's class label, its caption "
    "and sometimes a description of the silent video. List each sound that the caption names and "
    "say whether its source is seen: yes, no, or unclear if what you are given does not decide "
    "it. List words of the caption about what can only be seen. Say whether the label fits the "
    "caption, and whether anybody speaks or sings who is not in the picture."
)


class HeardSound(BaseModel):
    """One sound of a caption."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sound: str = Field(max_length=200)
    seen: Literal["yes", "no", "unclear"]


class ModalityCheck(BaseModel):
    """What the model says of one caption."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sounds: tuple[HeardSound, ...] = Field(max_length=12)
    only_visible: tuple[str, ...] = Field(max_length=12)
    label_fits: bool
    background_voice: bool
    reason: str = Field(max_length=400)

    @property
    def has_unseen(self) -> bool:
        """Whether the source of a sound is not visible."""
        return any(sound.seen == "no" for sound in self.sounds)


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionedClip:
    """A clip as the model gets it."""

    clip_id: str
    label: str
    caption: str
    visual: str = ""
    """Description of the silent video, or empty."""


def flags_of(check: ModalityCheck) -> tuple[str, ...]:
    """Reasons for a review; empty if none is needed."""
    flags = []
    if not check.sounds:
        flags.append("no sound")
    if not check.label_fits:
        flags.append("label")
    if check.only_visible:
        flags.append("only visible: " + ", ".join(check.only_visible))
    if any(sound.seen == "unclear" for sound in check.sounds):
        flags.append("seen or not")
    return tuple(flags)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asking:
    """How the model is asked."""

    max_output_tokens: int = MAX_OUTPUT_TOKENS
    extra: Mapping[str, Any] = field(default_factory=dict)
    """JSON data added to the bodies of the calls."""
    prompt_version: str = PROMPT_VERSION
    task: str = _TASK

    @classmethod
    def of(cls, *, cap: int | None, extra: Mapping[str, Any], prompts: Path | None) -> Asking:
        """Take a limit of tokens, extra data and a folder with a `caption-check.md`.

        Raises:
            UserError: The folder has no such file.
        """
        asking = cls(max_output_tokens=cap or MAX_OUTPUT_TOKENS, extra=extra)
        if prompts is None:
            return asking
        file = prompts / "caption-check.md"
        if not file.is_file():
            raise UserError(f"{prompts}: expected a file caption-check.md", field="prompts")
        task = read_text(file).strip()
        digest = hashlib.sha256(task.encode()).hexdigest()[:8]
        return replace(asking, task=task, prompt_version=f"bench-modality/{digest}")


def check_captions(
    clips: Sequence[CaptionedClip],
    model: ChatModel,
    asking: Asking | None = None,
    *,
    on_clip: Callable[[int, int], None] | None = None,
) -> dict[str, ModalityCheck | str]:
    """Check every clip; answers of earlier calls are reused.

    Returns:
        By clip, the check, or the reason why there is none (the clip then needs a review).

    Raises:
        UserError: The endpoint refuses the request, the model's name or the key.
        BudgetExceeded: The budget is used up; answers so far are kept.
    """
    return asyncio.run(_check_all(clips, model, asking or Asking(), on_clip))


async def _check_all(
    clips: Sequence[CaptionedClip],
    model: ChatModel,
    asking: Asking,
    on_clip: Callable[[int, int], None] | None,
) -> dict[str, ModalityCheck | str]:
    turns = asyncio.Semaphore(_TOGETHER)
    found: dict[str, ModalityCheck | str] = {}

    async def one(clip: CaptionedClip) -> None:
        async with turns:
            try:
                reply = await model.ask(_request(clip, asking))
                found[clip.clip_id] = reply.parsed(ModalityCheck)
            except BudgetExceeded:
                raise
            except (Refused, Malformed, Rejected, Unavailable) as error:
                found[clip.clip_id] = f"{type(error).__name__}: {error}"
        if on_clip is not None:
            on_clip(len(found), len(clips))

    async with asyncio.TaskGroup() as group:
        for clip in clips:
            group.create_task(one(clip))
    return found


def _request(clip: CaptionedClip, asking: Asking) -> ChatRequest:
    lines = [f"Label: {clip.label}", f"Caption: {clip.caption}"]
    if clip.visual:
        lines.append(f"Silent video: {clip.visual}")
    return ChatRequest(
        messages=(system(asking.task), user("\n".join(lines))),
        prompt_version=asking.prompt_version,
        max_output_tokens=asking.max_output_tokens,
        extra=asking.extra,
        answer=ModalityCheck,
        temperature=0.0,
        label=clip.clip_id,
    )
