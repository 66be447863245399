"""Jobs of the kind export: a take as a file to be handed on.

In:   a take, perhaps with another mix of its stems; a format.
Out:  a file.
"""

from __future__ import annotations

import zipfile
from contextlib import suppress
from pathlib import Path

from omni2sound.errors import UserError
from omni2sound.files import atomic_path
from omni2sound.generate.hand_over.folder import hand_over
from omni2sound.generate.output import OutputOptions
from omni2sound.generate.studio.export import export_take
from omni2sound.generate.studio.job import loudness_for
from omni2sound.media.files import VIDEO_SUFFIXES
from omni2sound.serve.bodies import ExportBody, ResultFile
from omni2sound.serve.errors import NotFoundError
from omni2sound.serve.store import Store
from omni2sound.serve.work.stems import check_places, mix_file
from omni2sound.serve.work.takes import find_take, has_film
from omni2sound.stages import going_on
from omni2sound.staging import staged


def check(body: ExportBody, store: Store) -> None:
    """Refuse what can't be exported.

    Raises:
        NotFoundError: The take is gone.
        UserError: An option does not fit the take.
    """
    store.take_path(body.take)
    _options(body)
    if body.format == "zip":
        _check_packed(body)
    if f".{body.format}" in VIDEO_SUFFIXES and not has_film(store, store.media_of(body.take)):
        raise UserError(
            f"{body.format} is a film, and the take was made without one; use wav", field="format"
        )
    if body.mix:
        check_places(store, body.take, body.mix)


def export(store: Store, job_id: str, body: ExportBody) -> ResultFile:
    """Write a take as a file."""
    take = find_take(store, body.take)
    folder = store.job_folder(job_id)
    output = folder / f"export.{body.format}"
    source = store.take_path(body.take)
    with staged(folder / "working", alone=True, marked=True) as working:
        if body.mix:
            source = mix_file(store, body.take, body.mix, working / "mix.wav")
        if body.format == "zip":
            takes = list(dict.fromkeys((store.take_path(body.take), source)))
            _pack(hand_over(takes, working / "hand-over").folder, output)
        else:
            needs_film = f".{body.format}" in VIDEO_SUFFIXES or body.keep_audio
            film = store.media_path(take.media) if needs_film and take.media else None
            export_take(source, output, _options(body), video=film, start_s=take.start_s)
    stem = "sound"
    with suppress(NotFoundError):  # the film may be gone; the sound is here
        stem = Path(store.media(take.media or "").name).stem
    return ResultFile(
        url=f"/v1/jobs/{job_id}/file",
        name=f"{stem}.{take.seed}.{body.format}",
        bytes=output.stat().st_size,
    )


def _check_packed(body: ExportBody) -> None:
    """Refuse options that a ZIP file has no place for: it has the take as it was made."""
    for field in ("destination", "loudness", "keep_audio", "mix_db", "duck_db", "bits", "reencode"):
        if getattr(body, field) != ExportBody.model_fields[field].default:
            raise UserError(
                "does nothing for zip, which has the takes as they were made; leave it out",
                field=field,
            )


def _pack(folder: Path, target: Path) -> None:
    """Put a folder into a ZIP file; sound is not compressed, which would gain little."""
    with atomic_path(target) as path, zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            going_on()
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
