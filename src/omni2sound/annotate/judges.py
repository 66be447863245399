"""Which of two captions tells better what is heard.

In:   pairs of captions of the same sound; a judge: a chat model, or the second tagger here.
Out:  a `Contest`: wins, losses, ties, the win rate with its interval.

Every pair is asked twice, the second time in the other order: who likes whatever stands first
wins nothing. What not to get wrong: a judge must not have written one of the captions, and the
local judge is the network that local seniors ask for confirmation; take another for those.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from omni2sound.annotate.answers import JudgeAnswer
from omni2sound.annotate.chat_agents import ChatAgent
from omni2sound.annotate.records import Failure
from omni2sound.annotate.roles import Retry, SourceClip
from omni2sound.annotate.sounds import clip_sound, sound_part
from omni2sound.llm import system, user

__all__ = ["CaptionJudge", "ChatJudge", "Contest", "Pair", "Preference", "contest"]

Preference = Literal["first", "second", "tie"]
_ANSWER_TOKENS = 200
_DRAWS = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two captions of one sound."""

    clip: SourceClip
    first: str
    second: str

    def swapped(self) -> Pair:
        """The same pair in the other order."""
        return Pair(clip=self.clip, first=self.second, second=self.first)


class CaptionJudge(Protocol):
    """Compares captions; knows nothing of where they come from."""

    def compare(
        self, pairs: Sequence[Pair]
    ) -> AsyncIterator[tuple[int, Preference | Failure | Retry]]:
        """The better caption of each pair, with the pair's place."""
        ...


class ChatJudge(ChatAgent):
    """Hears the sound and reads both captions."""

    role = "judge"

    def compare(
        self, pairs: Sequence[Pair]
    ) -> AsyncIterator[tuple[int, Preference | Failure | Retry]]:
        """See `CaptionJudge`."""
        return self._many(self._compare, pairs)

    async def _compare(self, pair: Pair) -> Preference:
        part, _ = sound_part(await asyncio.to_thread(clip_sound, pair.clip))
        messages = [
            system(self._prompt.text),
            user(part, f"First: {pair.first}", f"Second: {pair.second}"),
        ]
        request = self._request(pair.clip, messages, JudgeAnswer, _ANSWER_TOKENS)
        return (await self._model.ask(request)).parsed(JudgeAnswer).better


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    """How our captions did against the others."""

    wins: int
    losses: int
    ties: int
    """Also those where the two orders disagree."""
    unsteady: int
    """Of the ties: the judge chose by place."""
    failed: int
    """Pairs without two usable answers; not counted."""
    rate: float | None
    """Wins and half the ties, of the pairs that were judged."""
    interval: tuple[float, float] | None
    """95 % of resampled sets of clips have rates between these."""


async def contest(judge: CaptionJudge, pairs: Sequence[Pair], *, seed: int = 0) -> Contest:
    """Ask for every pair in both orders; the first of a pair is ours.

    Args:
        judge: Who decides.
        pairs: Ours and theirs, clip by clip.
        seed: Of the interval's resampling.
    """
    asked = [p for pair in pairs for p in (pair, pair.swapped())]
    said: dict[int, Preference] = {
        place: preference
        async for place, preference in judge.compare(asked)
        if not isinstance(preference, Failure | Retry)
    }
    points, unsteady = [], 0
    for number in range(len(pairs)):
        one, other = said.get(2 * number), said.get(2 * number + 1)
        if one is None or other is None:
            continue
        for_us, for_them = one == "first", one == "second"
        if for_us and other == "second":
            points.append(1.0)
        elif for_them and other == "first":
            points.append(0.0)
        else:
            points.append(0.5)
            unsteady += one == other != "tie"
    rate, interval = None, None
    if points:
        rng = np.random.default_rng(seed)
        some = rng.choice(points, size=(_DRAWS, len(points))).mean(axis=1)
        low, high = np.quantile(some, [0.025, 0.975])
        rate, interval = float(np.mean(points)), (float(low), float(high))
    return Contest(
        wins=points.count(1.0),
        losses=points.count(0.0),
        ties=points.count(0.5),
        unsteady=unsteady,
        failed=len(pairs) - len(points),
        rate=rate,
        interval=interval,
    )
