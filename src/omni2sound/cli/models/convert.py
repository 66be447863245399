"""`omni2sound convert`: convert a released checkpoint into a model folder, or back.

In:   a folder with `model_config.json` and a checkpoint, a diffusers folder with an autoencoder,
      or a model folder.
Out:  a new folder; one line of JSON with the number of tensors and unverified components.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from omni2sound.errors import UserError


def convert(
    source: Annotated[
        Path,
        typer.Argument(help="Folder or file of a checkpoint, or a model folder to convert back."),
    ],
    target: Annotated[Path, typer.Argument(help="Folder to write, which must not exist.")],
    weights: Annotated[
        Literal["trained", "average"] | None,
        typer.Option(
            help="Weights of a training checkpoint: trained, or average (their EMA). "
            "Default: the only set in the file."
        ),
    ] = None,
) -> None:
    """Convert a stable-audio-tools checkpoint, or a model back."""
    from omni2sound.convert.folder import convert as run

    if not target.parent.is_dir():
        raise UserError(f"{target}: folder {target.parent} does not exist; create it first")
    done = run(source, target, weights=weights)
    print(
        json.dumps(
            {
                "folder": str(done.folder),
                "direction": done.direction,
                "tensors": done.num_tensors,
                "set_aside": done.set_aside,
                "unverified": list(done.unverified),
            }
        )
    )
