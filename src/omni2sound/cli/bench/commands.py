"""`omni2sound bench`: evaluations that print a table and fail if a criterion is missed.

In:   a model, the scene material, how much of it.
Out:  a table (or one JSON object) on stdout; exit code 1 if a check fails.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from omni2sound.cli.bench import build, listen, run
from omni2sound.cli.options import (
    CorpusOption,
    ModelOption,
    PipelineDeviceOption,
    TableJsonOption,
    command_group,
)
from omni2sound.cli.progress import progress_bar
from omni2sound.files import corpus_folder

app = command_group("Measure a model.")
app.add_typer(build.app, name="build")
app.add_typer(listen.app, name="listen")
for command in (run.run, run.score, run.report, run.compare, run.follow, run.publish):
    app.command()(command)
app.command()(build.decide)


@app.callback()
def bench() -> None:
    """Measure a model."""


@app.command()
def quick(
    corpus: CorpusOption = None,
    model: ModelOption = "embedded",
    scenes: Annotated[int, typer.Option(min=2, help="Number of test scenes.")] = 200,
    prompts: Annotated[int, typer.Option(min=2, help="Number of prompts.")] = 200,
    seed: Annotated[
        int, typer.Option(min=0, help="Random seed for scenes, prompts and noise.")
    ] = 0,
    duration: Annotated[float, typer.Option(help="Length of every clip in seconds.")] = 4.0,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Sampling steps. Default: the model's.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(min=0, help="Guidance scale. Default: the model's.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Number of clips generated at once.")] = 8,
    device: PipelineDeviceOption = "auto",
    as_json: TableJsonOption = False,
) -> None:
    """Check timing on impacts, and classes from prompts.

    Exit code 1 if a criterion is missed.
    """
    from omni2sound.bench.quick.run import QuickOptions, run_quick
    from omni2sound.bench.report.text import as_text
    from omni2sound.generate.torch_pipeline import TorchPipeline
    from omni2sound.scenes.material.assets import SceneAssets

    assets = SceneAssets.open(corpus_folder(corpus))
    pipeline = TorchPipeline.load(model, device=device)
    options = QuickOptions(
        num_scenes=scenes,
        num_prompts=prompts,
        seed=seed,
        duration_s=duration,
        num_steps=steps,
        guidance=guidance,
        batch_size=batch,
    )
    with progress_bar("scenes and prompts", scenes + prompts) as on_clip:
        result = run_quick(pipeline, assets, options, on_clip=on_clip)
    print(json.dumps(result.to_json()) if as_json else as_text(result))
    if not result.passed:
        raise typer.Exit(1)


@app.command()
def avbench(
    generated: Annotated[Path, typer.Option(help="Folder of generated wav or flac files.")],
    reference: Annotated[
        Path, typer.Option(help="Folder of real sounds with the same file names.")
    ],
    weights: Annotated[Path, typer.Option(help="Folder of the protocol's networks.")],
    videos: Annotated[
        Path | None,
        typer.Option(help="Folder of mp4 files, for IB and DeSync. Default: neither score."),
    ] = None,
    captions: Annotated[
        Path | None,
        typer.Option(help="CSV with columns name, caption, for CLAP. Default: no CLAP score."),
    ] = None,
    device: PipelineDeviceOption = "auto",
    as_json: TableJsonOption = False,
) -> None:
    """Print the scores of two folders by the protocol avbench-8s-v1.

    FD, KL, IS, CLAP, IB and DeSync of the first 8 s.
    """
    from omni2sound.bench.metrics.avbench.clips import (
        Networks,
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
    networks = Networks.load(weights, resolve_device(device))
    with progress_bar("generated", len(made)) as report:
        made_features = embed_sounds(made, networks, on_clip=report)
    with progress_bar("real", len(real)) as report:
        real_features = embed_sounds(real, networks, on_clip=report)
    with progress_bar("videos", len(shown)) as report:
        seen = embed_videos(shown, networks, on_clip=report)
    scores = score_avbench(
        made_features,
        real_features,
        videos=seen,
        captions=embed_captions(texts, networks) if texts else None,
        sync=networks.sync,
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
            "judges_missing": networks.missing,
        }
        print(json.dumps(data))
    else:
        print(avbench_as_text(scores, dropped=dropped, missing=networks.missing))


@app.command("taggers")
def compare_taggers(
    corpus: CorpusOption = None,
    taggers: run.TaggersOption = "yamnet,tagger",
    validation: Annotated[
        bool, typer.Option("--val", help="Use the validation split instead of the test split.")
    ] = False,
    as_json: TableJsonOption = False,
) -> None:
    """Print how often each tagger detects real recordings."""
    from omni2sound.bench.metrics.tagging import CatalogueTagger, load_tagger, tag_recordings
    from omni2sound.bench.report.text import taggers_as_text
    from omni2sound.scenes.material.assets import SceneAssets

    split: Literal["test", "val"] = "val" if validation else "test"
    assets = SceneAssets.open(corpus_folder(corpus))
    found = {
        name: tag_recordings(assets, CatalogueTagger(load_tagger(name), assets.catalogue), split)
        for name in run.names_in(taggers)
    }
    if as_json:
        print(json.dumps({name: dict(real.rates) for name, real in found.items()}))
    else:
        print(taggers_as_text(found))
