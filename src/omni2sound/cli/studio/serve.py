"""`omni2sound serve`: the library over HTTP, with a page.

In:   an address, a model, limits.
Out:  a server until Ctrl-C; its address on stdout.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from omni2sound.cli.options import (
    DtypeOption,
    LoraOption,
    LowMemoryOption,
    ModelOption,
    PipelineDeviceOption,
)

EXAMPLES = """\b
Examples:
  omni2sound serve
  omni2sound serve --port 0 --folder studio --max-duration 300
  OMNI2SOUND_TOKEN=... omni2sound serve --host 0.0.0.0 --allow-remote
"""

_PANEL = "Limits"


HostOption = Annotated[
    str, typer.Option(help="Address to listen on; other than loopback needs --allow-remote.")
]
PortOption = Annotated[
    int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
]
FolderOption = Annotated[
    Path | None,
    typer.Option(help="Folder of uploads, jobs and results. Default: in the cache folder."),
]
WarmOption = Annotated[bool, typer.Option(help="Load the model at start, not with the first job.")]
TokenOption = Annotated[
    str | None,
    typer.Option(
        envvar="OMNI2SOUND_TOKEN",
        help="Secret that requests must bring, at least 16 characters. Other users of the "
        "machine can read options: prefer the variable. Default: none on loopback.",
    ),
]
RemoteOption = Annotated[
    bool,
    typer.Option("--allow-remote", help="Let other machines connect; needs a token."),
]
NamesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--name",
        metavar="NAME",
        help="Host name under which clients reach the server; may be repeated. Default: the "
        "address and loopback.",
    ),
]
UploadOption = Annotated[
    int, typer.Option(metavar="MB", help="Size of one upload.", rich_help_panel=_PANEL)
]
StoredOption = Annotated[
    int,
    typer.Option(metavar="MB", help="Size of all uploads and results.", rich_help_panel=_PANEL),
]
LengthOption = Annotated[
    int,
    typer.Option(metavar="S", help="Length of a video or sound.", rich_help_panel=_PANEL),
]
JobsOption = Annotated[
    int, typer.Option(help="Number of jobs in the queue.", rich_help_panel=_PANEL)
]
MostTakesOption = Annotated[
    int, typer.Option(help="Number of takes of one job.", rich_help_panel=_PANEL)
]
AgeOption = Annotated[
    int,
    typer.Option(
        metavar="H",
        help="Hours after which unused uploads and results are deleted.",
        rich_help_panel=_PANEL,
    ),
]


def serve(
    host: HostOption = "127.0.0.1",
    port: PortOption = 8765,
    folder: FolderOption = None,
    model: ModelOption = "embedded",
    device: PipelineDeviceOption = "auto",
    dtype: DtypeOption = "auto",
    lora: LoraOption = None,
    low_memory: LowMemoryOption = False,
    warm: WarmOption = True,
    token: TokenOption = None,
    allow_remote: RemoteOption = False,
    names: NamesOption = None,
    max_upload: UploadOption = 2000,
    max_stored: StoredOption = 20_000,
    max_duration: LengthOption = 1200,
    max_jobs: JobsOption = 100,
    max_takes: MostTakesOption = 8,
    max_age: AgeOption = 24,
) -> None:
    """Serve the library over HTTP, with a page to work in."""
    from omni2sound.errors import MissingPartError
    from omni2sound.files import cache_dir
    from omni2sound.generate.load import PipelineOptions

    try:
        from omni2sound.serve.context import Settings
        from omni2sound.serve.limits import Limits
        from omni2sound.serve.run import check_address, serve
    except ModuleNotFoundError as error:
        raise MissingPartError(
            f"serving needs {error.name}; run: pip install 'omni2sound[studio]'"
        ) from None

    check_address(host, token, allow_remote=allow_remote)
    options = PipelineOptions(
        model=model, device=device, dtype=dtype, lora=lora, low_memory=low_memory
    )
    if Path(model).is_dir():  # what is on the Hub is fetched once the server answers
        options.torch_folder()
    settings = Settings(
        folder=folder or cache_dir() / "serve",
        model=options,
        limits=Limits(
            upload_mb=max_upload, stored_mb=max_stored, duration_s=max_duration,
            jobs=max_jobs, takes=max_takes, age_h=max_age,
        ),
        warm=warm,
        host=host,
        token=token,
        names=tuple(names or ()),
    )  # fmt: skip

    def ready(port: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        secret = "" if token is None else f"#token={token}"
        print(f"http://{shown}:{port}/{secret}", flush=True)

    serve(settings, port, ready)
