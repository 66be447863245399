"""``generate --jobs``: many requests from a file, each on its own.

In:   a file with one JSON object a line, a folder for results.
Out:  an output and a sidecar per job; how many jobs failed.

A job that fails is reported and the next one goes on. A job whose output and sidecar are
there, made from the same request by the same model, is skipped, so a run that was stopped is
simply run again. What not to get wrong: paths of inputs are relative to the jobs file, those
of outputs to the result folder, which none may leave.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from omni2sound.cli.generate import draw_seed, load_pipeline, show
from omni2sound.cli.progress import progress_bar
from omni2sound.errors import Omni2SoundError, UserError
from omni2sound.generate.output import (
    OutputOptions,
    check_target,
    default_output,
    request_sha256,
    save,
    sidecar,
)
from omni2sound.generate.request import GenerationRequest

if TYPE_CHECKING:
    from omni2sound.generate.pipeline import Omni2SoundPipeline

__all__ = ["Job", "read_jobs", "run_jobs"]

logger = logging.getLogger(__name__)

_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,199}")


class Job(BaseModel):
    """One line of a jobs file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: str
    video: str | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    duration_s: float | None = None
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    text_guidance: float | None = None
    output: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    """A line of the file: a job, or why it is none."""

    number: int
    job: Job | None = None
    problem: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Settings:
    """What holds for all jobs of a run."""

    folder: Path
    out_dir: Path
    options: OutputOptions
    model_sha256: str
    dtype: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Planned:
    """A job that can be run."""

    job: Job
    request: GenerationRequest
    output: Path
    sha256: str


