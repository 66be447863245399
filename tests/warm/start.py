"""Commands in processes of their own that start in a tenth of a second instead of some seconds.

Most of a command's start is the import of torch, transformers and diffusers. Here one process
imports them (`server.py`), once for each process of pytest, and is forked for each command. What
stands in for the command (`client.py`) has its standard streams, passes signals on, and ends as
it does; `subprocess` sees no difference but the process id. Where that can not be (no Linux,
variables that are read when a process starts), the command starts cold.

Tests of the start itself (entry points, what is imported, threads) use `subprocess` alone.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent


def warm(command: list[object]) -> list[str]:
    """The same command (`[sys.executable, ...]` or `[.../omni2sound, ...]`), as a warm start."""
    program, *arguments = map(str, command)
    if Path(program).name == "omni2sound":
        arguments = ["-m", "omni2sound", *arguments]
    elif program != sys.executable:
        return [program, *arguments]
    return [*_head(), *arguments]


def warm_scripts(folder: Path) -> Path:
    """Fill a folder for PATH with `omni2sound` and `python` that start warm."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, arguments in (("omni2sound", "-m omni2sound "), ("python", "")):
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec {subprocess.list2cmdline(_head())} {arguments}"$@"\n')
        path.chmod(0o755)
    return folder


@cache
def _head() -> list[str]:
    """Start the server of this process; what to put before the arguments of Python."""
    if sys.platform != "linux":
        return [sys.executable]
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
        listener.listen(64)
        environment = {n: v for n, v in os.environ.items() if n != "PYTHONPATH"}
        server = subprocess.Popen(
            [sys.executable, str(HERE / "server.py"), str(listener.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            env=environment,
        )

    def end() -> None:
        assert server.stdin is not None
        server.stdin.close()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return [sys.executable, "-IS", str(HERE / "client.py"), str(folder / "s")]
