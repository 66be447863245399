"""`omni2sound doctor`: what is installed, what is missing, and the command that fixes it.

In:   the running environment.
Out:  a table (or JSON) on stdout; exit code 1 if `omni2sound generate` cannot work.

A failing check must say what to do. Nothing is changed, downloaded or sent.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from omni2sound.cli.setup import BundledPackage, bundled_packages
from omni2sound.errors import Omni2SoundError, UserError
from omni2sound.files import cache_dir

# What has to be in PyAV's FFmpeg for a kind of file, by FFmpeg's own names.
_ENCODER_OF = {
    "mp4, mkv, mov, m4a": "aac",
    "webm, opus": "libopus",
    "mp3": "libmp3lame",
    "flac": "flac",
}
_DECODERS = ("h264", "hevc", "vp9", "av1", "aac", "opus", "mp3")


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One line of the table.

    Attributes:
        name: Name of the component.
        ok: Whether it is usable.
        found: What was found, or the error.
        needed_by: The command that cannot run without it; "" if it is optional.
        fix: Command that installs it; "" if it is usable.
    """

    name: str
    ok: bool
    found: str
    needed_by: str = "generate"
    fix: str = ""


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """Show what is installed, what is missing, and the command that fixes it.

    Exit code 1 if something that `omni2sound generate` needs is missing.
    """
    checks = [*_python(), *_torch(), *_media(), *_bundled(), _model(), *_plugins(), _cache()]
    usable = all(check.ok for check in checks if check.needed_by == "generate")
    if as_json:
        print(json.dumps({"ok": usable, "checks": [asdict(check) for check in checks]}))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            mark = "ok     " if check.ok else "MISSING" if check.needed_by else "-      "
            purpose = f"for {check.needed_by}, " if check.needed_by else "if you want it, "
            advice = f"; {purpose}run: {check.fix}" if check.fix else ""
            print(f"{mark}  {check.name:{width}}  {check.found}{advice}")
    if not usable:
        raise typer.Exit(1)


def _python() -> list[Check]:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    here = f"omni2sound {importlib.metadata.version('omni2sound')} in {sys.prefix}"
    return [
        Check(name="python", ok=sys.version_info >= (3, 11), found=found),
        Check(name="package", ok=True, found=here, needed_by=""),
    ]


def _torch() -> list[Check]:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library of another machine
        fix = "pip install torch"
        return [Check(name="torch", ok=False, found=f"{error}", fix=fix)]

    from omni2sound.runtime import resolve_device, resolve_dtype

    device = resolve_device("auto")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    dtype = str(resolve_dtype("auto", device)).removeprefix("torch.")
    return [
        Check(
            name="torch", ok=True, found=f"{torch.__version__}, {torch.get_num_threads()} threads"
        ),
        Check(name="device", ok=True, found=f"{name}, {dtype}"),
    ]


def _media() -> list[Check]:
    try:
        import av
        from av.codec import Codec
    except ImportError as error:
        return [Check(name="PyAV", ok=False, found=f"{error}", fix="pip install av")]

    def has(codec: str, mode: str) -> bool:
        try:
            Codec(codec, "w" if mode == "w" else "r")
        except av.error.FFmpegError:
            return False
        return True

    reinstall = "pip install --force-reinstall --only-binary :all: av"
    decoders = {codec: has(codec, "r") for codec in _DECODERS}
    missing = [codec for codec, present in decoders.items() if not present]
    found = f"PyAV {av.__version__} reads {', '.join(c for c in decoders if decoders[c])}"
    checks = [
        Check(
            name="reading media",
            ok=not missing,
            found=found + (f"; not {', '.join(missing)}" if missing else ""),
            fix=reinstall if missing else "",
        )
    ]
    for suffixes, codec in _ENCODER_OF.items():
        ok = has(codec, "w")
        found = f"encoder {codec}" if ok else f"no encoder {codec}"
        checks.append(
            Check(name=f"writing {suffixes}", ok=ok, found=found, fix="" if ok else reinstall)
        )
    return checks


def _bundled() -> list[Check]:
    return [
        Check(
            name=entry.part,
            ok=entry.is_installed,
            found=f"{entry.name} {entry.version}: {entry.what}",
            needed_by=entry.needed_by,
            fix="" if entry.is_installed else _how_to_get(entry),
        )
        for entry in bundled_packages()
    ]


def _how_to_get(entry: BundledPackage) -> str:
    return f"omni2sound setup --with {entry.option}" if entry.option else "omni2sound setup"


def _model() -> Check:
    from omni2sound import weights

    try:
        card = weights.load_card(weights.resolve_model("embedded"))
    except Omni2SoundError as error:
        fix = "pip install --force-reinstall omni2sound"
        return Check(name="default model", ok=False, found=str(error), fix=fix)
    return Check(name="default model", ok=True, found=f"{card.name}, sha256 {card.sha256}")


def _plugins() -> list[Check]:
    """What each extension point holds, and the plugins that can't be imported."""
    from omni2sound.bench.metrics.clip_metric import CLIP_METRICS
    from omni2sound.bench.metrics.tagging import TAGGERS
    from omni2sound.data.corpora import IMPORTERS
    from omni2sound.encoders.registry import TEXT_ENCODERS, VISION_ENCODERS
    from omni2sound.models.registry import AUTOENCODERS
    from omni2sound.plugins import PLUGINS_VARIABLE, Registry, load_plugins
    from omni2sound.recipes import RECIPES

    checks = []
    try:
        load_plugins()
    except UserError as error:
        fix = f"unset {PLUGINS_VARIABLE}"
        checks.append(Check(name="plugins", ok=False, found=str(error), fix=fix))
    points: tuple[Registry[Any], ...] = (
        *(RECIPES, IMPORTERS, TAGGERS, CLIP_METRICS),
        *(TEXT_ENCODERS, VISION_ENCODERS, AUTOENCODERS),
    )
    for point in points:
        origins = {name: point.plugin_of(name) for name in point}
        names = [f"{name} ({plugin})" if plugin else name for name, plugin in origins.items()]
        found = ", ".join(names) or "none; plugins add them"
        checks.append(Check(name=f"{point.what}s", ok=True, found=found, needed_by=""))
    return checks


def _cache() -> Check:
    folder = cache_dir()
    state = "" if folder.exists() else " (not there yet)"
    return Check(
        name="cache", ok=True, found=f"{folder}{state}; OMNI2SOUND_CACHE moves it", needed_by=""
    )
