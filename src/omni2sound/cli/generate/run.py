"""Running `omni2sound generate`: one video or prompt, or several videos as a batch.

In:   a `Job`, videos as they were typed, where results go.
Out:  files; their paths or JSON on stdout, what the user should know on stderr.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from omni2sound.cli.generate.inputs import find_videos, stems
from omni2sound.cli.options import option_names
from omni2sound.cli.progress import stages_shown
from omni2sound.cli.reports import error_report
from omni2sound.errors import UserError, rename_fields
from omni2sound.generate.output import (
    OutputOptions,
    check_target,
    default_output,
    numbered,
    preview_path,
    read_sidecar,
    save,
    takes_beside,
)
from omni2sound.generate.request import GenerationRequest, draw_seed
from omni2sound.generate.studio.job import Job
from omni2sound.generate.studio.times import parse_time

if TYPE_CHECKING:
    from omni2sound.generate.batch import Batch, JobOutcome
    from omni2sound.generate.edit.asked import Edit
    from omni2sound.generate.load import PipelineOptions

logger = logging.getLogger(__name__)

EXIT_SOME_FAILED = 1
EXIT_INTERRUPTED = 130

JOB_OPTIONS = {
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "text_guidance": "text_guidance_scale",
    "rate": "sample_rate_hz",
    "for": "destination",
}
"""Fields of a job whose parameter of the command has another name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Where:
    """Where results go."""

    output: Path | None
    out_dir: Path | None
    add: bool
    overwrite: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """How results and notes are shown."""

    command: Any
    as_json: bool

    @property
    def names(self) -> dict[str, str]:
        """Options by fields of requests and jobs."""
        names = option_names(self.command)
        return names | {field: names[name] for field, name in JOB_OPTIONS.items() if name in names}

    def note(self, text: str) -> None:
        """Print what the user should know."""
        print(rename_fields(text, self.names), file=sys.stderr, flush=True)

    def result(self, report: dict[str, Any]) -> None:
        """Print one result at once: the next one may take a while."""
        print(json.dumps(report) if self.as_json else report["output"], flush=True)

    def failure(self, error: Exception, line: str) -> None:
        """Print what failed while others go on."""
        print(f"omni2sound: {line}", file=sys.stderr, flush=True)
        if self.as_json:
            print(json.dumps(error_report(error, line)), flush=True)


def parse_times(
    start: str | None, end: str | None, duration: str | None
) -> tuple[float | None, float | None, float | None]:
    """Read the times of a request, in seconds.

    Raises:
        UserError: One is no time.
    """
    start_s = None if start is None else parse_time(start, "start_s")
    end_s = None if end is None else parse_time(end, "end_s")
    return start_s, end_s, None if duration is None else parse_time(duration, "duration_s")


def all_cues(typed: Sequence[str] | None, path: Path | None) -> tuple[str, ...]:
    """Return the cues that were typed, and those of a file.

    Raises:
        UserError: The file has no cues.
    """
    if path is None:
        return tuple(typed or ())
    from omni2sound.generate.words.cue_files import read_cues

    return (*(typed or ()), *read_cues(path))


def generate(
    typed: Sequence[Path], job: Job, pipeline: PipelineOptions, where: Where, shown: Shown
) -> None:
    """Run one request, or one for each of several videos."""
    videos = find_videos(typed)
    if where.output is not None and where.out_dir is not None:
        raise UserError("names a file, and `out_dir` a folder; give one of them", field="output")
    if len(videos) < 2 and where.out_dir is None and not any(path.is_dir() for path in typed):
        _one(videos[0] if videos else None, job, pipeline, where, shown)
        return
    if not videos:
        raise UserError("is for videos; name some, or use `output`", field="out_dir")
    if where.output is not None:
        raise UserError(f"names one file for {len(videos)} videos; use `out_dir`", field="output")
    if where.add:
        raise UserError("adds takes to one output; give a single video", field="add")
    _several(videos, job, pipeline, where, shown)


def _one(
    source: Path | None, job: Job, pipeline: PipelineOptions, where: Where, shown: Shown
) -> None:
    from omni2sound.generate.studio.request import options_of, request_of, spanned_request

    options = options_of(job, OutputOptions(overwrite=where.overwrite))
    with spanned_request(source, job) as (video, duration_s):
        request = request_of(job, video, duration_s, seed=0 if job.seed is None else job.seed)
        stem = None if source is None else f"{source.stem}.omni2sound"
        output = where.output or default_output(Path(), video, stem, reencode=options.reencode)
        if not output.name:
            raise UserError(f"expected a file, got the folder {str(output)!r}", field="output")
        earlier = takes_beside(output) if where.add else []
        seed = _first_seed(job.seed, earlier)
        request = replace(request, seed=seed)
        first = len(earlier) + 1 if where.add else 1
        outputs = numbered(output, request.takes, first=first)
        for path in outputs:
            check_target(path, request, options)
        facts = {"start_s": job.start_s} if job.start_s else {}
        done: list[tuple[Path, dict[str, Any]]] = []
        told: set[str] = set()
        try:
            with stages_shown():
                runs = pipeline.load(once=True).run(request)
                for path, result in zip(outputs, runs, strict=True):
                    for note in [n for n in result.notes if n not in told]:
                        shown.note(note)
                        told.add(note)  # what holds for all takes is told once
                    report = save(result, path, video=video, options=options, more_facts=facts)
                    done.append((path, report))
                    shown.result(report)
        except KeyboardInterrupt:
            _interrupted(request, [path for path, _ in done], seed)
        if options.preview:
            pictures = [preview_path(path) for path, _ in done]
            if len(earlier) + len(done) > 1:
                _draw_sheet(output, [path for path, _ in (*earlier, *done)], video)
                pictures.append(sheet_path(output))
            shown.note(f"pictures: {', '.join(map(str, pictures))}")


