"""Models with scripted replies, for tests, benchmarks and rehearsals.

In:   a JSON file (or mapping): prompt role -> reply, or role -> {clip name: reply, "*": reply};
      a reply is the JSON object that the role answers with, or a list of them, one a turn.
      The role "scorer" answers {"similarity": ..., "score": ..., "events": [...]}; `events` is
      optional.
Out:  replies without delay, checked like any other.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omni2sound.annotate.records import Failure, Fit, Perception
from omni2sound.annotate.roles import Work
from omni2sound.config import from_json
from omni2sound.errors import ConfigError, Refused, UserError
from omni2sound.llm import ChatReply, ChatRequest, ModelId
from omni2sound.readers import read_object


class ScriptedModel:
    """`ChatModel` that replies from a script."""

    def __init__(
        self, script: Mapping[str, Any], *, name: str = "scripted", remembers: bool = True
    ) -> None:
        self.id = ModelId(endpoint="local", model=name)
        self._script = script
        self._remembers = remembers
        self.asked: list[ChatRequest] = []
        """Every request, in order, if it remembers them."""

    @classmethod
    def read(cls, file: Path) -> ScriptedModel:
        """Read a script from a JSON file.

        Raises:
            UserError: The file holds no JSON object.
        """
        try:
            return cls(read_object(file), name=f"scripted:{file.name}", remembers=False)
        except (OSError, ConfigError) as error:
            raise UserError(f"{file}: expected a JSON script of replies ({error})") from None

    async def ask(self, request: ChatRequest) -> ChatReply:
        """Return the scripted reply; the reply "refuse" raises `Refused`."""
        if self._remembers:
            self.asked.append(request)
        role = request.prompt_version.partition("/")[0]
        scripted = _reply(self._script, role, request.label)
        if isinstance(scripted, list):
            turn = sum(message.role == "assistant" for message in request.messages)
            scripted = scripted[min(turn, len(scripted) - 1)]
        if scripted is None:
            raise UserError(f"the script has no reply for {role} of {request.label!r}")
        if scripted == "refuse":
            raise Refused(f"{role} of {request.label!r}: scripted refusal")
        reply = ChatReply(text=json.dumps(scripted))
        if request.answer is not None:
            reply.parsed(request.answer)
        return reply


def _reply(script: Mapping[str, Any], role: str, clip: str) -> Any:
    reply = script.get(role)
    if isinstance(reply, Mapping) and (clip in reply or "*" in reply):
        reply = reply.get(clip, reply.get("*"))
    return reply


class ScriptedScorer:
    """`Scorer` with scripted scores, on the paper's scales."""

    name = "paper"
    lanes = None

    def __init__(self, script: Mapping[str, Any]) -> None:
        self._script = script

    @property
    def identity(self) -> Any:
        """The scripted scores."""
        return ["scripted", self._script.get("scorer")]

    async def perceive(
        self, works: Sequence[Work]
    ) -> AsyncIterator[tuple[int, Perception | Failure]]:
        """See `roles.Scorer`."""
        for index, work in enumerate(works):
            similarity = None if work.clip.video is None else self._scores(work).similarity
            duration_s = work.clip.duration_s or 10.0
            yield index, Perception(duration_s=duration_s, similarity=similarity, sound="")

    async def score(self, works: Sequence[Work]) -> AsyncIterator[tuple[int, Fit]]:
        """See `roles.Scorer`."""
        for index, work in enumerate(works):
            scores = self._scores(work)
            yield index, Fit(caption=scores.score, events=scores.events)

    def _scores(self, work: Work) -> _Scores:
        scores = _reply(self._script, "scorer", work.clip.name)
        if not isinstance(scores, Mapping):
            raise UserError(f"the script has no scorer for {work.clip.name!r}")
        return from_json(_Scores, scores, where=f"scorer of {work.clip.name!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scores:
    """Scripted scores of a clip."""

    score: float
    similarity: float | None = None
    events: tuple[float | None, ...] = ()
