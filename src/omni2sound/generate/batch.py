"""Many requests, each on its own.

In:   a jobs file, or jobs from code; a folder for results.
Out:  an output file and a sidecar per take of a job; a `JobOutcome` for each.

A failing job is reported and the others continue. A take whose output and sidecar exist and fit,
made from the same request by the same model, is skipped: an interrupted batch is simply run again.
What not to get wrong: paths of inputs are relative to the jobs file, those of outputs to the
result folder, and no output may lie outside it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni2sound.errors import Omni2SoundError, UserError
from omni2sound.generate.load import PipelineOptions
from omni2sound.generate.output import (
    OutputOptions,
    check_target,
    default_output,
    is_whole,
    numbered,
    read_sidecar,
    request_sha256,
    save,
)
from omni2sound.generate.request import GenerationRequest, draw_seed
from omni2sound.generate.studio.job import Job, read_jobs
from omni2sound.generate.studio.request import options_of, request_of, spanned_request
from omni2sound.readers import real_path
from omni2sound.staging import remove_leftovers

if TYPE_CHECKING:
    from omni2sound.generate.pipeline import Omni2SoundPipeline

logger = logging.getLogger(__name__)

_JSON_NAMES = {
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "text_guidance_scale": "text_guidance",
    "sample_rate_hz": "rate",
    "destination": "for",
}
"""Fields of a request that have another name in a jobs file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobOutcome:
    """Outcome of one take of a job, or of a line that is none.

    Attributes:
        line: Number of the line or job, from 1.
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
        return self.reason if self.job_id is None else f"job {self.job_id!r}: {self.reason}"

    @property
    def reason(self) -> str:
        """Error message in one line; empty without an error."""
        if self.error is None:
            return ""
        reason = " ".join(str(self.error).split()) or type(self.error).__name__
        if not isinstance(self.error, (Omni2SoundError, OSError)):
            reason = f"{type(self.error).__name__}: {reason}"
        return reason


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """The takes of one job."""

    request: GenerationRequest
    options: OutputOptions
    outputs: Sequence[Path]
    made: Sequence[dict[str, Any] | None]
    """What the sidecars of finished takes say; None: to be made."""
    facts: dict[str, Any]
    """Of all takes."""
    sha256s: Sequence[str]
    """Digest of each take's request."""


