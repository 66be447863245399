"""Win rate of a run's captions against other captions of the same clips.

In:   a run; the captions of its manifest, or another run over the same clips; a judge by name.
Out:  a `Comparison`: wins and losses with an interval, mean caption-audio scores, money.

Every pair is judged in both orders, so a preference for a position wins nothing. What not to get
wrong: a judge must not have written one of the captions, and the local judge is the tagger that
confirms the local senior's sounds; use another one for those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from omni2sound.annotate.chat.agents import ChatJudge
from omni2sound.annotate.chat.models import ChatOptions, chat_model
from omni2sound.annotate.executor import Executor
from omni2sound.annotate.local.judge import LocalJudge
from omni2sound.annotate.local.roles import LocalScorer
from omni2sound.annotate.records import Caption, Failure, Perception
from omni2sound.annotate.roles import CaptionJudge, Pair, Preference, Retry, SourceClip, Work
from omni2sound.annotate.runs import (
    CALLS_FILE,
    RunSettings,
    Story,
    clip_name,
    source_clips,
    stories,
)
from omni2sound.annotate.steps import STEPS_FILE, StepStore
from omni2sound.data.corpora.manifest import read_manifest
from omni2sound.errors import UserError
from omni2sound.llm import CallStore, Spend

MANIFEST = "manifest"
"""Stands for the captions that the clips came with, in place of another run."""
JUDGE_FILE = "judge.sqlite"
"""Judges' answers in the run's folder, apart from the calls that made the captions."""
_DRAWS = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    """Outcome of the first captions of pairs against the second."""

    wins: int
    losses: int
    ties: int
    """Including pairs whose two orders disagree."""
    unsteady: int
    """Ties in which the judge chose the same position twice."""
    failed: int
    """Pairs without two usable answers; not counted."""
    rate: float | None
    """Share of judged pairs that were won; a tie counts half."""
    interval: tuple[float, float] | None
    """95 % bootstrap interval of the rate over clips."""

    def __str__(self) -> str:
        counts = (
            f"wins {self.wins}, losses {self.losses}, ties {self.ties} "
            f"(position preferred: {self.unsteady}), failed {self.failed}"
        )
        if self.rate is None or self.interval is None:
            return counts
        return (
            f"{counts}; win rate {self.rate:.3f} [{self.interval[0]:.3f}, {self.interval[1]:.3f}]"
        )


async def contest(judge: CaptionJudge, pairs: Sequence[Pair], *, seed: int = 0) -> Contest:
    """Judge every pair, our caption first, in both orders; `seed` is that of the bootstrap."""
    both_orders = [p for pair in pairs for p in (pair, pair.swapped())]
    preferred: dict[int, Preference] = {
        index: preference
        async for index, preference in judge.compare(both_orders)
        if not isinstance(preference, Failure | Retry)
    }
    points, unsteady = [], 0
    for number in range(len(pairs)):
        one, other = preferred.get(2 * number), preferred.get(2 * number + 1)
        if one is None or other is None:
            continue
        if (one, other) == ("first", "second"):
            points.append(1.0)
        elif (one, other) == ("second", "first"):
            points.append(0.0)
        else:
            points.append(0.5)
            unsteady += one == other != "tie"
    rate, interval = None, None
    if points:
        rng = np.random.default_rng(seed)
        means = rng.choice(points, size=(_DRAWS, len(points))).mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A run against other captions of its clips."""

    title: str
    contest: Contest
    scorer: str
    fits: tuple[float, float] | None
    """Mean caption-audio score of our captions and of theirs; None for a scorer whose weights
    are not at hand."""
    spend: Spend
    """Cost of all judges of this run so far."""
    costs: tuple[str, ...] = ()
    """What each run's captions cost, and what all clips would; empty where nothing was paid."""

    def __str__(self) -> str:
        lines = [
            self.title,
            str(self.contest),
        ]
        if self.fits is not None:
            ours, theirs = self.fits
            lines.append(f"caption-audio score ({self.scorer}): {ours:.3f} against {theirs:.3f}")
        lines += self.costs
        if self.spend.at_most_usd:
            lines.append(
                f"judges of this run: {self.spend.known_usd:f} USD, "
                f"perhaps {self.spend.uncertain_usd:f} more"
            )
        return "\n".join(lines)


