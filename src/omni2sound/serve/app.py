"""The application: routes, errors, and the engine's life with it.

In:   `Settings`.
Out:  an ASGI application.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import omni2sound
from omni2sound.errors import Omni2SoundError
from omni2sound.serve.bodies import ErrorBody, JobKind, Problem
from omni2sound.serve.context import Server, Settings
from omni2sound.serve.drawn import Drawings
from omni2sound.serve.engine import Engine, problem_of
from omni2sound.serve.errors import NotFoundError, NotPossibleError
from omni2sound.serve.feed import Feed
from omni2sound.serve.guard import Access, Guard
from omni2sound.serve.limits import BODY_BYTES
from omni2sound.serve.metrics import Metrics
from omni2sound.serve.routes import about, jobs, media, page, sync, takes
from omni2sound.serve.store import Store

logger = logging.getLogger(__name__)

_MAX_GIVEN_CHARS = 80


def create_app(settings: Settings) -> FastAPI:
    """Build the application.

    Raises:
        OSError: The folder can't be used.
    """
    feed, metrics = Feed(), Metrics()
    store = Store(settings.folder, settings.limits)
    engine = Engine(store, settings.model, feed.changed, metrics, warm=settings.warm)
    access = Access(settings.host, settings.token, settings.names)
    server = Server(
        settings=settings,
        store=store,
        engine=engine,
        feed=feed,
        metrics=metrics,
        access=access,
        drawings=Drawings(),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        feed.open(asyncio.get_running_loop())
        engine.start()
        yield
        feed.close()
        await asyncio.to_thread(engine.stop)

    errors: dict[int | str, dict[str, Any]] = {
        "4XX": {"model": ErrorBody, "description": "What was wrong, as a sentence."}
    }
    app = _App(
        title="omni2sound",
        summary="Sound effects for a silent video, a text prompt, or both.",
        version=omni2sound.__version__,
        docs_url=None,  # their pages fetch scripts of another site
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        max_body_size=BODY_BYTES,
        redirect_slashes=False,
        lifespan=lifespan,
        responses=errors,
    )
    app.state.server = server
    for routes in (jobs, media, takes, sync, about, page):
        app.include_router(routes.router(server))
    _add_error_handlers(app, settings.folder)
    return app


class _App(FastAPI):
    """FastAPI inside the guard: its own answers to mistakes and large bodies pass it, too."""

    def build_middleware_stack(self) -> ASGIApp:
        """Put guard and counter around all."""
        server: Server = self.state.server
        app = _WordedLimit(super().build_middleware_stack())
        return _Counted(Guard(app, server.access), server.metrics)


class _WordedLimit:
    """ASGI middleware: refuses a body that is too large in JSON, as all is refused here."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_refused = False

        async def sending(message: Message) -> None:
            nonlocal is_refused
            if message["type"] == "http.response.start" and _is_bare_refusal(message):
                is_refused = True
                said = "the file or request is larger than this server accepts"
                await answer(413, Problem(message=said))(scope, receive, send)
            elif not is_refused:
                await send(message)

        await self._app(scope, receive, sending)


def _is_bare_refusal(start: Message) -> bool:
    kind = dict(start["headers"]).get(b"content-type", b"")
    return start["status"] == 413 and not kind.startswith(b"application/json")


class _Counted:
    """ASGI middleware: counts answers by status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, sending)


def _add_error_handlers(app: FastAPI, folder: Path) -> None:
    """Answer every error with a sentence; tracebacks go to the log alone."""

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = [
            str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")
        ]
        where = ".".join(part for part in place if part not in _KINDS) or None
        if first["type"].startswith("union_tag"):
            said = f"expected one of {', '.join(get_args(JobKind))}"
            return answer(422, Problem(message=said, field="kind"))
        given = None if first["type"] == "missing" else repr(first.get("input"))
        return answer(422, Problem(message=first["msg"], field=where, given=_shortened(given)))

    @app.exception_handler(HTTPException)
    def of_http(request: Request, error: HTTPException) -> JSONResponse:
        problem = Problem(message=str(error.detail))
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["allow"] = _allowed(app, request.url.path)
        return answer(error.status_code, problem, headers)

    @app.exception_handler(NotPossibleError)
    def not_possible(_: Request, error: NotPossibleError) -> JSONResponse:
        headers = {"retry-after": "5"} if error.status in (429, 503) else None
        return answer(error.status, Problem(message=error.message, field=error.field), headers)

    @app.exception_handler(NotFoundError)
    def not_found(_: Request, error: NotFoundError) -> JSONResponse:
        return answer(404, Problem(message=f"there is no such {error}, or no more"))

    @app.exception_handler(Omni2SoundError)
    def wrong(_: Request, error: Omni2SoundError) -> JSONResponse:
        return answer(422, problem_of(error, folder))

    @app.exception_handler(TimeoutError)
    def late(_: Request, error: TimeoutError) -> JSONResponse:
        return answer(408, Problem(message="the body of the request did not come"))

    @app.exception_handler(FileNotFoundError)
    def gone(_: Request, error: FileNotFoundError) -> JSONResponse:
        return answer(404, Problem(message="it was deleted meanwhile"))

    @app.exception_handler(OSError)
    def of_disk(_: Request, error: OSError) -> JSONResponse:
        logger.error("a request failed: %s", error)
        return answer(507, problem_of(error, folder))

    @app.exception_handler(Exception)
    def mistake(_: Request, error: Exception) -> JSONResponse:
        logger.error("a request failed", exc_info=error)
        return answer(500, Problem(message="the server made a mistake; its log says which"))


def _allowed(app: FastAPI, path: str) -> str:
    """List the methods of a path; each method has a route of its own, which knows no others."""
    methods: set[str] = set()
    for template, operations in app.openapi()["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            methods |= {method.upper() for method in operations}
    return ", ".join(sorted(methods))


_KINDS = frozenset(get_args(JobKind))


def _shortened(text: str | None) -> str | None:
    if text is None or len(text) <= _MAX_GIVEN_CHARS:
        return text
    return f"{text[:_MAX_GIVEN_CHARS]}..."


def answer(status: int, problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    """Compose an answer that is an error."""
    return JSONResponse(ErrorBody(error=problem).model_dump(), status, headers=headers)