def _first_seed(asked: int | None, earlier: Sequence[tuple[Path, dict[str, Any]]]) -> int:
    """The seed as asked; of added takes the one after the last; else a new one."""
    if asked is not None:
        return asked
    return max(made["seed"] for _, made in earlier) + 1 if earlier else draw_seed()


def _interrupted(request: GenerationRequest, done: Sequence[Path], seed: int) -> None:
    """Say what is done and how to go on, and end.

    Raises:
        typer.Exit: Always.
    """
    left = request.takes - len(done)
    if not done:
        how = f"nothing was written; the same command with --seed {seed} makes what it would have"
    else:
        names = ", ".join(path.name for path in done)
        how = (
            f"{len(done)} of {request.takes} takes are done ({names}); to go on, give "
            f"--takes {left} --add in place of --takes {request.takes}"
        )
    print(f"omni2sound: interrupted: {how}", file=sys.stderr)
    raise typer.Exit(EXIT_INTERRUPTED)


def sheet_path(output: Path) -> Path:
    """Return the path of the picture of all takes of an output."""
    return output.with_name(f"{output.stem}-takes.png")


def _draw_sheet(output: Path, takes: Sequence[Path], video: Path | None) -> None:
    from omni2sound.generate.studio.preview import draw_preview, title_of

    titled = [(title_of(path, read_sidecar(path) or {}), path) for path in takes]
    draw_preview(titled, video, sheet_path(output))


def _several(
    videos: Sequence[Path], job: Job, pipeline: PipelineOptions, where: Where, shown: Shown
) -> None:
    from omni2sound.generate.batch import Batch

    jobs = [
        replace(job, id=stem, video=str(video))
        for video, stem in zip(videos, stems(videos), strict=True)
    ]
    options = OutputOptions(overwrite=where.overwrite)
    work = Batch(jobs, where.out_dir or Path(), pipeline=pipeline, output=options)

    def name_of(outcome: JobOutcome) -> str:
        return videos[outcome.line - 1].name

    run_batch(work, shown, name_of)


def run_batch(work: Batch, shown: Shown, name_of: Callable[[JobOutcome], str]) -> None:
    """Run jobs, print results and failures, and end with an exit code.

    Args:
        work: The jobs.
        shown: How results are shown.
        name_of: Names the job of an outcome, for failures.

    Raises:
        typer.Exit: Some failed, or the run was interrupted.
    """
    count = Counter(made=0, skipped=0, failed=0)
    try:
        with stages_shown(total=len(work)) as advance:
            for outcome in work.run():
                advance()
                if outcome.error is not None:
                    if isinstance(outcome.error, UserError):
                        outcome.error.rename(shown.names)
                    count["failed"] += 1
                    name = name_of(outcome)
                    reason = outcome.reason.removeprefix(f"{name}: ")
                    shown.failure(outcome.error, f"{name}: {reason}")
                    continue
                report = outcome.report or {}
                count["skipped" if outcome.skipped else "made"] += 1
                if not outcome.skipped:
                    for note in report.get("notes", ()):
                        shown.note(f"omni2sound: {name_of(outcome)}: {note}")
                if shown.as_json or not outcome.skipped:
                    shown.result(report)
    except KeyboardInterrupt:
        print(
            f"omni2sound: interrupted: {count['made'] + count['skipped']} of {len(work)} are done; "
            "the same command goes on with the others",
            file=sys.stderr,
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None
    logger.info(
        "%d jobs: %d made, %d were done already, %d failed",
        len(work), count["made"], count["skipped"], count["failed"],
    )  # fmt: skip
    if count["failed"]:
        raise typer.Exit(EXIT_SOME_FAILED)


def edit_sound(
    path: Path,
    output: Path | None,
    asked: Edit,
    pipeline: PipelineOptions,
    options: OutputOptions,
    shown: Shown,
) -> None:
    """Run `omni2sound edit`.

    Args:
        path: The sound or video.
        output: File to write. Default: SOUND.edited.
        asked: What is to be changed; a video that is edited gives its own pictures.
        pipeline: Model and device.
        options: How files are written.
        shown: How results are shown.
    """
    from omni2sound.generate.edit.source import asked_as_made, check_edit, open_source

    source = open_source(path)
    asked = asked_as_made(asked, source)
    if source.is_video and asked.video is None:
        asked = replace(asked, video=path)
    outputs = numbered(output or source.default_output(), asked.takes)
    for one in outputs:
        options = check_edit(source, one, asked, options)
    told: set[str] = set()
    with stages_shown():
        loaded = pipeline.load_torch()
        from omni2sound.generate.edit.files import edit_file

        for report in edit_file(loaded, source, asked, outputs, options):
            for note in [n for n in report.get("notes", ()) if n not in told]:
                shown.note(note)
                told.add(note)
            shown.result(report)
