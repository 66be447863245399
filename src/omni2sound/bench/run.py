"""A whole run: sounds, tags, scores; and the scoring of folders of sounds.

In:   a track; a model, or folders of sounds.
Out:  a folder with `scores.json` and everything that reports need (`report.results`).

Every step stores its results where the next start finds them: sounds under their clips' names,
measurements by digest. A run that was killed and is started again ends with the same scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from omni2sound.bench.report.results import ScoredRun, read_run, write_run
from omni2sound.bench.scoring.evaluate import MIN_CLIPS, evaluate
from omni2sound.bench.scoring.options import OnStep, ScoringOptions, scoring_options
from omni2sound.bench.systems.baseline_files import plain_baselines, stage_baselines
from omni2sound.bench.systems.folder import Problem, check_folder
from omni2sound.bench.systems.model import (
    ModelRun,
    count_missing,
    make_sounds,
    model_identity,
    variants_of,
)
from omni2sound.bench.systems.system import System
from omni2sound.bench.tracks.scenes import TrackPlan, build_scene_track
from omni2sound.bench.tracks.track import TASKS, TRACK, Part, Track, as_task, read_track
from omni2sound.data.workers import Share, kept_workers
from omni2sound.errors import UserError
from omni2sound.generate.request import Task
from omni2sound.readers import real_path

STAGE_OMNI = "stage-omni"


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """One system's folder for one task."""

    name: str
    task: Task | None
    """None: a baseline, which was shown everything."""
    folder: Path
    sample_rate_hz: int | None = None
    """Expected rate of its files; None: the most common one."""
    part: Part | None = None
    """Only clips of this part; None: all."""
    is_variant: bool = False
    """The model of another submission, asked in another way."""


def run_model(
    track: Track,
    out: Path,
    run: ModelRun,
    options: ScoringOptions,
    *,
    limit: int | None,
    on_step: OnStep,
) -> ScoredRun:
    """Make a model's sounds and score them.

    Args:
        track: The whole track.
        out: Folder; made if missing.
        run: Model and settings.
        options: Execution settings.
        limit: Only the first clips.
        on_step: Reports progress.

    Raises:
        UserError: `out` holds another run, something can't be read, or a run with controls
            lacks the corpus, the truth or a task.
    """
    asked = track.limited(limit)
    if run.with_controls:
        _check_controls(asked, run, options)
    out.mkdir(parents=True, exist_ok=True)
    failed = make_sounds(
        asked, out / "sounds", run, workers=options.workers, on_clip=on_step("sounds")
    )
    identity = model_identity(run)
    submissions = [
        Submission(
            name=variant.name or identity["model"],
            task=variant.task,
            folder=out / "sounds" / variant.folder,
            part=variant.part,
            is_variant=bool(variant.name),
        )
        for variant in variants_of(run, identity["model"])
    ]
    return score_folders(
        track,
        submissions,
        out,
        options,
        limit=limit,
        on_step=on_step,
        more_facts={"model": {**identity, "many_steps": run.many_steps}},
        failed=failed,
        with_copies=run.with_controls,
    )


def make_share(
    track: Track,
    out: Path,
    run: ModelRun,
    options: ScoringOptions,
    *,
    share: Share,
    limit: int | None,
    on_step: OnStep,
) -> tuple[Mapping[str, str], int]:
    """Make a share of a model's sounds, which `run_model` scores once all are there.

    Args:
        track: The whole track.
        out: Folder of the run, the same for all shares; made if missing.
        run: Model and settings.
        options: Execution settings.
        share: Blocks of clips to make.
        limit: Only the first clips.
        on_step: Reports progress.

    Returns:
        Reasons by clip id of the clips that failed, and the number of clips that lack sounds.

    Raises:
        UserError: `out` holds another run, or a run with controls lacks something.
    """
    asked, sounds = track.limited(limit), out / "sounds"
    if run.with_controls:
        _check_controls(asked, run, options)
    failed = make_sounds(
        asked, sounds, run, workers=options.workers, on_clip=on_step("sounds"), share=share
    )
    return failed, count_missing(asked, sounds, run)


def _check_controls(track: Track, run: ModelRun, options: ScoringOptions) -> None:
    if not track.has_truth:
        raise UserError(f"gates need scenes with truth; track {track.info.name} has none")
    if options.assets is None:
        raise UserError("gates compare with training recordings and need the scene corpus")
    if missing := set(TASKS) - set(run.tasks):
        raise UserError(f"gates compare all tasks; add {', '.join(sorted(missing))}")
    for part in get_args(Part):
        if (count := sum(c.part == part for c in track.clips)) < MIN_CLIPS:
            raise UserError(f"gates need {MIN_CLIPS} clips or more of part {part}, got {count}")


