"""Routes of takes: hear and see them.

In:   ids of takes.
Out:  their sound, peaks, spectrogram, and the film with them.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import FileResponse

from omni2sound.serve import drawn
from omni2sound.serve.bodies import Peaks, Take
from omni2sound.serve.context import NotPossibleError, Server
from omni2sound.serve.limits import PEAKS_PER_S
from omni2sound.serve.routes.files import sent
from omni2sound.serve.work.takes import find_take, has_film, stem_path, write_film

Id = Annotated[str, Path(pattern="^[0-9a-f]{32}-[1-9][0-9]{0,2}$")]
Name = Annotated[str, Path(pattern="^[A-Za-z0-9-]{1,60}$")]
PerSecond = Annotated[int, Query(ge=PEAKS_PER_S[0], le=PEAKS_PER_S[1])]


def router(server: Server) -> APIRouter:
    """Build the routes."""
    api = APIRouter(prefix="/v1/takes", tags=["takes"])

    @api.get("/{take_id}")
    def describe(take_id: Id) -> Take:
        """Say what a take is."""
        return find_take(server.store, take_id)

    @api.get("/{take_id}/sound.wav", response_class=FileResponse)
    def sound(take_id: Id) -> FileResponse:
        """Return the sound, or a range of its bytes."""
        return sent(server.store.take_path(take_id), "audio/wav")

    @api.get("/{take_id}/peaks.json", response_model=Peaks)
    def peaks(take_id: Id, per_second: PerSecond = 50) -> FileResponse:
        """Return lowest and highest samples."""
        path = server.store.take_path(take_id)
        target = path.with_name(f"{path.stem}.peaks-{per_second}.json")
        drawn.once(target, lambda _: drawn.peaks(path, per_second))
        return sent(target, "application/json")

    @api.get("/{take_id}/spectrogram.png", response_class=FileResponse)
    def spectrogram(
        take_id: Id,
        width: Annotated[int, Query(ge=16, le=4096)] = 1200,
        height: Annotated[int, Query(ge=16, le=512)] = 160,
    ) -> FileResponse:
        """Return levels over time and frequency on an absolute scale."""
        path = server.store.take_path(take_id)
        target = path.with_name(f"{path.stem}.spectrogram-{width}-{height}.png")
        drawn.once(target, lambda _: drawn.spectrogram(path, width, height))
        return sent(target, "image/png")

    @api.get("/{take_id}/video.mp4", response_class=FileResponse)
    def video(take_id: Id) -> FileResponse:
        """Return the film with the take, as mp4."""
        take = find_take(server.store, take_id)
        if not has_film(server.store, take.media):
            raise NotPossibleError(409, "the take was made without a film")
        path = server.store.take_path(take_id)
        target = path.with_name(f"{path.stem}.film.mp4")
        drawn.once(target, lambda path: write_film(server.store, take, path))
        return sent(target, "video/mp4")

    @api.get("/{take_id}/stems/{name}/sound.wav", response_class=FileResponse)
    def stem_sound(take_id: Id, name: Name) -> FileResponse:
        """Return a stem, in 32-bit floats."""
        return sent(stem_path(server.store, take_id, name), "audio/wav")

    @api.get("/{take_id}/stems/{name}/peaks.json", response_model=Peaks)
    def stem_peaks(take_id: Id, name: Name, per_second: PerSecond = 50) -> FileResponse:
        """Return lowest and highest samples of a stem."""
        path = stem_path(server.store, take_id, name)
        target = path.with_name(f"{path.stem}.peaks-{per_second}.json")
        drawn.once(target, lambda _: drawn.peaks(path, per_second))
        return sent(target, "application/json")

    return api
