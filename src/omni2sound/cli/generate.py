"""`omni2sound generate`: sound for a video, a text or both; one request, or a file of jobs.

In:   a video, a prompt, settings; or ``--jobs``, a file with one request a line.
Out:  sound files, or copies of the video with sound; their paths (or JSON) on stdout.

What can be refused cheaply is refused before torch is imported.
"""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omni2sound.errors import UserError

if TYPE_CHECKING:
    from omni2sound.generate.pipeline import Omni2SoundPipeline

__all__ = ["draw_seed", "generate", "load_pipeline", "show"]


def generate(
    video: Annotated[Path | None, typer.Argument(help="Video to make sound for.")] = None,
    prompt: Annotated[str | None, typer.Option(help="What should be heard, in English.")] = None,
    negative_prompt: Annotated[
        str | None, typer.Option(help="What should not be heard; needs a guidance above 1.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="File to write; its suffix says what: mp4 mov mkv webm (the video with the new "
            "sound) or wav flac mp3 opus ogg m4a. "
            "Default: VIDEO.omni2sound.mp4, or omni2sound.wav.",
        ),
    ] = None,
    duration_s: Annotated[
        float | None,
        typer.Option(
            "--duration",
            metavar="S",
            help="Seconds of sound, up to 3600 and never longer than the video, which is silent "
            "after them; default: the video's length, or the model's (8).",
        ),
    ] = None,
    num_inference_steps: Annotated[
        int | None,
        typer.Option(
            "--steps", metavar="N", help="Sampling steps, 1 to 1000; default: the model's."
        ),
    ] = None,
    guidance_scale: Annotated[
        float | None,
        typer.Option(
            "--guidance",
            metavar="G",
            help="0 to 100: 1 is none, more follows the input closer; default: the model's (3).",
        ),
    ] = None,
    text_guidance_scale: Annotated[
        float | None,
        typer.Option(
            "--text-guidance",
            metavar="G",
            help="Of the prompt beside a video; above the other (4 or 5), what is named counts for "
            "more than what is seen. Default: the same.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Same seed, same sound; default: a new one.")
    ] = None,
    takes: Annotated[
        int,
        typer.Option(metavar="K", help="Make OUT-1 to OUT-K, with seeds N to N+K-1; at most 100."),
    ] = 1,
    model: Annotated[
        str, typer.Option(help="A model's name, folder, or Hub id with revision.")
    ] = "embedded",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    low_memory: Annotated[
        bool,
        typer.Option("--low-memory", help="One part in memory at a time, in half precision."),
    ] = False,
    encoders: Annotated[
        Path | None,
        typer.Option(help="Folder of the published encoders that a full-size model listens to."),
    ] = None,
    lora: Annotated[
        Path | None, typer.Option(help="Folder of an adapter that was trained on the model.")
    ] = None,
    keep_audio: Annotated[
        bool, typer.Option("--keep-audio", help="Mix the video's own sound under the new one.")
    ] = False,
    loudness_lufs: Annotated[
        float | None,
        typer.Option(
            "--loudness",
            metavar="LUFS",
            help="Bring the sound to this loudness, -50 to -5, with true peaks under -1 dB; "
            "default: as it was made.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per result on stdout.")
    ] = False,
    jobs: Annotated[
        Path | None,
        typer.Option(help="File of requests, one JSON object a line; needs --out-dir."),
    ] = None,
    out_dir: Annotated[Path | None, typer.Option(help="Folder for the results of --jobs.")] = None,
) -> None:
    """Make sound for a video, a text or both.

    Each line of a --jobs file has an id and, as wanted, video, prompt, negative_prompt,
    duration_s, seed, steps, guidance, text_guidance, output. Jobs that are done are skipped
    on the next run.
    """
    from omni2sound.generate.output import OutputOptions
    from omni2sound.media.loudness import check_loudness

    check_loudness(loudness_lufs)
    options = OutputOptions(keep_audio=keep_audio, overwrite=overwrite, loudness_lufs=loudness_lufs)
    if low_memory and dtype == "auto":
        dtype = "bfloat16"
    if jobs is not None or out_dir is not None:
        per_request = {
            "VIDEO": video,
            "--prompt": prompt,
            "--negative-prompt": negative_prompt,
            "--output": output,
            "--duration": duration_s,
            "--steps": num_inference_steps,
            "--guidance": guidance_scale,
            "--text-guidance": text_guidance_scale,
            "--seed": seed,
            "--takes": None if takes == 1 else takes,
        }
        misplaced = [name for name, value in per_request.items() if value is not None]
        if jobs is None or out_dir is None:
            raise UserError("--jobs and --out-dir go together; got only one of them")
        if misplaced:
            raise UserError(
                f"{', '.join(misplaced)} can't go with --jobs; say it in the job's line"
            )
        from omni2sound.cli.jobs import run_jobs

        given = {"--low-memory": low_memory, "--encoders": encoders, "--lora": lora}
        if misplaced := [name for name, value in given.items() if value]:
            raise UserError(f"{', '.join(misplaced)} can't go with --jobs")
        if run_jobs(
            jobs, out_dir, options, model=model, device=device, dtype=dtype, as_json=as_json
        ):
            raise typer.Exit(1)
        return

    from omni2sound.cli.progress import progress_bar
    from omni2sound.generate.output import check_target, default_output, request_sha256, save
    from omni2sound.generate.request import GenerationRequest

    request = GenerationRequest(
        video=video,
        prompt=prompt,
        negative_prompt=negative_prompt,
        duration_s=duration_s,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        text_guidance_scale=text_guidance_scale,
        seed=draw_seed() if seed is None else seed,
        takes=takes,
    )
    output = default_output(Path(), video) if output is None else output
    if not output.name:
        raise UserError(f"{output} is a folder; give a file name", field="output")
    outputs = [output]
    if takes > 1:
        outputs = [output.with_stem(f"{output.stem}-{k}") for k in range(1, takes + 1)]
    for path in outputs:
        check_target(path, request, options)

    from omni2sound.weights import resolve_model

    pipeline, import_s = load_pipeline(
        resolve_model(model),
        device=device,
        dtype=dtype,
        encoders=encoders,
        low_memory=low_memory,
        lora=lora,
    )
    with progress_bar("generating") as report:
        results = pipeline.run(request, on_step=report)
        for path, result in zip(outputs, results, strict=True):
            digest = request_sha256(
                request,
                options,
                model_sha256=result.model_sha256,
                dtype=dtype,
                seed=result.seed,
            )
            saved = save(
                result,
                path,
                video=video,
                options=options,
                more_facts={"request_sha256": digest},
                import_s=import_s,
            )
            show(saved, as_json=as_json)
            import_s = 0.0


def draw_seed() -> int:
    """A seed for a request that names none; short enough to be typed again."""
    return secrets.randbelow(2**31)


def load_pipeline(
    model: str | Path,
    *,
    device: str,
    dtype: str,
    encoders: Path | None = None,
    low_memory: bool = False,
    lora: Path | None = None,
) -> tuple[Omni2SoundPipeline, float]:
    """The pipeline, and the seconds that its imports took."""
    begin = time.perf_counter()
    from omni2sound.generate.pipeline import Omni2SoundPipeline

    import_s = time.perf_counter() - begin
    pipeline = Omni2SoundPipeline.from_pretrained(
        model, device=device, dtype=dtype, encoders=encoders, low_memory=low_memory, lora=lora
    )
    return pipeline, import_s


def show(report: dict[str, Any], *, as_json: bool) -> None:
    """One result on stdout, at once: the next one may take a while."""
    print(json.dumps(report) if as_json else report["output"], flush=True)
