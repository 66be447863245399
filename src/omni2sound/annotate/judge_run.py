"""`omni2sound annotate judge`: a run's captions against other captions of the same clips.

In:   a run; the captions of its manifest, or another run over the same clips; a judge.
Out:  lines on stdout: who wins how often, and how well each side's captions fit the sound.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from omni2sound.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    from omni2sound.annotate.chat_models import ChatOptions
    from omni2sound.annotate.executor import Executor
    from omni2sound.annotate.judges import CaptionJudge, Contest
    from omni2sound.annotate.roles import SourceClip, Work
    from omni2sound.annotate.runs import Story
    from omni2sound.llm import CallStore

__all__ = ["JUDGE_FILE", "MANIFEST", "judge_run"]

MANIFEST = "manifest"
"""In place of a run's folder: the captions that the clips came with."""
JUDGE_FILE = "judge.sqlite"
"""Answers of judges, in the run's folder: what they cost is no part of what the captions cost."""


async def judge_run(
    run: Path,
    against: str,
    judge: str,
    *,
    options: ChatOptions,
    joint: Path,
    executor: Executor,
    limit: int | None,
    budget_usd: Decimal | None = None,
) -> list[str]:
    """Lines to print.

    Raises:
        UserError: The two have no captioned clip in common.
        BudgetExceeded: The money ran out; what was answered is kept.
    """
    from omni2sound.annotate.judges import Pair, contest
    from omni2sound.annotate.local.roles import LocalScorer
    from omni2sound.annotate.runs import stories
    from omni2sound.llm import CallStore

    sources = _sources(run)
    ours = _kept(stories(run))
    if against == MANIFEST:
        theirs = {n: s.clip.captions[0] for n, s in ours.items() if s.clip.captions}
    else:
        theirs = {name: _text(story) for name, story in _kept(stories(Path(against))).items()}
    names = [name for name in ours if name in theirs][:limit]
    if not names:
        raise UserError(f"{run} and {against}: no clip was kept here and has a caption there")
    pairs = [
        Pair(clip=sources[name], first=_text(ours[name]), second=theirs[name]) for name in names
    ]
    async with AsyncExitStack() as stack:
        calls = stack.enter_context(CallStore.open(run / JUDGE_FILE, budget_usd=budget_usd))
        found = await contest(_judge(judge, stack, calls, options, executor), pairs)
        spend = calls.spend()
    scorer = LocalScorer(joint=joint, executor=executor)
    fits = []
    for texts in ([pair.first for pair in pairs], [pair.second for pair in pairs]):
        works = [_work(ours[n], sources[n], text) for n, text in zip(names, texts, strict=True)]
        fits.append(np.mean([fit.caption async for _, fit in scorer.score(works)]))
    lines = [
        f"{run.name} against {against}, judged by {judge}: {len(pairs)} clips, "
        + ("kept here" if against == MANIFEST else "kept by both"),
        _told(found),
        f"caption-audio score ({scorer.name}): {fits[0]:.3f} against {fits[1]:.3f}",
    ]
    if spend.at_most_usd:
        lines.append(
            f"judges asked about this run: {spend.known_usd:f} USD, "
            f"perhaps {spend.uncertain_usd:f} more"
        )
    return lines


def _told(found: Contest) -> str:
    counts = (
        f"wins {found.wins}, losses {found.losses}, ties {found.ties} "
        f"(of them by place: {found.unsteady}), failed {found.failed}"
    )
    if found.rate is None or found.interval is None:
        return counts
    low, high = found.interval
    return f"{counts}; win rate {found.rate:.3f} [{low:.3f}, {high:.3f}]"


def _kept(some: Iterable[Story]) -> dict[str, Story]:
    from omni2sound.annotate.runs import clip_name

    return {clip_name(story.clip): story for story in some if story.ending.end == "kept"}


def _sources(run: Path) -> dict[str, SourceClip]:
    from omni2sound.annotate.runs import RunSettings, source_clips
    from omni2sound.data.corpora.manifest import read_manifest

    clips = source_clips(read_manifest(Path(RunSettings.read(run).manifest)))
    return {clip.name: clip for clip in clips}


def _text(story: Story) -> str:
    assert story.caption is not None  # it was kept
    return story.caption.text


def _work(story: Story, clip: SourceClip, text: str) -> Work:
    from omni2sound.annotate.records import Caption, Perception
    from omni2sound.annotate.roles import Work

    perception = story.steps["perceive"]
    assert isinstance(perception, Perception)  # it was kept
    return Work(clip=clip, perception=perception, caption=Caption(text=text))


def _judge(
    name: str,
    stack: AsyncExitStack,
    calls: CallStore,
    options: ChatOptions,
    executor: Executor,
) -> CaptionJudge:
    from omni2sound.annotate.chat_models import chat_model
    from omni2sound.annotate.judges import ChatJudge
    from omni2sound.annotate.local.judge import LocalJudge

    if name == "local":
        return LocalJudge(executor=executor)
    model = chat_model(name, stack, calls, options)
    return ChatJudge(model, concurrency=options.concurrency)
