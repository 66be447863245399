"""`omni2sound export`: a model as ONNX graphs, which generate without torch.

In:   a model by name, folder or Hub id.
Out:  a folder of graphs with its card, checked against torch; the differences on stdout.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from omni2sound.cli.options import TableJsonOption
from omni2sound.errors import UserError


def export(
    model: Annotated[
        str,
        typer.Argument(help='Model: "embedded", a model folder, or a Hub id "org/name@<commit>".'),
    ] = "embedded",
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder to write; an exported one is replaced. Default: a folder in the cache, "
            "where `generate` looks for it.",
        ),
    ] = None,
    as_json: TableJsonOption = False,
) -> None:
    """Export a model as ONNX graphs, and check them against torch.

    `generate` and `batch` then run it without torch on a CPU, in less time and memory.
    """
    from omni2sound.export.folder import TOLERANCE, check_libraries, export_model
    from omni2sound.generate.onnx.folder import default_folder, is_exported
    from omni2sound.weights import load_card, resolve_model

    check_libraries()
    source = resolve_model(model, component="dit")
    if is_exported(source):
        raise UserError(f"{source}: is exported already", field="model")
    target = default_folder(load_card(source).sha256) if to is None else to
    target.parent.mkdir(parents=True, exist_ok=True)

    def show(name: str, error: float) -> None:
        if not as_json:
            print(f"  {name:22} {error:8.1e}", flush=True)

    if not as_json:
        print(
            f"  {'part, or a whole sound':22} largest difference from torch, of the largest value"
        )
    made = export_model(str(source), target, on_part=show)
    if as_json:
        print(
            json.dumps(
                {
                    "folder": str(made.folder),
                    "bytes": made.num_bytes,
                    "tolerance": TOLERANCE,
                    "errors": made.errors,
                }
            )
        )
        return
    print(f"{made.folder}: {made.num_bytes / 1e6:.0f} MB")
