"""The folder that an editor gets: broadcast WAVs, a timeline, markers.

In:   takes, perhaps a film.
Out:  FOLDER with TAKE.wav, TAKE/STEM.wav, timeline.otio, markers.csv and hand-over.json.

What not to get wrong: paths in it are relative, and nothing in it is a date, so that the same takes
give the same bytes and the folder can be moved. Editors save their work in it: nothing that was
changed or added is replaced unasked.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from omni2sound.config import from_json
from omni2sound.errors import UserError
from omni2sound.files import LEFT_BY_SYSTEMS, atomic_folder, file_sha256
from omni2sound.generate.hand_over.bwf import RATE_HZ, write_bwf
from omni2sound.generate.hand_over.takes import Take, WrittenTake, read_takes
from omni2sound.generate.hand_over.timeline import Film, build_timeline, load_otio
from omni2sound.generate.stems.onsets import onsets_s
from omni2sound.media.files import shown_name
from omni2sound.media.info import probe
from omni2sound.readers import as_object, parse_json, read_text, real_path

MARKER = "hand-over.json"
VERSION = 1
_DAY_S = 86_400


@dataclass(frozen=True, kw_only=True, slots=True)
class HandOver:
    """What was written."""

    folder: Path
    takes: tuple[str, ...]
    num_stems: int
    num_markers: int
    notes: tuple[str, ...]


def hand_over(
    paths: list[Path],
    folder: Path,
    *,
    film: Path | None = None,
    film_start_s: float = 0.0,
    overwrite: bool = False,
    seen_from: Path | None = None,
) -> HandOver:
    """Write the folder of some takes; an old one is replaced if it is as it was written.

    Args:
        paths: Outputs of omni2sound.
        folder: Target.
        film: The film that they are for.
        film_start_s: Time of its first picture, in seconds of the day.
        overwrite: Replace an old one in which files were changed or added, too.
        seen_from: Folder from which the film's path counts. Default: `folder`.

    Raises:
        MediaError: A file can't be read.
        MissingPartError: OpenTimelineIO is not installed.
        UserError: A file is no take, the film has no picture, or the folder is in the way
            or holds others' work.
    """
    load_otio()
    if not 0 <= film_start_s < _DAY_S:
        raise UserError(f"expected a time of the day, got {film_start_s:g} s", field="film_start")
    picture = None if film is None else probe(film).video
    if film is not None and picture is None:
        raise UserError(f"{shown_name(film)}: has no picture; give a video", field="film")
    if not overwrite:
        _check_untouched(folder)
    takes = read_takes(paths)
    start_s = Fraction(film_start_s).limit_denominator(RATE_HZ)
    with atomic_folder(folder, kind="folder of a hand-over", marker=MARKER) as target:
        written = [_write_take(take, target, start_s) for take in takes]
        shown = None
        if film is not None and picture is not None:
            place = real_path(seen_from or folder)
            relative = Path(os.path.relpath(real_path(film), place)).as_posix()
            shown = Film(path=film, picture=picture, shown=relative)
        timeline = build_timeline(written, film=shown, film_start_s=start_s)
        timeline.to_json_file(str(target / "timeline.otio"))
        rows = [(one.take, *mark) for one in _with_own_markers(written) for mark in one.markers]
        with (target / "markers.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["take", "time_s", "timeline_s", "sample", "name"])
            for take, second, text in rows:
                at_s = Fraction(second) + take.start_s
                sample = round((start_s + at_s) * RATE_HZ)
                writer.writerow([take.name, f"{second:.4f}", f"{float(at_s):.4f}", sample, text])
        described = [_described(one) for one in written]
        data = {"omni2sound_hand_over": VERSION, "film_start_s": float(start_s), "takes": described}
        if film is not None and shown is not None:
            data["film"] = {"file": shown.shown, "sha256": file_sha256(film)}
        sounds = [name for one in written for name in one.files.values()]
        listed = ("timeline.otio", "markers.csv", *sounds)
        data["files"] = {name: file_sha256(target / name) for name in sorted(listed)}
        (target / MARKER).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        if not overwrite:
            _check_untouched(folder)  # somebody may have worked in it meanwhile
    return HandOver(
        folder=folder,
        takes=tuple(take.name for take in takes),
        num_stems=sum(len(take.stems) for take in takes),
        num_markers=len(rows),
        notes=tuple(
            f"{one.take.name}: stems are {-one.gain_db:.0f} dB lower, or 24 bits could not hold "
            "them"
            for one in written
            if one.gain_db
        ),
    )


def _names(folder: Path) -> list[str]:
    """Relative paths of all files of a hand-over but the one that describes it."""
    found = [p for p in folder.rglob("*") if not p.is_dir() and p.name not in LEFT_BY_SYSTEMS]
    return sorted(p.relative_to(folder).as_posix() for p in found if p != folder / MARKER)


def _written(folder: Path) -> Mapping[str, str]:
    """Read which files a hand-over was written with, and their digests."""
    path = folder / MARKER
    data = as_object(parse_json(read_text(path), path, not_finite=True), path)
    return from_json(dict[str, str], data.get("files", {}), where=f"{MARKER}: files")


def is_there(folder: Path) -> bool:
    """Whether a folder holds all files of the hand-over that was written there.

    Raises:
        ConfigError: Its description can't be understood.
    """
    if not (folder / MARKER).is_file():
        return False
    return set(_written(folder)) <= set(_names(folder))


def _check_untouched(folder: Path) -> None:
    """Refuse to replace a hand-over in which somebody has worked."""
    if not (folder / MARKER).is_file():
        return  # refused later, unless it is empty
    written = _written(folder)
    for name in _names(folder):
        path = folder / name
        if name not in written or not path.is_file() or file_sha256(path) != written[name]:
            told = "was changed" if name in written else "was added"
            raise UserError(
                f"{path}: {told} since the hand-over; expected a folder as it was written: move "
                "the file away, choose another folder, or set `overwrite`",
                field="out_dir",
            )


def _write_take(take: Take, target: Path, start_s: Fraction) -> WrittenTake:
    """Write a take and its stems; find their onsets, or those of the take if it has no stems."""
    opened = take.open()
    first = round((start_s + take.start_s) * RATE_HZ)
    files: dict[str | None, str] = {None: f"{take.name}.wav"}
    text = str(take.made.get("prompt") or take.made.get("text") or take.name)
    write_bwf(target / f"{take.name}.wav", opened.sound, first_sample=first, description=text)
    if opened.stems:
        (target / take.name).mkdir()
    for name, sound in opened.stems.items():
        files[name] = f"{take.name}/{name}.wav"
        write_bwf(target / files[name], sound, first_sample=first, description=take.texts[name])
    markers = [
        (second, take.texts.get(name, name))
        for name, sound in (opened.stems or {take.name: opened.sound}).items()
        for second in onsets_s(sound)
    ]
    return WrittenTake(
        take=take,
        num_samples=opened.sound.num_samples,
        gain_db=opened.gain_db,
        files=files,
        markers=sorted(markers),
    )


def _with_own_markers(written: Sequence[WrittenTake]) -> list[WrittenTake]:
    """Leave out mixes of the stems of another take here: their onsets are those of its stems."""
    stems = {(one.take.start_s, *sorted(one.take.stems)) for one in written if one.take.stems}
    return [one for one in written if one.take.stems or _mixed(one.take) not in stems]


def _mixed(take: Take) -> tuple[Any, ...]:
    """Start of a take, and the names of the stems that it was mixed of."""
    mixed = take.made.get("mix")
    stems = mixed if isinstance(mixed, list) else []
    names = [str(stem.get("name")) for stem in stems if isinstance(stem, dict)]
    return (take.start_s, *sorted(names))


def _described(one: WrittenTake) -> dict[str, Any]:
    """How a take was made, and where its files are."""
    made = {k: v for k, v in one.take.made.items() if k not in ("output", "time_s", "rtf")}
    return {
        "name": one.take.name,
        "file": one.files[None],
        "stems": {name: one.files[name] for name in one.take.stems},
        "stems_gain_db": one.gain_db,
        "made": made,
    }
