"""Many requests from a file, each on its own.

In:   a file with one JSON object per line, a folder for results.
Out:  an output file and a sidecar per job; a `JobOutcome` per line.

A failing job is reported and the others continue. A job whose output and sidecar exist and fit,
made from the same request by the same model, is skipped: an interrupted batch is simply run again.
What not to get wrong: paths of inputs are relative to the jobs file, those of outputs to the
result folder, and no output may lie outside it.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omni2sound.config import from_json
from omni2sound.errors import Omni2SoundError, UserError
from omni2sound.generate.load import PipelineOptions
from omni2sound.generate.output import (
    OutputOptions,
    check_target,
    default_output,
    is_whole,
    read_sidecar,
    request_sha256,
    save,
)
from omni2sound.generate.request import GenerationRequest, draw_seed
from omni2sound.generate.words.cues import parse_cue
from omni2sound.readers import loads, read_text
from omni2sound.staging import remove_leftovers

logger = logging.getLogger(__name__)

_MAX_ID_BYTES = 220
"""A file name has at most 255; suffixes and the mark of an unfinished file take the rest."""
_MAX_LINES = 500_000
_JSON_NAMES = {
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "text_guidance_scale": "text_guidance",
    "sample_rate_hz": "rate",
}
"""Fields of a request that have another name in a jobs file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One line of a jobs file: an id, a `GenerationRequest`, and where its result goes."""

    id: str
    video: str | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    duration_s: float | None = None
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    text_guidance: float | None = None
    recognise: bool | None = None
    seen: str | None = None
    cues: tuple[str, ...] = ()
    """Each as "0.5-2: a dog barks"."""
    ambience: bool = True
    rate: int | None = None
    mono: bool = False
    output: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class JobOutcome:
    """Outcome of one line of a jobs file.

    Attributes:
        line: Number of the line, from 1.
        job_id: The job's id; None if the line holds no job.
        report: What the sidecar says; None if the job failed.
        error: Why it failed; None if it did not.
        skipped: Whether the output was already there.
    """

    line: int
    job_id: str | None
    report: dict[str, Any] | None = None
    error: Exception | None = None
    skipped: bool = False

    @property
    def message(self) -> str:
        """Error message in one line, with the job's id; empty without an error."""
        if self.error is None:
            return ""
        reason = " ".join(str(self.error).split()) or type(self.error).__name__
        if not isinstance(self.error, (Omni2SoundError, OSError)):
            reason = f"{type(self.error).__name__}: {reason}"
        return reason if self.job_id is None else f"job {self.job_id!r}: {reason}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    request: GenerationRequest
    output: Path
    sha256: str


