"""Options that several commands share: one name, one help text, one default."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = [
    "ComponentsOption",
    "CorpusOption",
    "DeviceOption",
    "EncodersOption",
    "Engine",
    "EngineOption",
    "WorkersOption",
    "corpus_folder",
    "default_workers",
]


Engine = Literal["local", "ray"]

CorpusOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of recordings and pictures. Default: where `omni2sound scenes fetch` puts it."
    ),
]
EngineOption = Annotated[
    Engine,
    typer.Option(
        help="local runs processes on this machine; ray needs the extra `scale` and uses the "
        "cluster that RAY_ADDRESS names."
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, help="Number of processes; changes speed only. Default: one per core."
    ),
]
DeviceOption = Annotated[
    str, typer.Option(help="Device of the encoders: cpu, cuda or mps. Each worker loads its own.")
]
ComponentsOption = Annotated[
    str, typer.Option(help="Model whose encoders compute the features; they fit no other model.")
]
EncodersOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of published encoders (docs/guides/full-size.md). Default: cache folder."
    ),
]


def corpus_folder(given: Path | None) -> Path:
    """Return the folder of recordings and pictures: `given`, or the one in the cache."""
    from omni2sound.files import cache_dir

    return given or cache_dir() / "stage"


def default_workers() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
