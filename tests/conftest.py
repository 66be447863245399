"""What holds for every test: no network, no time limits, the same examples on each run.

Tests have a cache of their own, without an export of the default model, which `auto` would take.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import typer.testing
from hypothesis import settings

from omni2sound.bundled import networks_dir
from omni2sound.files import cache_dir

os.environ["OMNI2SOUND_NETWORKS"] = str(networks_dir())
os.environ["OMNI2SOUND_CACHE"] = str(cache_dir() / "tests")

# A shell's background jobs, and what they start, ignore Ctrl-C; tests send it to their processes.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Two busy cores make any single example slow now and then; that says nothing about the code.
settings.register_profile("repository", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("repository")

# `CliRunner` builds the table of all commands for each call, which takes 0.1 s.
typer.testing._get_command = cache(typer.testing._get_command)


FAST_S = 3.0
"""Processor time, with that of ended processes, from which a test that is not `slow` is listed."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole modules in another order: those with slow tests first, so that no core ends alone."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    before = sum(os.times()[:4])
    try:
        return (yield)
    finally:
        if not item.get_closest_marker("slow"):
            item.user_properties.append(("cpu_s", sum(os.times()[:4]) - before))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Fast tests that are not: `make check` is to take three minutes."""
    for report in terminalreporter.getreports("passed"):
        cpu_s = dict(report.user_properties).get("cpu_s", 0.0)
        if cpu_s > FAST_S:
            terminalreporter.write_line(f"not fast: {cpu_s:.1f} s of a core: {report.nodeid}")


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
