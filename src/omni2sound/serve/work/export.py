"""Jobs of the kind export: a take as a file to be handed on.

In:   a take, perhaps with another mix of its stems; a format.
Out:  a file.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from omni2sound.errors import UserError
from omni2sound.files import atomic_path
from omni2sound.generate.hand_over.folder import hand_over
from omni2sound.generate.output import OutputOptions
from omni2sound.generate.studio.export import export_take
from omni2sound.generate.studio.job import loudness_for
from omni2sound.media.files import VIDEO_SUFFIXES
from omni2sound.serve.bodies import ExportBody, ResultFile
from omni2sound.serve.store import Store
from omni2sound.serve.work.stems import check_places, mix_file
from omni2sound.serve.work.takes import find_take


def check(body: ExportBody, store: Store) -> None:
    """Refuse what can't be exported.

    Raises:
        NotFoundError: The take is gone.
        UserError: An option does not fit the take.
    """
    store.take_path(body.take)
    _options(body)
    if f".{body.format}" in VIDEO_SUFFIXES and store.media_of(body.take) is None:
        raise UserError(
            f"{body.format} is a film, and the take was made without one; use wav", field="format"
        )
    if body.mix:
        check_places(store, body.take, body.mix)


def export(store: Store, job_id: str, body: ExportBody) -> ResultFile:
    """Write a take as a file."""
    take = find_take(store, body.take)
    film = None if take.media is None else store.media_path(take.media)
    folder = store.job_folder(job_id)
    output = folder / f"export.{body.format}"
    source = store.take_path(body.take)
    if body.mix:
        source = mix_file(store, body.take, body.mix, folder / "mix.wav")
    if body.format == "zip":
        takes = list(dict.fromkeys((store.take_path(body.take), source)))
        _pack(hand_over(takes, folder / "hand-over").folder, output)
    else:
        export_take(source, output, _options(body), video=film, start_s=take.start_s)
    stem = "sound" if take.media is None else Path(store.media(take.media).name).stem
    return ResultFile(
        url=f"/v1/jobs/{job_id}/file",
        name=f"{stem}.{take.seed}.{body.format}",
        bytes=output.stat().st_size,
    )


def _pack(folder: Path, target: Path) -> None:
    """Put a folder into a ZIP file; sound is not compressed, which would gain little."""
    with atomic_path(target) as path, zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))


def _options(body: ExportBody) -> OutputOptions:
    if body.mix_db is not None and not body.keep_audio:
        raise UserError("is for the film's own sound; set `keep_audio`, too", field="mix_db")
    return OutputOptions(
        keep_audio=body.keep_audio,
        overwrite=True,
        loudness_lufs=loudness_for(body.destination, body.loudness),
        reencode=body.reencode,
        mix_db=body.mix_db,
        duck_db=body.duck_db,
        bits=body.bits,
    )