def score_folders(
    track: Track,
    submissions: Sequence[Submission],
    out: Path,
    options: ScoringOptions,
    *,
    limit: int | None,
    on_step: OnStep,
    more_facts: Mapping[str, object] | None = None,
    failed: Mapping[str, str] | None = None,
    with_copies: bool = False,
) -> ScoredRun:
    """Score folders of sounds beside the baselines.

    Args:
        track: The whole track.
        submissions: Each a system's folder for one task.
        out: Folder for scores; made if missing.
        options: Execution settings.
        limit: Only the first clips.
        on_step: Reports progress.
        more_facts: Go into the report.
        failed: Why clips are missing, where that is known.
        with_copies: Search sounds for the corpus' training recordings (`copies-v1`).

    Raises:
        UserError: A folder is not there, or has fewer than four clips.
    """
    asked = track.limited(limit)
    out.mkdir(parents=True, exist_ok=True)
    systems = [
        _checked_system(track, asked, submission, options, on_step, failed or {})
        for submission in submissions
    ]
    systems += plain_baselines(asked, out / "baselines")
    if track.has_truth and options.assets is not None:
        systems += stage_baselines(
            asked,
            options.assets,
            out / "baselines",
            embed=options.embed,
            num_remembered=options.num_remembered,
            on_clip=on_step("baselines"),
            workers=options.workers,
        )
    evaluation = evaluate(asked, systems, options, on_step=on_step, with_copies=with_copies)
    facts = {**evaluation.facts, **(more_facts or {})}
    if track.has_truth and options.assets is not None:
        facts["num_remembered"] = options.num_remembered
    evaluation = replace(evaluation, facts=facts)
    write_run(out, evaluation, systems, track=track.folder, limit=limit)
    return read_run(out)


def score_folder(
    track: str | Path,
    folder: str | Path,
    task: str,
    out: str | Path,
    *,
    name: str | None = None,
    sample_rate_hz: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    options: ScoringOptions | None = None,
    on_step: OnStep = lambda step: lambda done, total: None,
) -> ScoredRun:
    """Score one folder of sounds, named by clip id, on a track.

    `report.write.write_report` writes the report of the result.

    Args:
        track: Folder of a track, or "stage-omni".
        folder: The system's files.
        task: What the system was shown: "VT2A", "V2A" or "T2A".
        out: Folder for scores; made if missing.
        name: Name of the system. Default: the folder's.
        sample_rate_hz: Expected rate of the files. Default: the most common one.
        limit: Only the first clips. Default: all.
        seed: Random seed of a track that is built.
        options: Execution settings. Default: those of `scoring_options`, in this process: more need
            a script that guards its main part, as all that start processes.
        on_step: Reports progress.

    Raises:
        UserError: A folder is not there, the task is unknown, or fewer than four clips are left.
    """
    submission = Submission(
        name=name or real_path(Path(folder)).name,
        task=as_task(task, "task"),
        folder=Path(folder),
        sample_rate_hz=sample_rate_hz,
    )
    options = options or scoring_options(num_workers=1)
    with kept_workers():
        found = find_track(track, options, limit=limit, seed=seed, on_step=on_step)
        return score_folders(found, [submission], Path(out), options, limit=limit, on_step=on_step)


def find_track(
    track: str | Path, options: ScoringOptions, *, limit: int | None, seed: int, on_step: OnStep
) -> Track:
    """Read a track; `STAGE_OMNI` is built into the cache first, unless a folder has that name.

    Raises:
        UserError: There is no such track, or no corpus to build it from.
    """
    if str(track) != STAGE_OMNI or (Path(track) / TRACK).is_file():
        return read_track(Path(track))
    if options.assets is None:
        raise UserError("stage-omni needs recordings and pictures; run: omni2sound scenes fetch")
    # The first clips of a longer track are the same: no more are built than are asked for.
    plan = TrackPlan(num_clips=limit or TrackPlan().num_clips, seed=seed)
    folder = options.cache_folder / "tracks" / f"{STAGE_OMNI}-{plan.num_clips}-seed-{seed}"
    return build_scene_track(
        options.assets, folder, plan, workers=options.workers, on_clip=on_step("track")
    )


def _checked_system(
    track: Track,
    asked: Track,
    submission: Submission,
    options: ScoringOptions,
    on_step: OnStep,
    failed: Mapping[str, str],
) -> System:
    """Look at every file of a submission once."""
    title = " ".join(filter(None, ("files of", submission.name, submission.task)))
    check = check_folder(
        submission.folder,
        [c for c in asked.clips if submission.part in (None, c.part)],
        sample_rate_hz=submission.sample_rate_hz,
        others=[c.clip_id for c in track.clips],
        on_file=on_step(title),
        workers=options.workers,
    )
    return System(
        name=submission.name,
        task=submission.task,
        is_baseline=submission.task is None,
        is_variant=submission.is_variant,
        sounds={s.clip_id: s for s in check.sounds},
        problems=tuple(_explained(p, failed) for p in check.problems),
    )


def _explained(problem: Problem, failed: Mapping[str, str]) -> Problem:
    if problem.kind == "missing" and problem.name in failed:
        return replace(problem, told=failed[problem.name])
    return problem
