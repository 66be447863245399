"""`omni2sound bench`: evaluations that print a table and fail if a promise is not kept.

In:   a model, the stage corpus, how much of it.
Out:  a table (or one JSON object) on stdout; exit code 1 if a check fails.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from omni2sound.cli import bench_build as tracks
from omni2sound.cli import bench_listen as listening
from omni2sound.cli import bench_run as benchmark
from omni2sound.cli.progress import progress_bar
from omni2sound.errors import UserError

__all__ = ["app"]

app = typer.Typer(
    help="Measure a model.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.add_typer(tracks.app, name="build")
app.add_typer(listening.app, name="listen")
app.command()(benchmark.run)
app.command()(benchmark.score)
app.command()(benchmark.report)
app.command()(benchmark.compare)
app.command()(tracks.decide)


@app.callback()
def bench() -> None:
    """Measure a model."""


@app.command()
def spine(
    assets: Annotated[Path, typer.Option(help="Stage corpus, from `scenes fetch`.")],
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
    from omni2sound.bench.quick.impacts import run_impacts
    from omni2sound.bench.quick.model import PipelineSounds
    from omni2sound.bench.quick.prompts import run_prompts
    from omni2sound.bench.quick.score import (
        QUICK_CLASSES,
        QuickReport,
        score_impacts,
        score_prompts,
    )
    from omni2sound.bench.report.text import as_text
    from omni2sound.encoders.metric.tagger import Tagger
    from omni2sound.encoders.metric.yamnet import YamNet
    from omni2sound.encoders.sync import SyncConfig
    from omni2sound.generate.pipeline import Omni2SoundPipeline
    from omni2sound.scenes.material.assets import SceneAssets

    corpus = SceneAssets.open(assets).of_classes(QUICK_CLASSES)
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
        strikes = run_impacts(
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
            second_judge=Tagger.load(),
            num_prompts=prompts,
            seed=seed,
            batch_size=batch,
            on_prompts=report,
        )
    strike_rows, strike_checks = score_impacts(strikes)
    prompt_rows, prompt_checks = score_prompts(asked.result)
    result = QuickReport(
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
            "second_judge": "tagger",
            "oracle_rates": asked.oracle_rates,
            "oracle_rates_2nd": asked.second_oracle_rates,
            "classes_left_out": asked.left_out,
            "classes_left_out_2nd": asked.left_out_2nd,
        },
    )
    print(json.dumps(result.to_json()) if as_json else as_text(result))
    if not result.passed:
        raise typer.Exit(1)


@app.command()
def avbench(
    generated: Annotated[Path, typer.Option(help="Folder of generated wav or flac files.")],
    reference: Annotated[Path, typer.Option(help="Folder of real sounds of the same names.")],
    weights: Annotated[
        Path, typer.Option(help="Folder of the judges' files, docs/guides/full-size.md.")
    ],
    videos: Annotated[Path | None, typer.Option(help="Folder of mp4 files: IB, DeSync.")] = None,
    captions: Annotated[Path | None, typer.Option(help="CSV of name, caption: CLAP.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """FD, KL, IS, CLAP, IB and DeSync of the first 8 s, by the protocol avbench-8s-v1."""
    from omni2sound.bench.metrics.avbench.clips import (
        Judges,
        embed_captions,
        embed_sounds,
        embed_videos,
        list_files,
        read_captions,
    )
    from omni2sound.bench.metrics.avbench.scores import score_avbench
    from omni2sound.bench.report.text import avbench_as_text
    from omni2sound.runtime import resolve_device

    made, real = list_files(generated), list_files(reference)
    shown = [] if videos is None else list_files(videos, videos=True)
    texts = {} if captions is None else read_captions(captions)
    judges = Judges.load(weights, resolve_device(device))
    with progress_bar("generated", len(made)) as report:
        made_features = embed_sounds(made, judges, on_clip=report)
    with progress_bar("real", len(real)) as report:
        real_features = embed_sounds(real, judges, on_clip=report)
    with progress_bar("videos", len(shown)) as report:
        seen = embed_videos(shown, judges, on_clip=report)
    scores = score_avbench(
        made_features,
        real_features,
        videos=seen,
        captions=embed_captions(texts, judges) if texts else None,
        sync=judges.sync,
    )
    dropped = {
        "generated": made_features.dropped,
        "reference": real_features.dropped,
        "videos": seen.dropped,
    }
    if as_json:
        data = {
            "scores": [asdict(score) for score in scores],
            "dropped": dropped,
            "judges_missing": judges.missing,
        }
        print(json.dumps(data))
    else:
        print(avbench_as_text(scores, dropped=dropped, missing=judges.missing))


@app.command()
def judges(
    assets: Annotated[Path, typer.Option(help="Stage corpus, from `scenes fetch`.")],
    tagger: Annotated[str, typer.Option(help="The second judge: a name or folder.")] = "tagger",
    validation: Annotated[
        bool, typer.Option("--val", help="The validation split: to choose something.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """How often each judge hears real recordings as what they are."""
    from omni2sound.bench.metrics.tagging import CatalogueTagger, tag_recordings
    from omni2sound.bench.report.text import judges_as_text
    from omni2sound.encoders.metric.tagger import Tagger
    from omni2sound.encoders.metric.yamnet import YamNet
    from omni2sound.scenes.material.assets import SceneAssets

    split: Literal["test", "val"] = "val" if validation else "test"
    corpus = SceneAssets.open(assets)
    heard = {
        "YAMNet": tag_recordings(corpus, CatalogueTagger(YamNet.load(), corpus.catalogue), split),
        "tagger": tag_recordings(
            corpus, CatalogueTagger(Tagger.load(tagger), corpus.catalogue), split
        ),
    }
    if as_json:
        print(json.dumps({name: dict(real.rates) for name, real in heard.items()}))
    else:
        print(judges_as_text(heard))
