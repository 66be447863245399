"""`omni2sound train-part`: train one component from the synthetic scenes.

In:   a component's name, the folder of the scenes' material, a time limit.
Out:  a model folder with the component, for `--parts` of the next command.

From nothing: `train-part autoencoder`, `train-part sync`, `scenes features`, `train embedded`;
each takes the model folder of the step before as `--parts`.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from omni2sound.cli.options import CorpusOption
from omni2sound.cli.progress import progress_bar
from omni2sound.cli.train.settings import SetOption, apply_changes
from omni2sound.errors import UserError
from omni2sound.files import corpus_folder


def train_part(
    name: Annotated[
        str,
        typer.Argument(
            help="Component: autoencoder, band, oobleck, sync, sync-files, joint or tagger."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder to write.")],
    corpus: CorpusOption = None,
    parts: Annotated[
        str | None,
        typer.Option(
            help="Model whose other components are kept (autoencoder, band, sync), whose sync "
            "features are kept (sync-files), or whose autoencoder reconstructs recordings "
            "(tagger). Default: embedded; none for autoencoder."
        ),
    ] = None,
    refit: Annotated[
        bool, typer.Option("--refit", help="Fit new latents despite --parts (autoencoder).")
    ] = False,
    init_from: Annotated[
        str | None,
        typer.Option(
            help="Train this model's encoder further (sync, sync-files). Default: random weights; "
            "the encoder of --parts for sync-files."
        ),
    ] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(
            help="Stop after this many minutes. Default: 20; tagger 60; oobleck without limit."
        ),
    ] = None,
    max_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after this many steps (oobleck). Default: no limit."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out (band, oobleck).")
    ] = False,
    set_: SetOption = None,
    device: Annotated[
        str | None,
        typer.Option(help="Device: auto, cpu, cuda or mps (oobleck). Default: auto."),
    ] = None,
) -> None:
    """Train one component of a model from the synthetic scenes."""
    from omni2sound.train.parts import COMPONENTS
    from omni2sound.train.parts.oobleck import OobleckSettings

    if name not in COMPONENTS:
        raise UserError(f"no component {name!r}; known: {', '.join(COMPONENTS)}")
    if max_minutes is not None and max_minutes <= 0:
        raise UserError(f"--max-minutes must be positive, got {max_minutes}")
    given: dict[str, Any] = {
        "parts": parts,
        "refit": refit or None,
        "init_from": init_from,
        "max_minutes": max_minutes,
        "max_steps": max_steps,
        "resume": resume or None,
        "settings": apply_changes(OobleckSettings(), set_) if set_ else None,
        "device": device,
    }
    given = {option: value for option, value in given.items() if value is not None}
    known = inspect.signature(COMPONENTS[name]).parameters
    for option in given:
        if option not in known:
            flag = "set" if option == "settings" else option.replace("_", "-")
            raise UserError(f"train-part {name} does not take --{flag}")
    if (out / "model").exists() and not resume:
        raise UserError(f"{out} holds a model already; give another --out")
    material = corpus_folder(corpus)
    if "on_scene" in known:
        with progress_bar("scenes") as on_scene:
            model = COMPONENTS[name](material, out, on_scene=on_scene, **given)
    else:
        model = COMPONENTS[name](material, out, **given)
    print(json.dumps({"model": str(model)}))