async def judge_run(
    run: Path,
    against: str,
    judge: str,
    *,
    joint: Path,
    options: ChatOptions | None = None,
    executor: Executor | None = None,
    limit: int | None = None,
    budget_usd: Decimal | None = None,
    cap: int | None = None,
    extra: Mapping[str, Any] | None = None,
    prompts: Path | None = None,
) -> Comparison:
    """Compare the captions that a run kept with others.

    Args:
        run: Folder of the run.
        against: `MANIFEST`, or the folder of another run.
        judge: `local`, `scripted:FILE` or `NAME@URL`.
        joint: Folder of the joint heads that score captions.
        options: How the judge's endpoint is reached.
        executor: Runs the local networks.
        limit: Number of clips, the first of the run; None takes all.
        budget_usd: Limit for all judges of this run.
        cap: Limit of output tokens of the judge.
        extra: JSON data added to the bodies of its calls.
        prompts: Folder with a `judge.md` in place of the bundled prompt.

    Raises:
        UserError: The two have no captioned clip in common.
        BudgetExceeded: The next call could exceed the budget; earlier answers are kept.
    """
    options, executor = options or ChatOptions(), executor or Executor()
    manifest = read_manifest(Path(RunSettings.read(run).manifest))
    sources = {clip.name: clip for clip in source_clips(manifest)}
    ours = _kept(stories(run))
    if against == MANIFEST:
        theirs = {n: s.clip.captions[0] for n, s in ours.items() if s.clip.captions}
    else:
        theirs = {name: _text(story) for name, story in _kept(stories(Path(against))).items()}
    names = [name for name in ours if name in theirs][:limit]
    if not names:
        raise UserError(f"{run} and {against}: no clip was kept here and has a caption there")
    pairs = [Pair(clip=sources[n], first=_text(ours[n]), second=theirs[n]) for n in names]
    async with AsyncExitStack() as stack:
        calls = stack.enter_context(CallStore.open(run / JUDGE_FILE, budget_usd=budget_usd))
        caption_judge: CaptionJudge
        if judge == "local":
            caption_judge = LocalJudge(executor=executor)
        else:
            model = chat_model(judge, "judge", options, calls=calls, stack=stack)
            caption_judge = ChatJudge(
                model, concurrency=options.concurrency, cap=cap, extra=extra or {}, prompts=prompts
            )
        found = await contest(caption_judge, pairs)
        spend = calls.spend()
    scorer = LocalScorer(joint=joint, executor=executor)
    fits: list[float] = []
    is_joint = RunSettings.read(run).scorer != "imagebind+clap"  # embeddings of another space
    for texts in ([pair.first for pair in pairs], [pair.second for pair in pairs]):
        if not is_joint:
            break
        works = [_work(ours[n], sources[n], text) for n, text in zip(names, texts, strict=True)]
        fits.append(float(np.mean([fit.caption async for _, fit in scorer.score(works)])))
    kept = "kept here" if against == MANIFEST else "kept by both"
    return Comparison(
        title=f"{run.name} against {against}, judged by {judge}: {len(pairs)} clips, {kept}",
        contest=found,
        scorer=scorer.name,
        fits=(fits[0], fits[1]) if fits else None,
        spend=spend,
        costs=tuple(
            line
            for folder in (run, *([] if against == MANIFEST else [Path(against)]))
            if (line := _cost(folder, len(sources)))
        ),
    )


def _cost(run: Path, num_clips: int) -> str:
    """Say what a run has paid for each of its clips, and what all of a manifest would cost."""
    if not (run / CALLS_FILE).is_file():
        return ""
    with (
        CallStore.open(run / CALLS_FILE) as calls,
        StepStore.open(run / STEPS_FILE, read_only=True) as steps,
    ):
        spend, ended = calls.spend(), steps.counts().get("end", 0)
    if not ended or not spend.at_most_usd:
        return ""
    each = spend.at_most_usd / ended
    return (
        f"{run.name}: at most {each:.6f} USD a clip over {ended} clips, "
        f"{each * num_clips:.2f} USD for all {num_clips}"
    )


def _kept(some: Iterable[Story]) -> dict[str, Story]:
    return {clip_name(story.clip): story for story in some if story.ending.end == "kept"}


def _text(story: Story) -> str:
    assert story.caption is not None  # it was kept
    return story.caption.text


def _work(story: Story, clip: SourceClip, text: str) -> Work:
    perception = story.steps["perceive"]
    assert isinstance(perception, Perception)  # it was kept
    return Work(clip=clip, perception=perception, caption=Caption(text=text))
