"""`omni2sound try`: the default model in a web browser.

In:   the export that `omni2sound setup` made.
Out:  a server until Ctrl-C, its address on stdout; or a folder for a static host.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """\b
Examples:
  omni2sound try
  omni2sound try --to site
"""


def try_page(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8766,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write page and model into a folder for a static host instead; a site of this "
            "command is replaced. Default: serve them on this machine.",
        ),
    ] = None,
) -> None:
    """Run the default model in a web browser.

    A sentence or a video in, sound out; nothing leaves the machine. Needs the export that
    `omni2sound setup` makes.
    """
    from omni2sound.browser.parts import parts_of
    from omni2sound.browser.site import HOST, page_folder, site_server, write_site
    from omni2sound.errors import MissingPartError
    from omni2sound.generate.onnx.folder import (
        check_current,
        default_folder,
        how_to_export,
        is_exported,
        read_card,
    )
    from omni2sound.weights import load_card, resolve_model

    page_folder()
    model = load_card(resolve_model("embedded"))
    exported = default_folder(model.sha256)
    if not is_exported(exported):
        command = how_to_export(model.folder, "embedded")
        raise MissingPartError(f"the default model has no export yet; run: {command}")
    check_current(read_card(exported), exported, model)
    parts = parts_of(exported)
    if to is not None:
        print(f"{to}: {write_site(parts, to) / 1e6:.1f} MB")
        return
    with site_server(parts, port) as server:
        print(f"http://{HOST}:{server.server_address[1]}/", flush=True)
        server.serve_forever()
