"""The process of a server: its folder, its socket, its signals.

In:   `Settings`, a port.
Out:  a server until SIGTERM or Ctrl-C; then jobs in the queue wait on disk for the next start.
"""

from __future__ import annotations

import logging
import signal
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn

from omni2sound.errors import UserError
from omni2sound.serve.app import create_app
from omni2sound.serve.context import Server, Settings
from omni2sound.serve.limits import CONNECTIONS
from omni2sound.staging import alone_in

logger = logging.getLogger(__name__)

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_LEAST_TOKEN_CHARS = 16
_GRACE_S = 5


def check_address(host: str, token: str | None, *, allow_remote: bool) -> None:
    """Refuse an address that others can reach, unless that is asked for and there is a token.

    Raises:
        UserError: The server would be open to others.
    """
    if token is not None and not (len(token) >= _LEAST_TOKEN_CHARS and token.isascii()):
        raise UserError(
            f"expected at least {_LEAST_TOKEN_CHARS} ASCII characters, got {len(token)}",
            field="token",
        )
    if host in _LOOPBACK:
        return
    if not allow_remote:
        raise UserError(
            f"{host} can be reached by others; set `allow_remote` and a `token`, or use 127.0.0.1",
            field="host",
        )
    if token is None:
        raise UserError("others can reach this server, so it needs one", field="token")


def serve(settings: Settings, port: int, ready: Callable[[int], None]) -> None:
    """Serve until a signal ends it.

    Args:
        settings: The server.
        port: 0 for any that is free.
        ready: Called with the port once connections are accepted.

    Raises:
        UserError: The port is taken, or another server uses the folder.
    """
    settings.folder.mkdir(parents=True, exist_ok=True)
    with alone_in(settings.folder), bind(settings.host, port) as bound:
        app = create_app(settings)
        # What libraries and requests put into temporary files lies in the server's folder, too.
        before, tempfile.tempdir = tempfile.tempdir, str(settings.folder / "tmp")
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=_GRACE_S,
            ws="none",
        )
        ready(bound.getsockname()[1])
        try:
            # It raises the signals again that it got, for whoever started it.
            with suppress(KeyboardInterrupt, SystemExit):
                _Process(config, app.state.server).run(sockets=[bound])
        finally:
            tempfile.tempdir = before


class _Process(uvicorn.Server):
    """Ends streams of events at a signal, so that no client holds the end up."""

    def __init__(self, config: uvicorn.Config, server: Server) -> None:
        super().__init__(config)
        self._server = server

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the end."""
        logger.info("%s: stopping", signal.Signals(sig).name)
        self._server.feed.close()
        super().handle_exit(sig, frame)


def bind(host: str, port: int) -> socket.socket:
    """Listen on an address.

    Raises:
        UserError: It is taken, or not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(128)
    except OSError as error:
        bound.close()
        raise UserError(
            f"{host}:{port} can't be used ({error.strerror}); choose another one", field="port"
        ) from None
    return bound
