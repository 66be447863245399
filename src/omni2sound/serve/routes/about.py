"""Routes of the server itself: its state, its model, its numbers; the token for a cookie.

In:   nothing but a token.
Out:  facts.
"""

from __future__ import annotations

from typing import get_args

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

import omni2sound
from omni2sound.generate.words.kinds import all_kinds, example_of
from omni2sound.serve.bodies import (
    Format,
    Health,
    JobKind,
    Kind,
    LoginBody,
    ModelInfo,
)
from omni2sound.serve.context import Server
from omni2sound.serve.errors import NotPossibleError
from omni2sound.serve.guard import COOKIE


def router(server: Server) -> APIRouter:
    """Build the routes."""
    api = APIRouter()
    limits = server.settings.limits

    @api.get("/v1/health", tags=["server"])
    def health() -> Health:
        """Say whether jobs are worked on."""
        engine = server.engine
        if engine.stopping:
            return Health(status="stopping")
        if engine.failure is not None:
            return Health(status="failed", message=engine.failure)
        return Health(status="ready" if engine.ready.is_set() else "loading")

    @api.get("/v1/model", tags=["server"])
    def model() -> ModelInfo:
        """Describe the model and the limits of this server."""
        pipeline = server.engine.pipeline
        return ModelInfo(
            name=str(server.settings.model.model) if pipeline is None else pipeline.model.name,
            version=omni2sound.__version__,
            sample_rate_hz=None if pipeline is None else pipeline.model.sample_rate_hz,
            steps=None if pipeline is None else pipeline.model.defaults.steps,
            device=None if pipeline is None else str(pipeline.device),
            tasks=["T2A", "V2A", "VT2A"],
            jobs=list(get_args(JobKind)),
            kinds=[Kind(name=kind.class_id, examples=[example_of(kind)]) for kind in all_kinds()],
            max_duration_s=limits.duration_s,
            limits={
                "upload_bytes": limits.upload_bytes,
                "duration_s": limits.duration_s,
                "jobs": limits.jobs,
                "takes": limits.takes,
                "media": limits.media,
                "age_s": limits.age_s,
            },
            formats=list(get_args(Format)),
        )

    @api.post("/v1/login", status_code=204, tags=["server"])
    def login(body: LoginBody, request: Request) -> Response:
        """Exchange the token for a cookie, which players and pictures send by themselves."""
        if server.access.token is not None and not server.access.knows_token(body.token):
            raise NotPossibleError(401, "this is not the token of this server", "token")
        response = Response(status_code=204)
        if server.access.token is not None:
            response.set_cookie(
                COOKIE,
                server.access.session(),
                httponly=True,
                samesite="strict",
                secure=request.url.scheme == "https",
            )
        return response

    @api.get("/metrics", response_class=PlainTextResponse, tags=["server"])
    def metrics() -> PlainTextResponse:
        """Return numbers for Prometheus."""
        server.metrics.waiting.set(len(server.engine.queue))
        server.metrics.listeners.set(len(server.feed))
        server.metrics.stored.set(server.store.num_bytes())
        return PlainTextResponse(server.metrics.text())

    return api
