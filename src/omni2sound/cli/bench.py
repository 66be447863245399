"""`omni2sound bench`: evaluations that print a table and fail if a promise is not kept.

In:   a model, the stage corpus, how much of it.
Out:  a table (or one JSON object) on stdout; exit code 1 if a check fails.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from omni2sound.cli.progress import progress_bar
from omni2sound.errors import UserError

__all__ = ["app"]

app = typer.Typer(
    help="Measure a model.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def bench() -> None:
    """Measure a model."""


@app.command()
def spine(
    assets: Annotated[Path, typer.Option(help="Stage corpus, from `data stage fetch`.")],
    model: Annotated[str, typer.Option(help="A model's name, folder or Hub id.")] = "embedded",
    scenes: Annotated[int, typer.Option(min=2, help="Number of test scenes.")] = 200,
    prompts: Annotated[int, typer.Option(min=2, help="Number of prompts.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of scenes, wordings and noise.")] = 0,
    duration: Annotated[float, typer.Option(help="Seconds of every clip.")] = 4.0,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampling steps.")] = None,
    guidance: Annotated[float | None, typer.Option(min=0, help="Guidance scale.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Clips generated at once.")] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Does sound come when something is struck, and is it the sound that was asked for?"""
    from omni2sound.bench.generate import PipelineSounds
    from omni2sound.bench.prompts import run_prompts
    from omni2sound.bench.report import as_text
    from omni2sound.bench.spine import SpineReport, score_prompts, score_strikes
    from omni2sound.bench.strikes import run_strikes
    from omni2sound.data.stage.assets import StageAssets
    from omni2sound.encoders.metric.yamnet import YamNet
    from omni2sound.encoders.sync import SyncConfig
    from omni2sound.pipeline import Omni2SoundPipeline

    corpus = StageAssets.open(assets)
    pipeline = Omni2SoundPipeline.from_pretrained(model, device=device)
    model_parts, model_defaults = pipeline.model.config, pipeline.model.defaults
    if not isinstance(model_parts.sync, SyncConfig):
        raise UserError(
            f"bench spine renders pictures for the embedded sync encoder; {model} has another"
        )
    generate = PipelineSounds(
        pipeline=pipeline, seed=seed, duration_s=duration, num_steps=steps, guidance=guidance
    )
    with progress_bar("scenes", scenes) as report:
        strikes = run_strikes(
            corpus,
            generate.for_pictures,
            num_scenes=scenes,
            seed=seed,
            duration_s=duration,
            sync_px=model_parts.sync.frame_px,
            vision_fps=model_parts.timebase.vision_fps,
            sync_fps=model_parts.timebase.sync_fps,
            batch_size=batch,
            on_scenes=report,
        )
    with progress_bar("prompts", prompts) as report:
        asked = run_prompts(
            corpus,
            generate.for_prompts,
            YamNet.load(),
            num_prompts=prompts,
            seed=seed,
            batch_size=batch,
            on_prompts=report,
        )
    strike_rows, strike_checks = score_strikes(strikes)
    prompt_rows, prompt_checks = score_prompts(asked.result)
    result = SpineReport(
        rows=strike_rows + prompt_rows,
        checks=strike_checks + prompt_checks,
        facts={
            "model": pipeline.model.name,
            "model_sha256": pipeline.model.sha256,
            "catalogue_sha256": corpus.catalogue.digest,
            "seed": seed,
            "duration_s": duration,
            "steps": model_defaults.steps if steps is None else steps,
            "guidance": model_defaults.guidance if guidance is None else guidance,
            "judge": "YAMNet",
            "oracle_rates": asked.oracle_rates,
            "classes_left_out": asked.left_out,
        },
    )
    print(json.dumps(result.to_json()) if as_json else as_text(result))
    if not result.passed:
        raise typer.Exit(1)
