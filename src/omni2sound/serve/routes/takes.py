"""Routes of takes: hear and see them.

In:   ids of takes.
Out:  their sound, peaks, spectrogram, and the film with them.
"""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import FileResponse

from omni2sound.serve import drawn
from omni2sound.serve.bodies import Peaks, Take
from omni2sound.serve.context import Server
from omni2sound.serve.errors import NotPossibleError
from omni2sound.serve.limits import PEAKS_PER_S
from omni2sound.serve.routes.files import Drawn, sent, sent_drawn
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
    async def peaks(take_id: Id, per_second: PerSecond = 50) -> FileResponse:
        """Return lowest and highest samples."""

        def find() -> Drawn:
            return _peaks(server.store.take_path(take_id), per_second)

        return await sent_drawn(server, find, "application/json")

    @api.get("/{take_id}/spectrogram.png", response_class=FileResponse)
    async def spectrogram(
        take_id: Id,
        width: Annotated[int, Query(ge=16, le=4096)] = 1200,
        height: Annotated[int, Query(ge=16, le=512)] = 160,
    ) -> FileResponse:
        """Return levels over time and frequency on an absolute scale."""

        def find() -> Drawn:
            path = server.store.take_path(take_id)
            target = path.with_name(f"{path.stem}.spectrogram-{width}-{height}.png")
            return target, lambda _: drawn.spectrogram(path, width, height)

        return await sent_drawn(server, find, "image/png")

    @api.get("/{take_id}/video.mp4", response_class=FileResponse)
    async def video(take_id: Id) -> FileResponse:
        """Return the film with the take, as mp4."""

        def find() -> Drawn:
            take = find_take(server.store, take_id)
            if not has_film(server.store, take.media):
                raise NotPossibleError(409, "the take was made without a film")
            path = server.store.take_path(take_id)
            target = path.with_name(f"{path.stem}.film.mp4")
            return target, lambda path: write_film(server.store, take, path)

        return await sent_drawn(server, find, "video/mp4", is_film=True)

    @api.get("/{take_id}/stems/{name}/sound.wav", response_class=FileResponse)
    def stem_sound(take_id: Id, name: Name) -> FileResponse:
        """Return a stem, in 32-bit floats."""
        return sent(stem_path(server.store, take_id, name), "audio/wav")

    @api.get("/{take_id}/stems/{name}/peaks.json", response_model=Peaks)
    async def stem_peaks(take_id: Id, name: Name, per_second: PerSecond = 50) -> FileResponse:
        """Return lowest and highest samples of a stem."""

        def find() -> Drawn:
            return _peaks(stem_path(server.store, take_id, name), per_second)

        return await sent_drawn(server, find, "application/json")

    return api


def _peaks(path: FilePath, per_second: int) -> Drawn:
    target = path.with_name(f"{path.stem}.peaks-{per_second}.json")
    return target, lambda _: drawn.peaks(path, per_second)
