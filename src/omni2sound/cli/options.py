"""Options that several commands share: one name, one help text, one default."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from omni2sound.errors import UserError
from omni2sound.generate.studio.times import parse_time

if TYPE_CHECKING:
    from omni2sound.data.workers import Workers

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
        help="Where workers run: local processes of this machine, or ray (extra `scale`; the "
        "cluster that RAY_ADDRESS names)."
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
    typer.Option(help="Folder of published encoders. Default: encoders in the cache folder."),
]
ModelOption = Annotated[
    str, typer.Option(help='Model: "embedded", a model folder, or a Hub id "org/name@<commit>".')
]
PipelineDeviceOption = Annotated[
    str, typer.Option(help="Device: cpu, cuda, cuda:1, mps, or auto for the fastest of them.")
]
DtypeOption = Annotated[
    str,
    typer.Option(
        help="Precision of the transformer: float32, bfloat16, float16, or auto for bfloat16 where "
        "it is fast and float32 elsewhere."
    ),
]
RuntimeOption = Annotated[
    Literal["auto", "onnx", "torch"],
    typer.Option(
        "--engine",
        help="What computes: torch; onnx, which needs the folder of `omni2sound export`; or auto "
        "for onnx on a CPU where that folder is there and no other option needs torch.",
    ),
]
LowMemoryOption = Annotated[
    bool,
    typer.Option(
        "--low-memory",
        help="Keep one component in memory at a time, in bfloat16 unless --dtype is given. Slower.",
    ),
]
DeterministicOption = Annotated[
    bool,
    typer.Option(
        "--deterministic",
        help="Compute on one thread of the CPU in float32: equal seeds then give equal bytes for "
        "any number of threads, on one machine with the same versions. Slower. Default: equal "
        "bytes only for the same number of threads and the same precision.",
    ),
]
LoraOption = Annotated[
    Path | None, typer.Option(help="Folder of a LoRA adapter for the model. Default: none.")
]
KeepAudioOption = Annotated[
    bool,
    typer.Option(
        "--keep-audio", help="Mix the video's own sound under the new one, also into a wav."
    ),
]
LoudnessOption = Annotated[
    float | None,
    typer.Option(
        "--loudness",
        metavar="LUFS",
        help="Target loudness, -50 to -5 LUFS, with true peaks below -1 dB. Default: as generated.",
    ),
]
MixOption = Annotated[
    float | None,
    typer.Option(
        "--mix-db",
        metavar="DB",
        help="Gain of the new sound beside the video's own, with --keep-audio, -60 to 20. "
        "Default: 0.",
    ),
]
DuckOption = Annotated[
    float | None,
    typer.Option(
        "--duck",
        metavar="DB",
        help="By how much the new sound gives way while somebody speaks in the video's own, with "
        "--keep-audio, 1 to 40. Default: not at all.",
    ),
]
DestinationOption = Annotated[
    Literal["youtube", "podcast", "broadcast"] | None,
    typer.Option(
        "--for",
        help="Loudness by where it goes: -14, -16 or -23 LUFS. Default: --loudness.",
    ),
]
ReencodeOption = Annotated[
    bool,
    typer.Option(
        "--reencode",
        help="Encode the picture again (H.264; AV1 in mkv, VP9 in webm) where a copy would not "
        "show the same. Default: refuse such a copy.",
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object per result instead of its path.")
]
TableJsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object instead of a table.")
]


def chosen_workers(count: int | None, engine: Engine = "local", device: str = "cpu") -> Workers:
    """The workers of a command; without a number, the default one. On "cuda" they share GPUs."""
    from omni2sound.data.workers import Workers, default_workers  # slow to import
    from omni2sound.runtime import resolve_device, visible_gpus

    # A device with a number is the user's choice of one.
    gpus = () if device == "cpu" or str(resolve_device(device)) != "cuda" else visible_gpus()
    return Workers(engine=engine, count=count or default_workers(), gpus=gpus)


def seconds(value: str | float) -> float:
    """Read a time: seconds, or as 1:30. Typer sends an option's default through here, too."""
    try:
        return parse_time(str(value), None)
    except UserError as error:
        raise typer.BadParameter(str(error)) from None


def command_group(description: str) -> typer.Typer:
    """Make a group of commands with the settings that all groups share."""
    # No rich markup: plain help reads the same in a pipe, and starts without importing rich.
    return typer.Typer(
        help=description,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def set_metavars(command: Any) -> None:
    """Name the values of a command in its help: PATH, N; never by their Python types."""
    hints = typing.get_type_hints(command.callback)
    for p in command.params:
        kinds = {hints.get(p.name), *typing.get_args(hints.get(p.name))}
        kinds |= {inner for kind in kinds for inner in typing.get_args(kind)}
        value = next((name for kind, name in _METAVARS.items() if kind in kinds), None)
        if value is None:  # a flag, or a choice, which shows its values
            continue
        if p.param_type_name == "argument":
            p.metavar = p.metavar or p.name.upper()
            p.display_type = lambda ctx: ""  # typer shows the type beside the name
        else:
            p.metavar = p.metavar or value


_METAVARS = {Path: "PATH", str: "TEXT", int: "N", float: "X"}


def option_names(command: Any) -> dict[str, str]:
    """Map each field of a command to the option or the argument that a shell user types."""
    return {
        p.name: (p.metavar or p.name.upper())
        if p.param_type_name == "argument"
        else max(p.opts, key=len)
        for p in command.params
    }
