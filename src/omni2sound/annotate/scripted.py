"""Models that say what they were told to say: for tests, benchmarks and rehearsals.

In:   a JSON file (or mapping): prompt role -> reply, or role -> {clip name: reply, "*": reply};
      a reply is the JSON object that the role answers with, or a list of them, one a turn.
      The role "scorer" answers {"similarity": ..., "score": ..., "events": [...]}, the last if it
      looks at events.
Out:  replies at once, checked like any other.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omni2sound.annotate.records import Failure, Fit, Perception
from omni2sound.annotate.roles import Work
from omni2sound.errors import Refused, UserError
from omni2sound.llm import ChatReply, ChatRequest, ModelId

__all__ = ["ScriptedModel", "ScriptedScorer"]


class ScriptedModel:
    """A `ChatModel` without a model."""

    def __init__(self, script: Mapping[str, Any], *, name: str = "scripted") -> None:
        self.id = ModelId(endpoint="local", model=name)
        self._script = script
        self.asked: list[ChatRequest] = []
        """Every request, for tests."""

    @classmethod
    def read(cls, file: Path) -> ScriptedModel:
        """From a JSON file.

        Raises:
            UserError: It is none.
        """
        try:
            script = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{file}: expected a JSON script of replies ({error})") from None
        if not isinstance(script, dict):
            raise UserError(f"{file}: expected an object by role, got {type(script).__name__}")
        return cls(script, name=f"scripted:{file.name}")

    async def ask(self, request: ChatRequest) -> ChatReply:
        """The scripted reply; the text "refuse" is a refusal."""
        self.asked.append(request)
        role = request.prompt_version.partition("/")[0]
        said = _reply(self._script, role, request.label)
        if isinstance(said, list):
            turn = sum(message.role == "assistant" for message in request.messages)
            said = said[min(turn, len(said) - 1)]
        if said is None:
            raise UserError(f"the script has no reply for {role} of {request.label!r}")
        if said == "refuse":
            raise Refused(f"{role} of {request.label!r}: scripted refusal")
        reply = ChatReply(text=json.dumps(said))
        if request.answer is not None:
            reply.parsed(request.answer)
        return reply


def _reply(script: Mapping[str, Any], role: str, clip: str) -> Any:
    said = script.get(role)
    if isinstance(said, Mapping) and (clip in said or "*" in said):
        said = said.get(clip, said.get("*"))
    return said


class ScriptedScorer:
    """A `Scorer` without networks, on the paper's scales."""

    name = "paper"

    def __init__(self, script: Mapping[str, Any]) -> None:
        self._script = script

    @property
    def identity(self) -> Any:
        """The script's own scores."""
        return ["scripted", self._script.get("scorer")]

    async def perceive(
        self, works: Sequence[Work]
    ) -> AsyncIterator[tuple[int, Perception | Failure]]:
        """See `agents.Scorer`."""
        for place, work in enumerate(works):
            similarity = self._said(work)["similarity"]
            yield (
                place,
                Perception(
                    duration_s=work.clip.duration_s or 10.0,
                    similarity=similarity if work.clip.video is not None else None,
                    sound="",
                ),
            )

    async def score(self, works: Sequence[Work]) -> AsyncIterator[tuple[int, Fit]]:
        """See `agents.Scorer`."""
        for place, work in enumerate(works):
            said = self._said(work)
            yield place, Fit(caption=said["score"], events=tuple(said.get("events", ())))

    def _said(self, work: Work) -> Mapping[str, Any]:
        said = _reply(self._script, "scorer", work.clip.name)
        if not isinstance(said, Mapping):
            raise UserError(f"the script has no scorer for {work.clip.name!r}")
        return said
