"""Routes of jobs: take, list, follow, cancel.

In:   bodies of `serve.bodies`.
Out:  jobs; events as they change.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from omni2sound.redact import whole_characters
from omni2sound.serve.bodies import FINAL, Job, JobBody
from omni2sound.serve.context import Server
from omni2sound.serve.errors import NotFoundError, NotPossibleError
from omni2sound.serve.routes.files import sent
from omni2sound.serve.store import Record, new_id
from omni2sound.serve.work.check import check

_MAX_LISTED = 200
_SEND_EVERY_S = 0.2
_PING_S = 15.0
_MAX_LISTENERS = 200
_CLIENT = re.compile(r"[A-Za-z0-9_-]{8,64}")

Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
Client = Annotated[str | None, Header(alias="X-Client", max_length=64)]


def client_of(request: Request, named: str | None) -> str:
    """Return whose turn a job takes: the client's own name, or its address."""
    if named is not None and _CLIENT.fullmatch(named):
        return named
    return request.client.host if request.client else "unknown"


def take_job(server: Server, body: JobBody, client: str, *, temporary: bool = False) -> Record:
    """Check a job and put it into the queue.

    Raises:
        NotPossibleError: The server stops, or its queue is full.
        UserError: The job can't be made.
    """
    if server.engine.stopping:
        raise NotPossibleError(503, "the server stops; try again later")
    if len(server.engine.queue) >= server.settings.limits.jobs:
        raise NotPossibleError(429, "the queue is full; try again later")
    body = check(body, server.store, server.settings.limits)
    job = Job(
        id=new_id(),
        kind=body.kind,
        state="waiting",
        created=time.time(),
        request=body.model_dump(mode="json", by_alias=True),
    )
    return server.engine.submit(job, client, temporary=temporary)


def router(server: Server) -> APIRouter:
    """Build the routes."""
    api = APIRouter(prefix="/v1", tags=["jobs"])

    @api.post("/jobs", status_code=202)
    def submit(body: JobBody, request: Request, x_client: Client = None) -> Job:
        """Take a job; what is accepted is made, also if the server is started again."""
        return take_job(server, body, client_of(request, x_client)).job

    @api.get("/jobs")
    def list_jobs(
        ids: Annotated[str | None, Query(max_length=10_000, description="a,b,c")] = None,
    ) -> list[Job]:
        """List jobs, the newest first."""
        records = [r for r in server.store.records() if not r.temporary]
        if ids is not None:
            wanted = set(ids.split(","))
            records = [r for r in records if r.job.id in wanted]
        return [r.job for r in records[:_MAX_LISTED]]

    @api.get("/jobs/{job_id}")
    def read_job(job_id: Id) -> Job:
        """Return a job."""
        return server.store.record(job_id).job

    @api.delete(
        "/jobs/{job_id}",
        response_model=Job,
        responses={204: {"description": "The job had ended and is removed."}},
    )
    def end_job(job_id: Id) -> Job | Response:
        """Cancel a job; remove one that has ended, with its takes."""
        record = server.store.record(job_id)
        if record.job.state in FINAL:
            if server.store.is_needed(job_id):
                raise NotPossibleError(409, "a job needs a take of this one; cancel it first")
            server.store.drop_job(job_id)
            return Response(status_code=204)
        server.engine.cancel(record)
        return record.job

    @api.get("/jobs/{job_id}/file", response_class=FileResponse)
    def read_file(job_id: Id) -> FileResponse:
        """Return the file of an export."""
        made = server.store.record(job_id).job.file
        found = [] if made is None else list(server.store.job_folder(job_id).glob("export.*"))
        path = next((p for p in found if p.suffix in _TYPES), None)
        if made is None or path is None:
            raise NotFoundError("file")
        return sent(path, _TYPES[path.suffix], name=whole_characters(made.name))

    events: dict[int | str, dict[str, Any]] = {
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        204: {"description": "The job had ended, and the client knows."},
    }

    @api.get("/jobs/{job_id}/events", response_class=Response, responses=events)
    async def follow_job(
        job_id: Id, last_event_id: Annotated[str | None, Header(max_length=100)] = None
    ) -> Response:
        """Stream a job at each change, up to its end."""
        _check_listeners(server)
        record = server.store.record(job_id)
        if record.job.state in FINAL and last_event_id == _event_id(record.job):
            return Response(status_code=204)
        return _stream(_events(server, job_id))

    @api.get("/events", response_class=Response, responses={200: events[200]})
    async def follow_all() -> Response:
        """Stream every job that changes."""
        _check_listeners(server)
        return _stream(_events(server, None))

    return api


_TYPES = {
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".mp3": "audio/mpeg",
    ".opus": "audio/ogg",
    ".ogg": "audio/ogg",
    ".m4a": "audio/mp4",
    ".zip": "application/zip",
}


def _stream(events: AsyncIterator[bytes]) -> StreamingResponse:
    return StreamingResponse(events, media_type="text/event-stream")


def _check_listeners(server: Server) -> None:
    if len(server.feed) >= _MAX_LISTENERS:
        raise NotPossibleError(429, "too many clients follow jobs; try again later")


async def _events(server: Server, job_id: str | None) -> AsyncIterator[bytes]:
    with server.feed.listener(job_id) as listener:
        changed = [] if job_id is None else [job_id]
        yield b"retry: 1000\n\n"
        while not server.feed.closed:
            for changed_id in changed:
                try:
                    record = server.store.record(changed_id)
                except NotFoundError:
                    continue
                if record.temporary and job_id is None:
                    continue
                job = record.job  # as it is now: the next state is told with the next event
                yield _event(job)
                if job_id is not None and job.state in FINAL:
                    return
            if changed:
                await asyncio.sleep(_SEND_EVERY_S)
            changed = await listener.wait(_PING_S)
            if not changed:
                yield b": still here\n\n"


def _event_id(job: Job) -> str:
    return f"{job.id}-{job.state}"


def _event(job: Job) -> bytes:
    data = json.dumps(job.model_dump(mode="json"), ensure_ascii=True)
    return f"event: job\nid: {_event_id(job)}\ndata: {data}\n\n".encode()
