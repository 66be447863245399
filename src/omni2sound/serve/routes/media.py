"""Routes of uploads: receive, describe, play, draw, delete.

In:   a form with one file.
Out:  what the file is; its bytes, a strip of frames, its own sound's peaks.
"""

from __future__ import annotations

import time
from typing import IO, Annotated

from fastapi import APIRouter, Path, Query, Response, UploadFile
from fastapi.responses import FileResponse

from omni2sound.errors import UserError
from omni2sound.media.info import MediaInfo, probe
from omni2sound.serve import drawn
from omni2sound.serve.bodies import Media, Peaks
from omni2sound.serve.context import Server
from omni2sound.serve.engine import one_line
from omni2sound.serve.errors import NotPossibleError
from omni2sound.serve.limits import (
    FORM_BYTES,
    PEAKS_PER_S,
    STRIP_FRAMES,
    STRIP_HEIGHT_PX,
)
from omni2sound.serve.routes.files import Drawn, sent, sent_drawn
from omni2sound.serve.store import shown_name_of
from omni2sound.serve.work.check import check_length

Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]

_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
    ".avi": "video/x-msvideo",
    ".ts": "video/mp2t",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}
"""What a browser is told; by the suffix, since it looks into the file itself only to play it."""
_PLAYED, _PLAYED_IN = ("h264", "vp8", "vp9", "av1"), (".mp4", ".m4v", ".mov", ".webm")
"""Codecs and containers that browsers play; other films have a proxy."""


def receive(server: Server, stream: IO[bytes], filename: str | None) -> Media:
    """Keep an upload that is a video, a picture or a sound within the limits.

    Raises:
        UserError: It is none, or too long.
    """
    name = shown_name_of(filename)
    media_id, path = server.store.receive(stream, name)
    try:
        try:
            info = probe(path)
        except UserError as error:
            message = one_line(error).removeprefix(f"{path.name}: ")
            raise UserError(f"{name}: {message}", field="file") from None
        is_still = info.video is not None and info.video.is_still
        if not is_still:
            check_length(info.duration_s, server.settings.limits, "file")
        media = _describe(media_id, name, info, path.stat().st_size)
        server.store.add_media(media)
    except BaseException:
        server.store.drop_media(media_id)
        raise
    return media


def _describe(media_id: str, name: str, info: MediaInfo, num_bytes: int) -> Media:
    video, url = info.video, f"/v1/media/{media_id}"
    is_still = video is not None and video.is_still
    moves = video is not None and not is_still
    plays = video is not None and video.codec in _PLAYED and info.path.suffix in _PLAYED_IN
    return Media(
        id=media_id,
        name=name,
        kind="sound" if video is None else "picture" if is_still else "video",
        duration_s=None if is_still else float(info.duration_s),
        frames_per_second=float(video.average_fps) if video is not None and moves else None,
        width=None if video is None else video.width_px,
        height=None if video is None else video.height_px,
        has_sound=info.audio is not None,
        bytes=num_bytes,
        created=time.time(),
        file=f"{url}/file",
        strip=None if video is None else f"{url}/strip.jpg",
        peaks=None if info.audio is None else f"{url}/peaks.json",
        proxy=f"{url}/proxy.mp4" if video is not None and moves and not plays else None,
    )


def router(server: Server) -> APIRouter:
    """Build the routes."""
    api = APIRouter(prefix="/v1/media", tags=["media"])
    limits = server.settings.limits

    @api.post(
        "",
        status_code=201,
        max_body_size=limits.upload_bytes + FORM_BYTES,
        form_limits={"max_files": 1, "max_fields": 1, "max_part_size": FORM_BYTES},
    )
    def upload(file: UploadFile) -> Media:
        """Take a video, a picture or a sound."""
        return receive(server, file.file, file.filename)

    @api.get("/{media_id}")
    def describe(media_id: Id) -> Media:
        """Say what an upload is."""
        return server.store.media(media_id)

    @api.delete("/{media_id}", status_code=204)
    def remove(media_id: Id) -> Response:
        """Delete an upload that no waiting or running job needs."""
        server.store.media(media_id)
        if server.store.is_needed(media_id):
            raise NotPossibleError(409, "a job needs this upload; cancel it first")
        server.store.drop_media(media_id)
        return Response(status_code=204)

    @api.get("/{media_id}/file", response_class=FileResponse)
    def play(media_id: Id) -> FileResponse:
        """Return the bytes, or a range of them."""
        path = server.store.media_path(media_id)
        return sent(path, _TYPES.get(path.suffix, "application/octet-stream"))

    @api.get("/{media_id}/strip.jpg", response_class=FileResponse)
    async def strip(
        media_id: Id,
        count: Annotated[int, Query(ge=STRIP_FRAMES[0], le=STRIP_FRAMES[1])] = 24,
        height: Annotated[int, Query(ge=STRIP_HEIGHT_PX[0], le=STRIP_HEIGHT_PX[1])] = 54,
    ) -> FileResponse:
        """Return frames side by side: number i of n shows the instant (i + 0.5) / n."""

        def find() -> Drawn:
            path = server.store.media_path(media_id)
            target = path.with_name(f"strip-{count}-{height}.jpg")
            return target, lambda _: drawn.strip(path, count, height)

        return await sent_drawn(server, find, "image/jpeg")

    @api.get("/{media_id}/proxy.mp4", response_class=FileResponse)
    async def proxy(media_id: Id) -> FileResponse:
        """Return the film small, as every browser plays it, with its own sound."""

        def find() -> Drawn:
            path = server.store.media_path(media_id)
            if server.store.media(media_id).kind != "video":
                raise NotPossibleError(409, "only a film has one")
            return path.with_name("proxy.mp4"), lambda made: drawn.proxy(path, made)

        return await sent_drawn(server, find, "video/mp4", is_film=True)

    @api.get("/{media_id}/peaks.json", response_model=Peaks)
    async def peaks(
        media_id: Id,
        per_second: Annotated[int, Query(ge=PEAKS_PER_S[0], le=PEAKS_PER_S[1])] = 50,
    ) -> FileResponse:
        """Return the peaks of the own sound."""

        def find() -> Drawn:
            path = server.store.media_path(media_id)
            target = path.with_name(f"peaks-{per_second}.json")
            return target, lambda _: drawn.peaks(path, per_second)

        return await sent_drawn(server, find, "application/json")

    return api
