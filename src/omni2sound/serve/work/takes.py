"""Takes as clients see them, from what their sidecars say.

In:   reports of `save`; things that were recognised.
Out:  `Take`, `SeenThing`, `StemInfo`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni2sound.generate.output import OutputOptions, numbered
from omni2sound.generate.stems.description import MixDescription
from omni2sound.generate.stems.files import stems_folder
from omni2sound.generate.stems.mix import open_mix
from omni2sound.generate.studio.export import export_take
from omni2sound.serve.bodies import SeenThing, StemInfo, Take
from omni2sound.serve.errors import NotFoundError
from omni2sound.serve.store import Store

if TYPE_CHECKING:
    from omni2sound.recognise.observe import Seen

TAKE_OPTIONS = OutputOptions(overwrite=True, bits=24)
"""24 bits, so that what is edited again and exported loses nothing that is heard."""


def outputs_of(store: Store, job_id: str, takes: int) -> list[Path]:
    """Name the files of the takes of a job."""
    folder = store.job_folder(job_id)
    return [folder / "take-1.wav"] if takes == 1 else numbered(folder / "take.wav", takes)


def take_of(job_id: str, number: int, report: dict[str, Any], store: Store) -> Take:
    """Describe a take that was just written."""
    take_id, leveling = f"{job_id}-{number}", report["leveling"]
    url = f"/v1/takes/{take_id}"
    return Take(
        id=take_id,
        job=job_id,
        seed=report["seed"],
        duration_s=report["duration_s"],
        sample_rate_hz=report["sample_rate_hz"],
        channels=report["channels"],
        lufs=leveling["lufs"],
        true_peak_db=leveling["true_peak_db"],
        sound=f"{url}/sound.wav",
        peaks=f"{url}/peaks.json",
        spectrogram=f"{url}/spectrogram.png",
        video=f"{url}/video.mp4",
        media=None,
        edited=None,
        seen=[],
        text=report.get("text") or report.get("prompt"),
        cues=list(report.get("cues", ())),
        notes=list(report.get("notes", ())),
        stems=stems_of(take_id, store.job_folder(job_id) / f"take-{number}.wav"),
    )


def stems_of(take_id: str, path: Path) -> list[StemInfo]:
    """List the stems of a take; none if it was made without."""
    if not stems_folder(path).is_dir():
        return []
    _, description = open_mix(path)
    url = f"/v1/takes/{take_id}/stems"
    return [
        StemInfo(
            id=f"{take_id}.{stem.name}",
            name=stem.name,
            text=stem.text,
            spans=list(stem.spans),
            seed=stem.seed,
            anew=stem.name not in description.made.get("edits", ()),
            sound=f"{url}/{stem.name}/sound.wav",
            peaks=f"{url}/{stem.name}/peaks.json",
        )
        for stem in description.stems
    ]


def open_stems(store: Store, take_id: str) -> tuple[Path, MixDescription]:
    """Open the stems of a take.

    Raises:
        NotFoundError: The take has none, or is gone.
    """
    path = store.take_path(take_id)
    if not stems_folder(path).is_dir():
        raise NotFoundError("stem")
    return open_mix(path)


def stem_path(store: Store, take_id: str, name: str) -> Path:
    """Return the file of a stem.

    Raises:
        NotFoundError: There is none.
    """
    folder, description = open_stems(store, take_id)
    for stem in description.stems:
        if stem.name == name and (folder / stem.file).is_file():
            return folder / stem.file
    raise NotFoundError("stem")


def find_take(store: Store, take_id: str) -> Take:
    """Return a take that is written.

    Raises:
        NotFoundError: There is none.
    """
    store.take_path(take_id)
    takes = store.record(take_id.partition("-")[0]).job.takes
    return next(take for take in takes if take.id == take_id)


def has_film(store: Store, media_id: str | None) -> bool:
    """Whether an upload has moving pictures; of a still one there is no copy with sound.

    Raises:
        NotFoundError: It is gone.
    """
    return media_id is not None and store.media(media_id).kind == "video"


def write_film(store: Store, take: Take, target: Path) -> None:
    """Write the film of a take with its sound, to be looked at."""
    export_take(
        store.take_path(take.id),
        target,
        OutputOptions(overwrite=True),
        video=store.media_path(take.media or ""),
        start_s=take.start_s,
    )


def things_of(seen: Seen | None) -> list[SeenThing]:
    """What was recognised, as clients see it."""
    from omni2sound.recognise.things import load_things

    prompts = load_things().prompts
    return [
        SeenThing(
            name=thing.name,
            sound=None if thing.sound is None else prompts[thing.sound],
            place=thing.place,
            spans=[(float(start_s), float(end_s)) for start_s, end_s in thing.spans_s],
            moving=thing.moving,
            sounding=thing.sounding,
            prominence=round(float(thing.prominence), 4),
            why_silent=thing.silent,
        )
        for thing in (() if seen is None else seen.things)
    ]
