"""The page with the model's parts: served on this machine, or written for a static host.

In:   a folder of parts (`parts`), the built page from the package.
Out:  a server on loopback; a folder of files.

Threads in a browser need a page that is isolated from other sites, by two headers that the server
sends. The page works without them, on one thread.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path

from omni2sound.errors import MissingPartError
from omni2sound.files import atomic_folder

HOST = "127.0.0.1"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".tsv": "text/plain; charset=utf-8",
}
_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_BUILD = "build.json"
"""Digests for a test; no part of the page."""


def page_folder() -> Path:
    """The built page in the package.

    Raises:
        MissingPartError: The package was installed without it.
    """
    folder = Path(str(files("omni2sound.browser"))) / "page"
    if not (folder / "index.html").is_file():
        raise MissingPartError("this build of omni2sound has no page; run: make page")
    return folder


def site_files(parts: Path) -> dict[str, Path]:
    """Files of the whole site by their path below its address."""
    page = page_folder()
    found = {p.relative_to(page).as_posix(): p for p in page.rglob("*") if p.is_file()}
    found.pop(_BUILD, None)
    return found | {f"parts/{p.name}": p for p in parts.iterdir() if p.is_file()}


def write_site(parts: Path, to: Path) -> int:
    """Write the site for a static host; returns its bytes.

    Args:
        parts: A folder of parts.
        to: Folder to write; an existing one is replaced if it is such a site.

    Raises:
        UserError: `to` exists and is no such site.
    """
    total = 0
    with atomic_folder(to, kind="site of `omni2sound try`", marker="worker.js") as folder:
        for name, path in site_files(parts).items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            total += path.stat().st_size
    return total


class _Handler(BaseHTTPRequestHandler):
    """Answers with files of a fixed list, to pages of this machine alone."""

    protocol_version = "HTTP/1.1"
    timeout = 60

    def __init__(self, known: Mapping[str, Path], *arguments: object) -> None:
        self._known = known
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Write no line for each request."""

    def _answer(self, *, with_body: bool) -> None:
        # A name of somebody else's that leads here is another site to the browser.
        host = self.headers.get("Host", "").rpartition(":")[0]
        name = self.path.partition("?")[0].removeprefix("/") or "index.html"
        path = self._known.get(name) if host in (HOST, "localhost") else None
        if path is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with path.open("rb") as file:
            self.send_response(HTTPStatus.OK)
            for key, value in _HEADERS.items():
                self.send_header(key, value)
            self.send_header("Content-Type", _TYPES.get(path.suffix, "application/octet-stream"))
            self.send_header("Content-Length", str(path.stat().st_size))
            self.end_headers()
            if with_body:
                shutil.copyfileobj(file, self.wfile)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a failure in a line; the connection ends, for a body may be left unread."""
        line = f"{code} {message or HTTPStatus(code).phrase}\n".encode()
        self.close_connection = True
        self.send_response(code)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(line)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(line)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over connections that a browser has closed."""


def site_server(parts: Path, port: int) -> ThreadingHTTPServer:
    """A server of the site on loopback; `serve_forever` answers requests.

    Args:
        parts: A folder of parts.
        port: Port to listen on; 0 takes a free one.
    """
    return _Server((HOST, port), partial(_Handler, site_files(parts)))