def read_jobs(path: Path) -> tuple[_Line, ...]:
    """Parse a jobs file; a malformed line is an item that says what is wrong with it.

    Raises:
        UserError: The file can't be read, or holds no line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"{path}: jobs can't be read: {reason}") from None
    lines = [
        _parsed(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()
    ]
    if not lines:
        raise UserError(f"{path}: holds no jobs; write one JSON object a line")
    first_of: dict[str, int] = {}
    for index, line in enumerate(lines):
        if line.job is not None:
            before = first_of.setdefault(line.job.id, line.number)
            if before != line.number:
                problem = f"the id {line.job.id!r} is that of line {before}; choose another"
                lines[index] = replace(line, job=None, problem=problem)
    return tuple(lines)


def _parsed(number: int, line: str) -> _Line:
    try:
        job = Job.model_validate_json(line)
    except ValidationError as error:
        return _Line(number=number, problem=_problem(error))
    if not _ID.fullmatch(job.id):
        return _Line(
            number=number,
            problem=f"id {job.id[:80]!r}: use letters, digits, '_', '-' and '.', 200 at most",
        )
    return _Line(number=number, job=job)


def _problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(key) for key in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key {field!r}; known: {', '.join(Job.model_fields)}"
    if first["type"] == "missing":
        return f"has no {field!r}; every job needs one"
    return f"{field}: {first['msg']}" if field else str(first["msg"])


def run_jobs(
    path: Path,
    out_dir: Path,
    options: OutputOptions,
    *,
    model: str,
    device: str,
    dtype: str,
    as_json: bool,
) -> int:
    """Run what is not done yet.

    Args:
        path: The jobs file.
        out_dir: Folder for results; made if it is missing.
        options: How files are written.
        model: As for one request.
        device: As for one request.
        dtype: As for one request.
        as_json: Print reports instead of paths.

    Returns:
        How many jobs failed.

    Raises:
        UserError: The file as a whole, the model or the device can't be used.
    """
    from omni2sound.weights import load_card, resolve_model

    lines = read_jobs(path)
    folder = resolve_model(model)
    card = load_card(folder)
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(f"--out-dir {out_dir}: is a file; give a folder") from None
    settings = _Settings(
        folder=path.parent,
        out_dir=out_dir,
        options=options,
        model_sha256=card.sha256,
        dtype=dtype,
    )
    pipeline: Omni2SoundPipeline | None = None
    num_failed = num_skipped = 0
    taken: dict[Path, str] = {}
    import_s = 0.0
    with progress_bar("jobs", len(lines)) as report:
        for index, line in enumerate(lines):
            report(index, len(lines))
            try:
                planned = _plan(line, settings, taken)
                made = _made_before(planned.output)
                if made is not None and made.get("request_sha256") == planned.sha256:
                    num_skipped += 1
                    if as_json:
                        show(made | {"output": str(planned.output)}, as_json=True)
                    continue
                _refuse_other(planned.output, made, options)
                check_target(planned.output, planned.request, options)
            except (Omni2SoundError, OSError, ValueError) as error:
                # ValueError: a path that no file system takes, such as one with a zero byte.
                num_failed += 1
                _complain(path, line, error)
                continue
            if pipeline is None:  # outside the net: without a model no job can run
                pipeline, import_s = load_pipeline(folder, device=device, dtype=dtype)
            try:
                result = next(pipeline.run(planned.request))
                saved = save(
                    result,
                    planned.output,
                    video=planned.request.video,
                    options=options,
                    more_facts={"id": planned.job.id, "request_sha256": planned.sha256},
                    import_s=import_s,
                )
            except Exception as error:  # whatever it is, the other jobs are not to blame
                num_failed += 1
                _complain(path, line, error)
                continue
            import_s = 0.0
            show(saved, as_json=as_json)
    logger.info(
        "%d jobs: %d made, %d were done already, %d failed",
        len(lines),
        len(lines) - num_skipped - num_failed,
        num_skipped,
        num_failed,
    )
    return num_failed


def _plan(line: _Line, settings: _Settings, taken: dict[Path, str]) -> _Planned:
    job = line.job
    if job is None:
        raise UserError(line.problem)
    video = None if job.video is None else settings.folder / job.video
    request = GenerationRequest(
        video=video,
        prompt=job.prompt,
        negative_prompt=job.negative_prompt,
        duration_s=job.duration_s,
        num_inference_steps=job.steps,
        guidance_scale=job.guidance,
        text_guidance_scale=job.text_guidance,
        seed=draw_seed() if job.seed is None else job.seed,
    )
    request.resolved_duration(1.0)  # says what is wrong with the video, before it is read whole
    output = default_output(settings.out_dir, video, job.id)
    if job.output is not None:
        output = settings.out_dir / job.output
        if not output.resolve().is_relative_to(settings.out_dir.resolve()):
            raise UserError(f"output {job.output!r} lies outside --out-dir; give a path inside it")
        output.parent.mkdir(parents=True, exist_ok=True)
    owner = taken.setdefault(output.resolve(), job.id)
    if owner != job.id:
        raise UserError(f"{output.name}: is the output of job {owner!r} too; choose another name")
    sha256 = request_sha256(
        request,
        settings.options,
        model_sha256=settings.model_sha256,
        dtype=settings.dtype,
        seed=job.seed,
    )
    return _Planned(job=job, request=request, output=output, sha256=sha256)


def _made_before(output: Path) -> dict[str, Any] | None:
    """What the sidecar of an existing output says; None without output or sidecar."""
    if not output.is_file():
        return None
    try:
        made = json.loads(sidecar(output).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return made if isinstance(made, dict) else None


def _refuse_other(output: Path, made: dict[str, Any] | None, options: OutputOptions) -> None:
    if made is not None and not options.overwrite:
        raise UserError(
            f"{output.name}: exists already and is of another request, model or setting; "
            "give the job another output, or --overwrite to make it anew"
        )


def _complain(path: Path, line: _Line, error: Exception) -> None:
    reason = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, (Omni2SoundError, OSError)):
        reason = f"{type(error).__name__}: {reason}"
        logger.debug("line %d", line.number, exc_info=error)
    job = "" if line.job is None else f"job {line.job.id!r}: "
    print(f"omni2sound: {path.name}:{line.number}: {job}{reason}", file=sys.stderr, flush=True)
