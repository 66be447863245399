"""Routes of the page: files of the package, and nothing else.

In:   names of files.
Out:  the page, with a policy under which it runs its own scripts only.
"""

from __future__ import annotations

import re
import secrets
from importlib import resources
from importlib.resources.abc import Traversable

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from omni2sound.serve.context import Server
from omni2sound.serve.errors import NotFoundError

_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
    ".map": "application/json",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
}
_NONCE = "__CSP_NONCE__"


def _policy(nonce: str) -> str:
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; "
        "img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; "
        "worker-src 'self' blob:; font-src 'self'; form-action 'none'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )


def page_folder() -> Traversable:
    """Return the folder of the built page."""
    return resources.files("omni2sound.serve") / "page"


def router(server: Server) -> APIRouter:
    """Build the routes."""
    del server  # every server has the same page
    web = APIRouter(include_in_schema=False)

    @web.get("/")
    def index() -> Response:
        page = page_folder() / "index.html"
        if not page.is_file():
            return PlainTextResponse("omni2sound serves /v1; this installation has no page\n")
        nonce = secrets.token_urlsafe(16)
        text = page.read_text(encoding="utf-8").replace(_NONCE, nonce)
        return HTMLResponse(text, headers={"content-security-policy": _policy(nonce)})

    @web.get("/assets/{name}")
    def asset(name: str) -> Response:
        return _file(page_folder() / "assets", name)

    return web


def _file(folder: Traversable, name: str) -> Response:
    suffix = f".{name.rpartition('.')[2]}"
    if not _NAME.fullmatch(name) or suffix not in _TYPES:
        raise NotFoundError("file")
    path = folder / name
    if not path.is_file():
        raise NotFoundError("file")
    headers = {"cache-control": "public, max-age=31536000, immutable"}
    return Response(path.read_bytes(), media_type=_TYPES[suffix], headers=headers)
