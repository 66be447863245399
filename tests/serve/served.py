"""Servers for tests: in a thread of this process, and as the command that users start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import uvicorn
from examples.studio_client import Client

from omni2sound.serve.app import create_app
from omni2sound.serve.context import Settings
from omni2sound.serve.run import bind

ROOT = Path(__file__).parents[2]
READY_S = 120


class ServerThread:
    """A server in a thread; the application is `app`."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.app = settings, create_app(settings)
        self._socket = bind(settings.host, 0)
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(self.app, log_config=None, timeout_graceful_shutdown=2)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )
        self._thread.start()
        wait_until_ready(Client(self.address, settings.token))

    def stop(self) -> None:
        self._server.should_exit = True
        self.app.state.server.feed.close()
        self._thread.join(30)
        self._socket.close()


class ServerProcess:
    """`omni2sound serve` with a folder; `kill` ends it as a power cut does."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "omni2sound", "serve", "--port", "0"]
        self.log = (folder.parent / f"{folder.name}.log").open("ab")
        self._process = subprocess.Popen(
            [*command, "--folder", str(folder), *options],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        assert self.address.startswith("http://"), Path(self.log.name).read_text(encoding="utf-8")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._close()

    def stop(self) -> int:
        """End it by SIGTERM, and return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end, and return its exit code."""
        code = self._process.wait(60)
        self._close()
        return code

    def _close(self) -> None:
        assert self._process.stdout is not None
        self._process.stdout.close()
        self.log.close()


def wait_until(is_so: Callable[[], bool], limit_s: float = 60.0) -> None:
    end_s = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < end_s, f"not so after {limit_s} s"
        time.sleep(0.01)


def wait_until_ready(client: Client) -> None:
    def is_ready() -> bool:
        try:
            return client.json("GET", "/v1/health")["status"] in ("ready", "failed")
        except OSError:
            return False

    wait_until(is_ready, READY_S)
