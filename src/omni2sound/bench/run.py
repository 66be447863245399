"""A whole run: sounds, judging, scores; and the scoring of anybody's folders.

In:   a track; a model, or folders of sounds.
Out:  a folder with `scores.json` and what reports are made of (`scored`).

Every step leaves what it has done where the next start finds it: sounds under their clips'
names, judged sounds by digest. A run that was killed anywhere and is started again ends with
the same scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from omni2sound.bench.report.results import ScoredRun, read_run, write_run
from omni2sound.bench.scoring.avbench import PublishedJudges
from omni2sound.bench.scoring.evaluate import evaluate
from omni2sound.bench.systems.baseline_files import EmbedNames, plain_baselines, stage_baselines
from omni2sound.bench.systems.baseline_files import caption_embed as _caption_embed
from omni2sound.bench.systems.baseline_files import look_embed as _look_embed
from omni2sound.bench.systems.folder import Problem, check_folder
from omni2sound.bench.systems.model import ModelRun, make_sounds, model_identity
from omni2sound.bench.systems.system import System
from omni2sound.bench.tracks.track import Task, Track
from omni2sound.data.workers import EngineName

__all__ = ["Means", "OnStep", "Submission", "run_model", "score_folders"]


class OnStep(Protocol):
    """Told how far a run is."""

    def __call__(self, step: str, /) -> Callable[[int, int], None]:
        """What counts the jobs of one step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Means:
    """With what a run is done; none of it changes a result but the judges."""

    judges: tuple[str, ...]
    cache_folder: Path
    published: PublishedJudges | None = None
    """Those of avbench-8s-v1; None leaves that protocol out."""
    assets: Path | None = None
    """The stage corpus, for the baselines that need it."""
    num_remembered: int = 100
    """Training scenes that retrieval knows."""
    embed: EmbedNames = (_caption_embed, _look_embed)
    engine: EngineName = "local"
    num_workers: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """One system's folder for one task."""

    name: str
    task: Task
    folder: Path
    sample_rate_hz: int | None = None
    """What its files should have; None: what most of them have."""


def run_model(
    track: Track, out: Path, run: ModelRun, means: Means, *, limit: int | None, on_step: OnStep
) -> ScoredRun:
    """Make a model's sounds and score them.

    Args:
        track: The whole track.
        out: Folder; made if missing.
        run: Model and settings.
        means: Judges, cache, engine.
        limit: Only the first clips.
        on_step: Told about each step.

    Raises:
        UserError: `out` holds another run, or something can't be read.
    """
    asked = track.limited(limit)
    out.mkdir(parents=True, exist_ok=True)
    failed = make_sounds(
        asked,
        out / "sounds",
        run,
        engine=means.engine,
        num_workers=means.num_workers,
        on_clip=on_step("sounds"),
    )
    identity = model_identity(run)
    submissions = [
        Submission(name=identity["model"], task=task, folder=out / "sounds" / task)
        for task in run.tasks
    ]
    return score_folders(
        track,
        submissions,
        out,
        means,
        limit=limit,
        on_step=on_step,
        more_facts={"model": identity},
        failed=failed,
    )


def score_folders(
    track: Track,
    submissions: Sequence[Submission],
    out: Path,
    means: Means,
    *,
    limit: int | None,
    on_step: OnStep,
    more_facts: Mapping[str, object] | None = None,
    failed: Mapping[str, str] | None = None,
) -> ScoredRun:
    """Score folders of sounds beside the baselines.

    Args:
        track: The whole track.
        submissions: Each a system's folder for one task.
        out: Folder for scores; made if missing.
        means: Judges, cache, engine.
        limit: Only the first clips.
        on_step: Told about each step.
        more_facts: Go into the report.
        failed: Why clips are missing, where that is known.

    Raises:
        UserError: A folder is not there, or has fewer than four clips.
    """
    asked = track.limited(limit)
    out.mkdir(parents=True, exist_ok=True)
    work = {"engine": means.engine, "num_workers": means.num_workers}
    systems = []
    for submission in submissions:
        check = check_folder(
            submission.folder,
            asked.clips,
            sample_rate_hz=submission.sample_rate_hz,
            others=[c.clip_id for c in track.clips],
            on_file=on_step(f"files of {submission.name} {submission.task}"),
            **work,  # type: ignore[arg-type]
        )
        systems.append(
            System(
                name=submission.name,
                task=submission.task,
                sounds={s.clip_id: s for s in check.sounds},
                problems=tuple(_explained(p, failed or {}) for p in check.problems),
            )
        )
    systems += plain_baselines(asked, out / "baselines")
    if track.has_truth and means.assets is not None:
        systems += stage_baselines(
            asked,
            means.assets,
            out / "baselines",
            embed=means.embed,
            num_remembered=means.num_remembered,
            on_clip=on_step("baselines"),
            **work,  # type: ignore[arg-type]
        )
    evaluation = evaluate(
        asked,
        systems,
        judges=means.judges,
        cache_folder=means.cache_folder,
        published=means.published,
        on_sound=on_step("judging"),
        on_published=on_step("published judges"),
        **work,  # type: ignore[arg-type]
    )
    facts = {**evaluation.facts, **(more_facts or {})}
    if track.has_truth and means.assets is not None:
        facts["num_remembered"] = means.num_remembered
    evaluation = replace(evaluation, facts=facts)
    write_run(out, evaluation, systems, track=track.folder, limit=limit)
    return read_run(out)


def _explained(problem: Problem, failed: Mapping[str, str]) -> Problem:
    if problem.kind == "missing" and problem.name in failed:
        return replace(problem, told=failed[problem.name])
    return problem
