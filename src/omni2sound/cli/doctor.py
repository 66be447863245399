"""`omni2sound doctor`: what is installed, what is missing, and the command that fixes it.

In:   the running environment.
Out:  a table (or JSON) on stdout; exit code 1 if `omni2sound generate` cannot work.

A failing check must say what to do. Nothing is downloaded or sent, and without `--repair` nothing
is changed.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from omni2sound.bundled import BundledPackage, bundled_packages
from omni2sound.cli.options import TableJsonOption
from omni2sound.cli.reports import EXIT_ENVIRONMENT
from omni2sound.errors import Omni2SoundError, UserError
from omni2sound.files import cache_dir
from omni2sound.runtime import INSTALL_TORCH, has_torch, resolve_device, resolve_dtype

# What has to be in PyAV's FFmpeg for a kind of file, by FFmpeg's own names.
_ENCODER_OF = {
    "mp4, mkv, mov, m4a": "aac",
    "webm, opus": "libopus",
    "mp3": "libmp3lame",
    "flac": "flac",
}
LINE_LENGTH = 80
_DECODERS = ("h264", "hevc", "vp9", "av1", "aac", "opus", "mp3")
_MAX_LATE_MS = 5


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


FoldersArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[FOLDERS]...",
        help="With --repair: folders to go through. Default: the current one, the cache, and "
        "temporary files of the system.",
    ),
]
RepairOption = Annotated[
    bool,
    typer.Option(
        "--repair",
        help="Remove what killed processes left in FOLDERS: temporary files, half-done outputs, "
        "calls that nobody waits for. Default: check the installation.",
    ),
]


def doctor(
    folders: FoldersArgument = None,
    repair: RepairOption = False,
    as_json: TableJsonOption = False,
) -> None:
    """Show what is installed, and how to install what is missing.

    Exit code 1 if something that `omni2sound generate` needs is missing. With --repair, show what
    was left by killed processes and is now removed; exit code 3 if something could not be read or
    removed.
    """
    if repair:
        _repair(folders, as_json=as_json)
        return
    if folders:
        raise UserError("are for `repair`; leave them out, or set it", field="folders")
    checks = [*_python(), *_engine(), *_media(), _trial(), *_bundled(), _model()]
    checks += [*_plugins(), _cache()]
    usable = all(check.ok for check in checks if check.needed_by == "generate")
    if as_json:
        print(json.dumps({"ok": usable, "checks": [asdict(check) for check in checks]}))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            mark = "ok     " if check.ok else "MISSING" if check.needed_by else "-      "
            start, indent = f"{mark}  {check.name:{width}}  ", " " * (width + 11)
            for line in textwrap.wrap(
                check.found, LINE_LENGTH - len(indent), break_on_hyphens=False
            ) or [""]:
                print(start + line)
                start = indent
            if check.fix:
                purpose = f"for {check.needed_by}" if check.needed_by else "if you want it"
                print(f"         {purpose}, run: {check.fix}")
    if not usable:
        raise typer.Exit(1)


def _repair(folders: Sequence[Path] | None, *, as_json: bool) -> None:
    from omni2sound.generate.repair import repair, repair_scratch

    found = [] if folders else list(repair_scratch())
    folders = folders or [Path(), *(f for f in [cache_dir()] if f.is_dir())]
    found += repair(folders)
    if as_json:
        print(json.dumps({"repairs": [asdict(one) | {"path": str(one.path)} for one in found]}))
    else:
        for one in found:
            freed = f" ({one.num_bytes:,} bytes)" if one.num_bytes else ""
            print(f"{one.path}: {one.what}{freed}")
        print(f"{len(found)} found in {', '.join(map(str, folders))}")
    if any(one.failed for one in found):
        raise typer.Exit(EXIT_ENVIRONMENT)


def _python() -> list[Check]:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    here = f"omni2sound {importlib.metadata.version('omni2sound')} in {sys.prefix}"
    return [
        Check(name="python", ok=sys.version_info >= (3, 11), found=found),
        Check(name="package", ok=True, found=here, needed_by=""),
    ]


def _engine() -> list[Check]:
    """What computes: the export of the default model, torch, or both."""
    if not has_torch():
        return [
            Check(
                name="torch",
                ok=False,
                found="not installed: the default model alone, on the CPU",
                needed_by="",
                fix=INSTALL_TORCH,
            ),
            _export(needed=True),
        ]
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library of another machine
        return [Check(name="torch", ok=False, found=f"{error}", fix="pip install torch"), _export()]

    device = resolve_device("auto")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    dtype = str(resolve_dtype("auto", device)).removeprefix("torch.")
    threads = torch.get_num_threads()
    return [
        Check(name="torch", ok=True, found=f"{torch.__version__}, {threads} threads"),
        Check(name="device", ok=True, found=f"{name}, {dtype}"),
        _export(),
    ]


def _media() -> list[Check]:
    try:
        import av
        from av.codec import Codec
    except ImportError as error:
        return [Check(name="PyAV", ok=False, found=f"{error}", fix=_install_av())]

    def has(codec: str, mode: str) -> bool:
        try:
            Codec(codec, "w" if mode == "w" else "r")
        except av.error.FFmpegError:
            return False
        return True

    reinstall = f"{_install_av()} --force-reinstall --only-binary :all:"
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


def _trial() -> Check:
    """Make a short video, put a click under it, and read both back."""
    name = "a video of ours"
    try:
        late_ms = _click_late_ms()
    except Exception as error:  # this is the question: what does this PyAV do?
        found = " ".join(f"{type(error).__name__}: {error}".split())
        return Check(name=name, ok=False, found=found, fix=_install_av())
    worst = max(late_ms.values(), key=abs)
    found = f"made, muxed and read back as {' and '.join(late_ms)}; "
    if abs(worst) > _MAX_LATE_MS:
        found += ", ".join(f"{suffix}: sound {late:+.0f} ms" for suffix, late in late_ms.items())
        return Check(name=name, ok=False, found=found, fix=_install_av())
    return Check(name=name, ok=True, found=f"{found}its sound is within {_MAX_LATE_MS} ms")


def _click_late_ms() -> dict[str, float]:
    """How late a click in the middle of a second is heard, by kind of file."""
    import av
    import numpy as np

    from omni2sound.media import Audio, iter_frames, mux, read_audio

    rate_hz, num_pictures = 16_000, 10
    samples_1N = np.zeros((1, rate_hz), np.float32)
    samples_1N[:, rate_hz // 2 : rate_hz // 2 + 400] = 0.5 * np.sin(np.arange(400))
    late_ms = {}
    with tempfile.TemporaryDirectory() as folder:
        silent = Path(folder) / "silent.mp4"
        with av.open(str(silent), "w") as container:
            stream = container.add_stream("mpeg4", rate=num_pictures)  # FFmpeg's own encoder
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            for _ in range(num_pictures):
                picture = np.zeros((64, 64, 3), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
        for suffix in (".mp4", ".mkv"):
            path = silent.with_name(f"click{suffix}")
            mux(silent, Audio(samples_CN=samples_1N, sample_rate_hz=rate_hz), path)
            shown = sum(1 for _ in iter_frames(path, fps=num_pictures))
            if shown != num_pictures:
                raise RuntimeError(f"{shown} of {num_pictures} pictures can be read from {suffix}")
            heard = read_audio(path)
            loud = np.flatnonzero(np.abs(heard.samples_CN[0]) > 0.1)
            if not loud.size:
                raise RuntimeError(f"the sound in {suffix} is not heard")
            late_ms[suffix] = 1000 * (float(loud[0]) / heard.sample_rate_hz - 0.5)
    return late_ms


def _install_av() -> str:
    """Return the command that installs a PyAV of the range this package was tested with."""
    needed = importlib.metadata.requires("omni2sound") or []
    return f"pip install '{next(r for r in needed if r.startswith('av'))}'"


def _bundled() -> list[Check]:
    """What was fetched; without torch, encoders are in the default model's export."""
    return [
        Check(
            name=entry.part,
            ok=entry.is_installed,
            found=f"{entry.name} {entry.version}: {entry.what}",
            needed_by=entry.needed_by,
            fix="" if entry.is_installed else _how_to_get(entry),
        )
        for entry in bundled_packages()
        if has_torch() or entry.needed_by == "demo"
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
    return Check(name="default model", ok=True, found=f"{card.name}, sha256 {card.sha256[:16]}")


def _export(*, needed: bool = False) -> Check:
    """The default model as ONNX, from which `generate` works without torch."""
    from omni2sound import weights
    from omni2sound.generate.onnx.folder import (
        ExportedModel,
        check_current,
        default_folder,
        has_runtime,
        how_to_export,
        is_exported,
    )

    name, needed_by = "engine onnx", "generate" if needed else ""
    otherwise = "generate can't work" if needed else "generate loads torch"
    try:
        card = weights.load_card(weights.resolve_model("embedded"))
        folder = default_folder(card.sha256)
    except Omni2SoundError:
        return Check(name=name, ok=False, found="no default model", needed_by="")
    fix = how_to_export(card.folder, "embedded")
    if not has_runtime():
        found, fix = "onnxruntime is not installed", "pip install onnxruntime"
    elif not is_exported(folder):
        found = f"the default model is not exported: {otherwise}"
    else:
        try:
            export = ExportedModel(folder)
            check_current(export.card, folder, card)
            export.verify()
        except (Omni2SoundError, OSError) as error:
            found = f"{error}: {otherwise}"
        else:
            used = "what generate takes on a CPU: "
            return Check(name=name, ok=True, found=f"{used}{folder}", needed_by="")
    return Check(name=name, ok=False, found=found, needed_by=needed_by, fix=fix)


def _plugins() -> list[Check]:
    """What each extension point holds, and the plugins that can't be imported."""
    if not has_torch():
        return []
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
