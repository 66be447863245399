"""`omni2sound convert`: a released checkpoint into a model folder, or back.

In:   a folder with `model_config.json` and a checkpoint, a folder of diffusers with an
      autoencoder, or a model folder.
Out:  a new folder; a line of JSON that says what was done and what of it is unverified.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from omni2sound.errors import UserError

__all__ = ["convert"]


def convert(
    source: Annotated[
        Path, typer.Argument(help="Folder or file of a checkpoint; or a model folder, to go back.")
    ],
    target: Annotated[Path, typer.Argument(help="Folder to write; it must not exist.")],
    weights: Annotated[
        str | None,
        typer.Option(help="Of a training checkpoint: trained, or average (its moving average)."),
    ] = None,
) -> None:
    """Convert a checkpoint of the stable-audio-tools family, or a model back into one."""
    from omni2sound.convert.folder import convert as run

    if weights not in (None, "trained", "average"):
        raise UserError(f"--weights {weights}: expected trained or average")
    if not target.parent.is_dir():
        raise UserError(f"{target}: folder {target.parent} does not exist; create it first")
    done = run(source, target, weights=weights)  # type: ignore[arg-type]
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
