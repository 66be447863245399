"""`omni2sound train`, `train-export`: run a recipe; a model from a checkpoint of its run.

In:   a recipe's name, folders of features, limits.
Out:  a run folder: checkpoints, `log.jsonl`, and `model/`, which `generate --model` takes.

Under `torchrun` every rank runs this command; the first one writes.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from omni2sound.cli.options import EncodersOption
from omni2sound.cli.progress import progress_bar
from omni2sound.cli.train.settings import RECIPE_HELP, SetOption, apply_changes

SaveOption = Annotated[
    int | None, typer.Option(min=1, help="Steps between checkpoints. Default: four minutes.")
]
KeepOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Keep the checkpoints of multiples of this many steps. Default: the two newest.",
    ),
]
AllowOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY",
        help="Resume although this differs from the run as it began: lr, data, accumulate or "
        "compile; recorded in the card; may be repeated. Default: nothing may.",
    ),
]


def train(
    recipe: Annotated[
        str,
        typer.Argument(help=RECIPE_HELP),
    ],
    data: Annotated[
        list[str],
        typer.Option(help="Folder or object-storage URL of features; may be repeated."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder to write.")],
    validation: Annotated[
        Path | None,
        typer.Option(
            help="Features of the validation split. Default: none, and convergence is not measured."
        ),
    ] = None,
    parts: Annotated[
        str, typer.Option(help="Model whose autoencoder and encoders are used.")
    ] = "embedded",
    encoders: EncodersOption = None,
    max_steps: Annotated[
        int | None, typer.Option(min=1, help="Stop after this many steps. Default: no limit.")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(help="Stop after this many minutes. Default: no limit.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the run in --out, or start it. Default: start."),
    ] = False,
    init_from: Annotated[
        str | None,
        typer.Option(help="Start a run from this model's weights. Default: random weights."),
    ] = None,
    lora: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Train an adapter of this rank on the model of --init-from. "
            "Default: train all weights.",
        ),
    ] = None,
    save_every: SaveOption = None,
    keep_every: KeepOption = None,
    allow_change: AllowOption = None,
    set_: SetOption = None,
    device: Annotated[str, typer.Option(help="Device: auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Train a model by a recipe."""
    from omni2sound.recipes import recipe_named
    from omni2sound.train.session import RunRequest, train_recipe

    request = RunRequest(
        recipe=apply_changes(recipe_named(recipe), set_),
        data=list[Path | str](data),
        out=out,
        validation=validation,
        parts=parts,
        encoders=encoders,
        init_from=init_from,
        lora=lora,
        max_steps=max_steps,
        max_minutes=max_minutes,
        resume=resume,
        device=device,
        save_every=save_every,
        keep_every=keep_every,
        allow_change=tuple(allow_change or ()),
    )
    if os.environ.get("RANK", "0") != "0":  # of torchrun; the first rank speaks for all
        logging.getLogger("omni2sound").setLevel(logging.ERROR)
    with progress_bar("training", request.recipe.num_steps) as on_step:
        run = train_recipe(request, on_step=on_step)
    if run.written is not None:
        print(json.dumps({run.written.name: str(run.written)}))


def train_export(
    run: Annotated[
        str, typer.Argument(metavar="RUN[@STEP]", help="Run folder, with a checkpoint's step.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Model folder to write.")],
) -> None:
    """Write a checkpoint's EMA weights as a model.

    The run may still be going on.
    """
    from omni2sound.errors import UserError
    from omni2sound.train.export import export_checkpoint

    folder, _, step = run.rpartition("@") if "@" in run else (run, "", "")
    if step and not step.isdigit():
        raise UserError(f"expected RUN@STEP with a number of steps, got {run!r}", field="run")
    written = export_checkpoint(Path(folder), out, step=int(step) if step else None)
    print(json.dumps({"model": str(written)}))
