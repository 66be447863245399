"""`omni2sound batch`: many requests from a file of jobs.

In:   a file with one JSON object per line or a CSV table, a folder for results.
Out:  an output and a sidecar per job; their paths (or JSON) on stdout, failures on stderr.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni2sound.cli.generate.options import BitsOption, PreviewOption
from omni2sound.cli.options import (
    DestinationOption,
    DeterministicOption,
    DtypeOption,
    DuckOption,
    EncodersOption,
    JsonOption,
    KeepAudioOption,
    LoraOption,
    LoudnessOption,
    LowMemoryOption,
    MixOption,
    ModelOption,
    OverwriteOption,
    PipelineDeviceOption,
    ReencodeOption,
    RuntimeOption,
)

if TYPE_CHECKING:
    from omni2sound.generate.batch import JobOutcome

EXAMPLES = """\b
Example:
  omni2sound batch jobs.jsonl --out out
where jobs.jsonl holds lines such as
  {"id": "bark", "prompt": "a dog barks", "duration_s": 2}
  {"id": "street", "video": "street.mp4", "seed": 7, "output": "street.mkv"}

\b
  omni2sound batch jobs.csv --out out
where jobs.csv is a table such as
  id,video,prompt,takes,start_s,end_s,for
  bark,,a dog barks,3,,,podcast
  shot,film.mov,,1,1:30,1:38,youtube
"""


def batch(
    context: typer.Context,
    jobs: Annotated[
        Path,
        typer.Argument(
            metavar="JOBS", help="File of requests: one JSON object per line, or a .csv table."
        ),
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
    engine: RuntimeOption = "auto",
    keep_audio: KeepAudioOption = False,
    mix_db: MixOption = None,
    duck_db: DuckOption = None,
    loudness_lufs: LoudnessOption = None,
    destination: DestinationOption = None,
    bits: BitsOption = None,
    reencode: ReencodeOption = False,
    preview: PreviewOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Generate sound for each request of a file.

    A job has an id and any of: video, start_s, end_s, prompt, negative_prompt, duration_s, seed,
    takes, steps, guidance, text_guidance, recognise, seen, leave_out, cues, ambience, stems, rate,
    channels, bits, keep_audio, mix_db, duck_db, loudness_lufs, for, reencode, preview, output.
    Finished jobs are skipped on the next run. A failing job is reported and the others continue;
    the exit code is then 1.
    """
    from omni2sound.cli.generate.run import Shown, run_batch
    from omni2sound.generate.batch import Batch
    from omni2sound.generate.load import PipelineOptions
    from omni2sound.generate.output import OutputOptions
    from omni2sound.generate.studio.job import loudness_for

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
            engine=engine,
        ),
        output=OutputOptions(
            keep_audio=keep_audio,
            mix_db=mix_db,
            duck_db=duck_db,
            overwrite=overwrite,
            loudness_lufs=loudness_for(destination, loudness_lufs),
            bits=bits,
            reencode=reencode,
            preview=preview,
        ),
    )

    def name_of(outcome: JobOutcome) -> str:
        job = "" if outcome.job_id is None else f": job {outcome.job_id!r}"
        return f"{jobs.name}:{outcome.line}{job}"

    run_batch(work, Shown(context.command, as_json), name_of)
