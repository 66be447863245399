"""`omni2sound batch`: many requests from a file of jobs.

In:   a file with one JSON object per line, a folder for results.
Out:  an output and a sidecar per job; their paths (or JSON) on stdout, failures on stderr.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from omni2sound.cli.generate import show
from omni2sound.cli.options import (
    DeterministicOption,
    DtypeOption,
    EncodersOption,
    JsonOption,
    KeepAudioOption,
    LoraOption,
    LoudnessOption,
    LowMemoryOption,
    ModelOption,
    OverwriteOption,
    PipelineDeviceOption,
    ReencodeOption,
    option_names,
)
from omni2sound.errors import UserError

logger = logging.getLogger(__name__)

EXAMPLES = """\b
Example:
  omni2sound batch jobs.jsonl --out out
where jobs.jsonl holds lines such as
  {"id": "bark", "prompt": "a dog barks", "duration_s": 2}
  {"id": "street", "video": "street.mp4", "seed": 7, "output": "street.mkv"}
"""


def batch(
    context: typer.Context,
    jobs: Annotated[
        Path, typer.Argument(metavar="JOBS", help="File of requests, one JSON object per line.")
    ],
    out_dir: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the results; created if missing.")
    ],
    model: ModelOption = "embedded",
    device: PipelineDeviceOption = "auto",
    dtype: DtypeOption = "auto",
    low_memory: LowMemoryOption = False,
    encoders: EncodersOption = None,
    lora: LoraOption = None,
    deterministic: DeterministicOption = False,
    keep_audio: KeepAudioOption = False,
    loudness_lufs: LoudnessOption = None,
    reencode: ReencodeOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Generate sound for each request of a file.

    A job has an id and any of: video, prompt, negative_prompt, duration_s, seed, steps, guidance,
    text_guidance, recognise, seen, cues, ambience, output. Finished jobs are skipped on the next
    run. A failing job is reported and the others continue; the exit code is then 1.
    """
    from omni2sound.cli.progress import progress_bar
    from omni2sound.generate.batch import Batch
    from omni2sound.generate.load import PipelineOptions
    from omni2sound.generate.output import OutputOptions

    work = Batch(
        jobs,
        out_dir,
        pipeline=PipelineOptions(
            model=model,
            device=device,
            dtype=dtype,
            encoders=encoders,
            low_memory=low_memory,
            lora=lora,
            deterministic=deterministic,
        ),
        output=OutputOptions(
            keep_audio=keep_audio,
            overwrite=overwrite,
            loudness_lufs=loudness_lufs,
            reencode=reencode,
        ),
    )
    count = Counter(made=0, skipped=0, failed=0)
    with progress_bar("jobs", len(work)) as report:
        for index, outcome in enumerate(work.run(), 1):
            if isinstance(outcome.error, UserError):
                outcome.error.rename(option_names(context.command))
            if outcome.error is not None:
                count["failed"] += 1
                line = f"omni2sound: {jobs.name}:{outcome.line}: {outcome.message}"
                print(line, file=sys.stderr, flush=True)
            else:
                count["skipped" if outcome.skipped else "made"] += 1
                if outcome.report is not None and not outcome.skipped:
                    for note in outcome.report.get("notes", ()):
                        print(f"omni2sound: job {outcome.job_id!r}: {note}", file=sys.stderr)
                if outcome.report is not None and (as_json or not outcome.skipped):
                    show(outcome.report, as_json=as_json)
            report(index, len(work))
    logger.info(
        "%d jobs: %d made, %d were done already, %d failed",
        len(work),
        count["made"],
        count["skipped"],
        count["failed"],
    )
    if count["failed"]:
        raise typer.Exit(1)