class Batch:
    """Runs the jobs of a file.

        for outcome in Batch("jobs.jsonl", "out").run():
            print(outcome.message or outcome.report["output"])

    Raises:
        UserError: The file can't be read or holds no line, or `out_dir` is a file.
        MissingPartError: There is no such model.
    """

    def __init__(
        self,
        jobs: str | Path,
        out_dir: str | Path,
        *,
        pipeline: PipelineOptions | None = None,
        output: OutputOptions | None = None,
    ) -> None:
        """Read the jobs; nothing is generated yet.

        Args:
            jobs: File with one JSON object per line; its keys are the fields of `Job`.
            out_dir: Folder for results; made if it is missing.
            pipeline: Model and device. Default: the bundled model on the best device.
            output: How files are written.
        """
        self.path, self.out_dir = Path(jobs), Path(out_dir)
        self._lines = _read_jobs(self.path)
        self._pipeline = pipeline or PipelineOptions()
        self._options = output or OutputOptions()
        self._model_sha256, self._recognises = self._pipeline.identity()
        self._owners: dict[Path, str] = {}
        try:
            self.out_dir.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise UserError(f"{self.out_dir} is a file; give a folder", field="out_dir") from None

    def __len__(self) -> int:
        return len(self._lines)

    def run(self) -> Iterator[JobOutcome]:
        """Generate what is not done yet, in the order of the file.

        Raises:
            Omni2SoundError: The model can't be loaded, so no job can run.
        """
        pipeline = None
        for line, job in self._lines:
            if isinstance(job, UserError):
                yield JobOutcome(line=line, job_id=None, error=job)
                continue
            try:
                plan = self._plan(job)
                made = self._made_earlier(plan)
                if made is not None:
                    report = made | {"output": str(plan.output)}
                    yield JobOutcome(line=line, job_id=job.id, report=report, skipped=True)
                    continue
            except Exception as error:  # whatever it is, it fails this job alone
                logger.debug("line %d", line, exc_info=error)
                yield JobOutcome(line=line, job_id=job.id, error=error)
                continue
            if pipeline is None:  # outside the net: without a model no job can run
                pipeline = self._pipeline.load()
            try:
                facts = {"id": job.id, "request_sha256": plan.sha256}
                result = next(pipeline.run(plan.request))
                report = save(
                    result,
                    plan.output,
                    video=plan.request.video,
                    options=self._options,
                    more_facts=facts,
                )
            except Exception as error:
                logger.debug("line %d", line, exc_info=error)
                yield JobOutcome(line=line, job_id=job.id, error=error)
                continue
            yield JobOutcome(line=line, job_id=job.id, report=report)

    def _plan(self, job: Job) -> _Plan:
        video = None if job.video is None else self.path.parent / job.video
        try:
            request = GenerationRequest(
                video=video,
                prompt=job.prompt,
                negative_prompt=job.negative_prompt,
                duration_s=job.duration_s,
                num_inference_steps=job.steps,
                guidance_scale=job.guidance,
                text_guidance_scale=job.text_guidance,
                recognise=job.recognise,
                seen=job.seen,
                cues=tuple(parse_cue(line) for line in job.cues),
                ambience=job.ambience,
                sample_rate_hz=job.rate,
                mono=job.mono,
                seed=draw_seed() if job.seed is None else job.seed,
            )
            request.resolve_duration(1.0)  # checks the video before all of it is read
        except UserError as error:
            error.rename(_JSON_NAMES)
            raise
        output = self._output(job, video)
        sha256 = request_sha256(
            request,
            self._options,
            model_sha256=self._model_sha256,
            dtype=self._pipeline.precision,
            seed=job.seed,
            recognises=self._recognises,
        )
        return _Plan(request=request, output=output, sha256=sha256)

    def _output(self, job: Job, video: Path | None) -> Path:
        if job.output is None:
            output = default_output(self.out_dir, video, job.id, reencode=self._options.reencode)
        else:
            output = self.out_dir / job.output
            if not output.resolve().is_relative_to(self.out_dir.resolve()):
                raise UserError(
                    f"{job.output!r} lies outside {self.out_dir}; give a path inside it",
                    field="output",
                )
            output.parent.mkdir(parents=True, exist_ok=True)
        owner = self._owners.setdefault(output.resolve(), job.id)
        if owner != job.id:
            raise UserError(
                f"{output.name} is the output of job {owner!r} too; choose another name",
                field="output",
            )
        return output

    def _made_earlier(self, plan: _Plan) -> dict[str, Any] | None:
        """Return what the sidecar of a finished job says; None if there is something to do.

        Raises:
            UserError: The output is in the way and of something else.
        """
        made = read_sidecar(plan.output)
        if made is not None and plan.output.is_file() and plan.output.stat().st_size:
            is_same, name = made["request_sha256"] == plan.sha256, plan.output.name
            if is_same and is_whole(plan.output, made):
                remove_leftovers(plan.output)  # a kill may have come right after the last rename
                return made
            if not self._options.overwrite:
                wrong = "is of another request, model or setting"
                if is_same:
                    wrong = "was changed, or its sidecar is of a run that was interrupted"
                raise UserError(
                    f"{name}: exists already and {wrong}; give the job another output, or set "
                    "`overwrite`"
                )
        check_target(plan.output, plan.request, self._options)
        return None


def _read_jobs(path: Path) -> list[tuple[int, Job | UserError]]:
    """Parse a jobs file to line numbers and jobs, or to what is wrong with a malformed line."""
    try:
        text = read_text(path, encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: jobs can't be read: {error.strerror}") from None
    if text.count("\n") > _MAX_LINES:
        raise UserError(f"{path}: more than {_MAX_LINES} lines; split it")
    lines: list[tuple[int, Job | UserError]] = []
    line_of: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            job = _parse(line)
            first = line_of.setdefault(job.id, number)
            if first != number:
                raise UserError(f"the id {job.id!r} is that of line {first}; choose another")
            lines.append((number, job))
        except UserError as error:
            lines.append((number, error))
    if not lines:
        raise UserError(f"{path}: holds no jobs; write one JSON object a line")
    return lines


def _parse(line: str) -> Job:
    try:
        data = loads(line)
    except ValueError as error:
        raise UserError(f"is not JSON: {error}") from None
    job = from_json(Job, data, where="job")
    if not _is_file_name(job.id):
        raise UserError(
            f"{job.id[:80]!r}: expected a file name, since it names the output: no '/' or '\\', "
            f"no control characters, at most {_MAX_ID_BYTES} bytes",
            field="id",
        )
    return job


def _is_file_name(text: str) -> bool:
    """Ids of YouTube begin with "-" or "_" in one of 32 cases; names of recordings hold blanks."""
    try:
        num_bytes = len(text.encode())
    except UnicodeEncodeError:  # half of a character
        return False
    return (
        0 < num_bytes <= _MAX_ID_BYTES
        and text not in (".", "..")
        and not set(text) & {"/", "\\"}
        and not any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in text)
    )
