"""The call that waits for its sound.

In:   a body as that of a job, as JSON or in a form with a file.
Out:  a WAV file; nothing of the call is kept.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from pydantic import ValidationError
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile

from omni2sound.serve.bodies import (
    FINAL,
    CallBody,
    GenerateBody,
)
from omni2sound.serve.context import Server
from omni2sound.serve.errors import NotPossibleError
from omni2sound.serve.limits import BODY_BYTES, FORM_BYTES
from omni2sound.serve.routes.jobs import client_of, take_job
from omni2sound.serve.routes.media import receive
from omni2sound.serve.store import Record

_LOOK_EVERY_S = 0.5
_LOOKS = 20


def router(server: Server) -> APIRouter:
    """Build the route."""
    api = APIRouter()
    limits = server.settings.limits

    @api.post(
        "/v1/audio/generate",
        response_class=FileResponse,
        tags=["jobs"],
        max_body_size=limits.upload_bytes + FORM_BYTES,
        openapi_extra=_either_body(),
        responses={200: {"content": {"audio/wav": {"schema": {"type": "string"}}}}},
    )
    async def generate(request: Request) -> Response:
        """Generate one take and wait for it; whoever hangs up cancels it."""
        body, media_id = await _read(server, request)
        client = client_of(request, request.headers.get("x-client"))
        record: Record | None = None
        try:
            record = await asyncio.to_thread(take_job, server, body, client, temporary=True)
            path = await _wait(server, request, record)
        except BaseException:
            await _drop(server, record, media_id)
            raise
        seed = str(record.job.takes[0].seed)
        task = BackgroundTask(_drop, server, record, media_id)
        return FileResponse(path, media_type="audio/wav", headers={"x-seed": seed}, background=task)

    return api


async def _read(server: Server, request: Request) -> tuple[GenerateBody, str | None]:
    """Read the body; a file in a form becomes an upload, whose id is returned, too."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/json":
            return _checked(await _short_body(request)), None
        if kind != "multipart/form-data":
            raise NotPossibleError(415, "expected application/json or multipart/form-data")
        async with request.form(max_files=1, max_fields=1, max_part_size=FORM_BYTES) as form:
            text, file = form.get("request", "{}"), form.get("file")
            body = _checked(text if isinstance(text, str) else b"")
            if not isinstance(file, UploadFile):
                return body, None
            if body.media is not None:
                raise NotPossibleError(422, "the form has a file; leave out `media`", "media")
            media = await asyncio.to_thread(receive, server, file.file, file.filename)
            return body.model_copy(update={"media": media.id}), media.id
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None


async def _short_body(request: Request) -> bytes:
    """Read a body of JSON; the route's own limit is that of a file."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > BODY_BYTES:
            raise NotPossibleError(413, f"a request in JSON has at most {BODY_BYTES} bytes")
    return bytes(data)


def _checked(text: str | bytes) -> CallBody:
    """Parse what is asked, and refuse it before a file is kept for it."""
    body = CallBody.model_validate_json(text)
    if body.takes != 1:
        raise NotPossibleError(422, "expected 1; more takes are for /v1/jobs", "takes")
    return body


async def _wait(server: Server, request: Request, record: Record) -> Path:
    """Wait for the take of a job."""
    with server.feed.listener(record.job.id) as listener:
        while record.job.state not in FINAL:
            await listener.wait(_LOOK_EVERY_S)
            if await request.is_disconnected() or server.feed.closed:
                raise NotPossibleError(503, "the server stops; try again later")
    if record.job.state != "done" or not record.job.takes:
        problem = record.job.error
        said = "the job was cancelled" if problem is None else problem.message
        raise NotPossibleError(422, said, None if problem is None else problem.field)
    return server.store.take_path(record.job.takes[0].id)


async def _drop(server: Server, record: Record | None, media_id: str | None) -> None:
    """Leave nothing of a call that is over; a job that still runs is cancelled first."""
    if record is not None:
        if record.job.state not in FINAL:
            await asyncio.to_thread(server.engine.cancel, record)
        for _ in range(_LOOKS):
            if record.job.state in FINAL:
                break
            await asyncio.sleep(_LOOK_EVERY_S)
        await asyncio.to_thread(server.store.drop_job, record.job.id)
    if media_id is not None and not server.store.is_needed(media_id):
        await asyncio.to_thread(server.store.drop_media, media_id)


def _either_body() -> dict[str, object]:
    body = CallBody.model_json_schema(ref_template="#/components/schemas/{model}")
    body.pop("$defs")  # the document has them
    form = {
        "type": "object",
        "properties": {
            "file": {"type": "string", "format": "binary"},
            "request": {"type": "string", "contentMediaType": "application/json"},
        },
    }
    content = {
        "application/json": {"schema": body},
        "multipart/form-data": {"schema": form},
    }
    return {"requestBody": {"content": content, "required": True}}