class Batch:
    """Runs jobs.

        for outcome in Batch("jobs.jsonl", "out").run():
            print(outcome.message or outcome.report["output"])

    Raises:
        UserError: The file can't be read or holds no line, or `out_dir` is a file.
        MissingPartError: There is no such model.
    """

    def __init__(
        self,
        jobs: str | Path | Sequence[Job],
        out_dir: str | Path,
        *,
        pipeline: PipelineOptions | None = None,
        output: OutputOptions | None = None,
    ) -> None:
        """Read the jobs; nothing is generated yet.

        Args:
            jobs: File with one JSON object per line, or CSV; its keys are the fields of `Job`. Or
                the jobs themselves.
            out_dir: Folder for results; made if it is missing.
            pipeline: Model and device. Default: the bundled model on the best device.
            output: How files are written, where a job does not say.
        """
        self.out_dir = Path(out_dir)
        self._lines: list[tuple[int, Job | UserError]]
        if isinstance(jobs, (str, Path)):
            self._folder, self._lines = Path(jobs).parent, read_jobs(Path(jobs))
        else:
            self._folder, self._lines = Path(), list(enumerate(jobs, 1))
        self._pipeline = pipeline or PipelineOptions()
        self._options = output or OutputOptions()
        self._model = self._pipeline.identity()
        self._owners: dict[Path, str] = {}
        try:
            self.out_dir.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise UserError(f"{self.out_dir} is a file; give a folder", field="out_dir") from None

    def __len__(self) -> int:
        """Number of takes of all jobs."""
        return sum(max(1, job.takes) if isinstance(job, Job) else 1 for _, job in self._lines)

    def run(self, *, on_step: Callable[[int, int], None] | None = None) -> Iterator[JobOutcome]:
        """Generate what is not done yet, in the order of the jobs.

        Args:
            on_step: Called with (steps done, steps in all) of the job that is worked on.

        Raises:
            Omni2SoundError: The model can't be loaded, so no job can run.
        """
        pipeline = None
        for line, job in self._lines:
            if isinstance(job, UserError):
                yield JobOutcome(line=line, job_id=None, error=job)
                continue
            with ExitStack() as stack:
                try:
                    plan = self._plan(job, stack)
                except Exception as error:  # whatever it is, it fails this job alone
                    logger.debug("line %d", line, exc_info=error)
                    yield JobOutcome(line=line, job_id=job.id, error=error)
                    continue
                if pipeline is None and None in plan.made:
                    # Outside the net: without a model no job can run.
                    pipeline = self._pipeline.load()
                try:
                    for made, report in _takes(plan, pipeline, on_step):
                        yield JobOutcome(line=line, job_id=job.id, report=report, skipped=made)
                except Exception as error:
                    logger.debug("line %d", line, exc_info=error)
                    yield JobOutcome(line=line, job_id=job.id, error=error)

    def _plan(self, job: Job, stack: ExitStack) -> _Plan:
        """Check a job, cut its span, and look which of its takes are done."""
        source = None if job.video is None else self._folder / job.video
        try:
            options = options_of(job, self._options)
            video, duration_s = stack.enter_context(spanned_request(source, job))
            seed = draw_seed() if job.seed is None else job.seed
            request = request_of(job, video, duration_s, seed=seed)
        except UserError as error:
            error.rename(_JSON_NAMES)
            raise
        outputs = numbered(self._output(job, video, options), request.takes)
        sha256s = [
            request_sha256(
                request,
                options,
                model_sha256=self._model.sha256,
                dtype=self._pipeline.precision,
                seed=None if job.seed is None else job.seed + take,
                recognises=self._model.recognises,
                places=self._model.places,
            )
            for take in range(request.takes)
        ]
        made = [
            _made_earlier(output, sha256, request, options)
            for output, sha256 in zip(outputs, sha256s, strict=True)
        ]
        facts = {"id": job.id} | ({"start_s": job.start_s} if job.start_s else {})
        return _Plan(
            request=request,
            options=options,
            outputs=outputs,
            made=made,
            facts=facts,
            sha256s=sha256s,
        )

    def _output(self, job: Job, video: Path | None, options: OutputOptions) -> Path:
        if job.output is None:
            output = default_output(self.out_dir, video, job.id, reencode=options.reencode)
        else:
            output = self.out_dir / job.output
            if not real_path(output).is_relative_to(real_path(self.out_dir)):
                raise UserError(
                    f"{job.output!r} lies outside {self.out_dir}; give a path inside it",
                    field="output",
                )
            output.parent.mkdir(parents=True, exist_ok=True)
        owner = self._owners.setdefault(real_path(output), job.id)
        if owner != job.id:
            raise UserError(
                f"{output.name} is the output of job {owner!r} too; choose another name",
                field="output",
            )
        return output


def _takes(
    plan: _Plan, pipeline: Omni2SoundPipeline | None, on_step: Callable[[int, int], None] | None
) -> Iterator[tuple[bool, dict[str, Any]]]:
    """(whether it was made earlier, report) of each take of a job, in their order."""
    take = 0
    while take < len(plan.outputs):
        made = plan.made[take]
        if made is not None:
            yield True, made | {"output": str(plan.outputs[take])}
            take += 1
            continue
        assert pipeline is not None
        end = next(
            (k for k in range(take, len(plan.made)) if plan.made[k] is not None), len(plan.made)
        )
        request = replace(plan.request, seed=plan.request.seed + take, takes=end - take)
        for result in pipeline.run(request, on_step=on_step):
            yield (
                False,
                save(
                    result,
                    plan.outputs[take],
                    video=request.video,
                    options=plan.options,
                    more_facts=plan.facts | {"request_sha256": plan.sha256s[take]},
                ),
            )
            take += 1


def _made_earlier(
    output: Path, sha256: str, request: GenerationRequest, options: OutputOptions
) -> dict[str, Any] | None:
    """Return what the sidecar of a finished take says; None if there is something to do.

    Raises:
        UserError: The output is in the way and of something else.
    """
    made = read_sidecar(output)
    if made is not None and output.is_file() and output.stat().st_size:
        is_same = made["request_sha256"] == sha256
        if is_same and is_whole(output, made):
            remove_leftovers(output)  # a kill may have come right after the last rename
            return made
        if not options.overwrite:
            wrong = "is of another request, model or setting"
            if is_same:
                wrong = "was changed, or its sidecar is of a run that was interrupted"
            raise UserError(
                f"{output.name}: exists already and {wrong}; give the job another output, or set "
                "`overwrite`"
            )
    check_target(output, request, options)
    return None
