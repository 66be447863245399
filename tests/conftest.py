"""What holds for every test: no network, no time limits, the same examples on each run."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import typer.testing
from hypothesis import settings

# Two busy cores make any single example slow now and then; that says nothing about the code.
settings.register_profile("repository", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("repository")

# `CliRunner` builds the table of all commands for each call, which takes 0.1 s.
typer.testing._get_command = cache(typer.testing._get_command)


def _is_local(address: object) -> bool:
    if not isinstance(address, tuple):
        return True  # a Unix socket
    host = str(address[0])
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections leave this machine in no test of this process."""

    def guarded(original: Callable[..., Any]) -> Callable[..., Any]:
        def connect(self: socket.socket, address: object) -> Any:
            if not _is_local(address):
                raise AssertionError(f"a test tried to connect to {address}")
            return original(self, address)

        return connect

    monkeypatch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
