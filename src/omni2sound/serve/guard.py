"""Who may ask: host, origin and token of every request, and headers of every answer.

In:   requests before anything of them is parsed.
Out:  refusals as JSON; security headers.

What not to get wrong: a page of another site can send requests to a loopback address, and, with a
name that it lets point there (DNS rebinding), read the answers. So the host must be one of the
server's own, and whatever a browser says of the page that asks must be this site. There is no CORS.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from omni2sound.serve.limits import BODY_PAUSE_S

COOKIE = "omni2sound_session"
_OPEN = ("/", "/v1/health", "/v1/login")
"""Paths that need no token, besides those of the page's files."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_READING = ("GET", "HEAD")
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
}
"""Of every answer that does not set its own."""


class Access:
    """What a request must have.

    Args:
        host: Address on which the server listens.
        token: Secret of the server; None: no token is needed.
        names: More host names under which it is reached.
    """

    def __init__(self, host: str, token: str | None, names: Iterable[str] = ()) -> None:
        self.token = token
        self._hosts = {*_LOOPBACK, host.strip("[]").lower(), *(name.lower() for name in names)}
        self._any_host = host in ("0.0.0.0", "::", "") and token is not None

    def session(self) -> str:
        """Return the value of the cookie: no token, but only who knows the token can have it."""
        key = (self.token or "").encode()
        return hmac.new(key, b"omni2sound session", hashlib.sha256).hexdigest()

    def knows_token(self, given: str) -> bool:
        """Whether a token is the server's, in constant time."""
        expected = (self.token or "").encode()
        return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected)

    def refusal(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Return the status and reason of a refusal; None if the request may pass."""
        host = headers.get("host", "")
        if not self._is_ours(host):
            return 421, "this server does not answer under that host name"
        is_api = path.startswith("/v1/") or path in ("/metrics", "/openapi.json")
        site = headers.get("sec-fetch-site", "none")
        origin = headers.get("origin")
        if origin is not None and _host_of(origin) != host.lower():
            return 403, "pages of other sites may not ask this server"
        if site not in ("none", "same-origin") and (is_api or method not in _READING):
            return 403, "pages of other sites may not ask this server"
        if self.token is None or path in _OPEN or path.startswith("/assets/"):
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.knows_token(given.strip()):
            return None
        if hmac.compare_digest(_cookie(headers.get("cookie", "")), self.session().encode()):
            return None
        return 401, "a token is needed; the server printed it when it started"

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        return name is not None and (self._any_host or name in self._hosts)


class Guard:
    """ASGI middleware: refuses what may not ask, and raises where a body does not come."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        refusal = self._access.refusal(scope["method"], scope["path"], headers)
        if refusal is not None:
            await _refuse(*refusal, with_headers(send))
            return

        whole = scope["method"] in _READING

        async def receive_in_time() -> Message:
            nonlocal whole
            if whole:  # what comes now is the client's end
                return await receive()
            message = await asyncio.wait_for(receive(), BODY_PAUSE_S)
            whole = not message.get("more_body", False)
            return message

        await self._app(scope, receive_in_time, with_headers(send))


def with_headers(send: Send) -> Send:
    """Add the security headers to an answer."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            given = {name.lower() for name, _ in headers}
            headers += [
                (name.encode(), value.encode())
                for name, value in HEADERS.items()
                if name.encode() not in given
            ]
            message = {**message, "headers": headers}
        await send(message)

    return sending


async def _refuse(status: int, reason: str, send: Send) -> None:
    body = json.dumps({"error": {"message": reason, "field": None, "given": None}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _cookie(header: str) -> bytes:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return b""
    return b"" if found is None else found.value.encode("utf-8", "surrogatepass")
