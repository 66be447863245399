"""`omni2sound scenes`: synthetic scenes with exact ground truth.

In:   Debian packages (from the network or a folder), the prepared corpus, seeds.
Out:  the prepared corpus, scenes as files, contact sheets, features; paths go to stdout.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast, get_args

import typer

from omni2sound.cli.data import LATENTS_HELP, FeaturesOption, encoder_source, finish_build
from omni2sound.cli.options import (
    ComponentsOption,
    CorpusOption,
    DeviceOption,
    EncodersOption,
    EngineOption,
    OverwriteOption,
    WorkersOption,
    chosen_workers,
    command_group,
    seconds,
)
from omni2sound.cli.progress import progress_bar
from omni2sound.files import corpus_folder

if TYPE_CHECKING:
    from omni2sound.scenes.check import Attack
    from omni2sound.scenes.export.features import ScenePlan
    from omni2sound.scenes.material.catalogue import Split
    from omni2sound.scenes.scene import SceneKind

TrackOption = Annotated[
    Literal["train", "val", "test", "offscreen"],
    typer.Option(
        "--split",
        help="Split whose recordings and pictures are used; offscreen takes those of test and "
        "leaves one of two sources out of the picture.",
    ),
]
KindOption = Annotated[
    Literal["main", "strike", "audio"],
    typer.Option(
        help="Kind of scene: main has one to three sources, strike one impact among silent "
        "objects, audio no picture."
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Random seed; equal seeds, equal scenes.")]
DurationOption = Annotated[
    float,
    typer.Option(
        "--duration", parser=seconds, metavar="S", help="Length of each scene in seconds."
    ),
]
NumScenesOption = Annotated[int, typer.Option("--scenes", min=1, help="Number of scenes.")]

app = command_group("Build and inspect synthetic scenes with exact ground truth.")


@app.command()
def fetch(
    corpus: CorpusOption = None,
    from_folder: Annotated[
        Path | None,
        typer.Option("--from", help="Folder of the packages. Default: they are downloaded."),
    ] = None,
    mirror: Annotated[
        str | None, typer.Option(help="Root of a Debian mirror. Default: deb.debian.org.")
    ] = None,
    kinds: Annotated[
        Literal["all", "bench"],
        typer.Option(
            help="Kinds of sound to fetch: all, 3.8 GB of packages, or those of the benchmark "
            "scenes alone, 1.5 GB."
        ),
    ] = "all",
) -> None:
    """Download recordings and pictures and prepare them.

    They come from pinned Debian packages; root is not needed.
    """
    from omni2sound.scenes.material.fetch import fetch as prepare
    from omni2sound.scenes.material.packages import DEFAULT_MIRROR

    folder = corpus_folder(corpus)
    with progress_bar("packages") as report:
        prepare(
            folder,
            mirror=mirror or DEFAULT_MIRROR,
            from_folder=from_folder,
            kinds=kinds,
            on_package=report,
        )
    print(folder)


@app.command()
def build(
    num_scenes: NumScenesOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="Output folder; created if missing.")],
    track: TrackOption = "train",
    seed: SeedOption = 0,
    kind: KindOption = "main",
    duration_s: DurationOption = 5.0,
    licences: Annotated[
        str | None,
        typer.Option(help="Use only material under these licences, comma-separated. Default: all."),
    ] = None,
    corpus: CorpusOption = None,
) -> None:
    """Write scenes: video, mix, stems, events and a manifest.

    An interrupted build is resumed.
    """
    from omni2sound.errors import UserError
    from omni2sound.scenes.export.files import BuildPlan, build_corpus
    from omni2sound.scenes.material.assets import SceneAssets

    split, scene_kind = _split_and_kind(track, kind)
    plan = BuildPlan(
        num_scenes=num_scenes, split=split, seed=seed, kind=scene_kind, duration_s=duration_s
    )
    names = None if licences is None else [n.strip() for n in licences.split(",") if n.strip()]
    if names == []:
        raise UserError("--licences names none; expected e.g. CC0-1.0,MIT, or leave it out")
    assets = SceneAssets.open(corpus_folder(corpus), licences=names)
    with progress_bar("scenes", num_scenes) as report:
        manifest = build_corpus(assets, out, plan, on_scene=report)
    print(manifest)


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="Folder of scenes, or of one scene.")],
    output: Annotated[Path, typer.Option("--out", "-o", help="Output file, a .png.")],
    overwrite: OverwriteOption = False,
) -> None:
    """Draw a contact sheet: frames, spectrogram, events."""
    from omni2sound.errors import UserError
    from omni2sound.scenes.export.files import inspect as draw

    if output.exists() and not overwrite:
        raise UserError(f"{output}: exists already; choose another name or give --overwrite")
    draw(path, output)
    print(output)


@app.command()
def check(
    num_scenes: NumScenesOption = 2000,
    track: TrackOption = "test",
    seed: SeedOption = 0,
    kind: KindOption = "main",
    duration_s: DurationOption = 5.0,
    corpus: CorpusOption = None,
) -> None:
    """Check that each onset shows in the event's stem and picture.

    Exit code 1 if one does not.
    """
    from omni2sound.scenes.check import check_scenes
    from omni2sound.scenes.material.assets import SceneAssets

    split, scene_kind = _split_and_kind(track, kind)
    assets = SceneAssets.open(corpus_folder(corpus))
    with progress_bar("scenes", num_scenes) as report:
        events = check_scenes(
            assets,
            split=split,
            kind=scene_kind,
            seed=seed,
            num_scenes=num_scenes,
            duration_s=duration_s,
            on_scene=report,
        )
    bad = [event for event in events if not event.good]
    for event in bad[:20]:
        print(
            f"{event.scene_id} {event.class_id} at {event.onset_s:.3f} s: "
            f"heard {_milliseconds(event.heard_s)}, {_attack(event.attack)}, "
            f"seen {_milliseconds(event.seen_s) if event.on_screen else 'not checked'}"
        )
    print(f"{len(events) - len(bad)} of {len(events)} events of {num_scenes} scenes are good")
    if bad:
        raise typer.Exit(1)


def _split_and_kind(track: str, kind: str) -> tuple[Split, SceneKind]:
    from omni2sound.errors import UserError

    if track != "offscreen":
        return cast("Split", track), cast("SceneKind", kind)
    if kind != "main":
        raise UserError(f"--split offscreen has its own kind of scene; drop --kind {kind}")
    return "test", "offscreen"


def _attack(attack: Attack | None) -> str:
    if attack is None:
        return "silent"
    audible, half = (_milliseconds(s) for s in (attack.audible_s, attack.half_s))
    return f"a fifth as loud {audible}, half {half}"


def _milliseconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{1000 * seconds:+.0f} ms"


@app.command()
def features(
    scenes: Annotated[
        list[str],
        typer.Option(
            metavar="KIND:COUNT:SECONDS",
            help="Scenes to render, e.g. main:800:4 or audio:2400:4; may be repeated.",
        ),
    ],
    out: FeaturesOption,
    split: Annotated[
        Literal["train", "val", "test"],
        typer.Option(help="Split whose recordings and pictures are used."),
    ] = "train",
    seed: SeedOption = 0,
    classes: Annotated[
        str | None, typer.Option(help="Only these classes, comma-separated. Default: all.")
    ] = None,
    speed: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.5,
            help="Speed perturbation: play recordings faster or slower by up to this fraction.",
        ),
    ] = 0.0,
    kinds: Annotated[
        Literal["bench", "all"],
        typer.Option(
            help="Kinds of sound in the scenes: those of the benchmark scenes, or all, with typed "
            "prompts beside the captions."
        ),
    ] = "bench",
    latents: Annotated[bool, typer.Option("--latents", help=LATENTS_HELP)] = False,
    parts: ComponentsOption = "embedded",
    encoders: EncodersOption = None,
    device: DeviceOption = "cpu",
    engine: EngineOption = "local",
    num_workers: WorkersOption = None,
    corpus: CorpusOption = None,
) -> None:
    """Compute training features of scenes.

    An interrupted build is resumed.
    """
    from omni2sound.scenes.export.features import build_features

    plans = [_scene_plan(text) for text in scenes]
    with progress_bar("features") as report:
        built = build_features(
            out,
            assets=corpus_folder(corpus),
            encoders=encoder_source(parts, encoders, device),
            latents=latents,
            classes=None if classes is None else classes.split(","),
            speed=speed,
            kinds=kinds,
            split=split,
            seed=seed,
            plans=plans,
            workers=chosen_workers(num_workers, engine, device),
            on_shard=report,
        )
    finish_build(out, built)


def _scene_plan(text: str) -> ScenePlan:
    from omni2sound.errors import UserError
    from omni2sound.scenes.draw import check_duration
    from omni2sound.scenes.export.features import ScenePlan
    from omni2sound.scenes.scene import SceneKind

    try:
        kind, count, seconds = text.split(":")
        plan = ScenePlan(kind=kind, count=int(count), duration_s=float(seconds))  # type: ignore[arg-type]
    except ValueError:
        raise UserError(
            f"--scenes {text!r}: expected KIND:COUNT:SECONDS, e.g. main:800:4"
        ) from None
    if kind not in get_args(SceneKind) or plan.count < 1:
        known = ", ".join(get_args(SceneKind))
        raise UserError(f"--scenes {text!r}: KIND must be one of {known} and COUNT at least 1")
    check_duration(plan.duration_s, "scenes")
    return plan
