"""A process that has imported the heavy packages and is forked for each command; see `start.py`.

It holds no state but imported modules of others: no thread has started, nothing of omni2sound is
imported, so a fork is as a new process is after these imports. The forked process then runs the
command as `python` does, up to the end of the interpreter.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import sys
import time
import types
from pathlib import Path
from typing import Any

HEAVY = (
    "av",
    "numpy",
    "torch._dynamo",
    "torch.distributed.fsdp",
    "torch.export",
    "torch.utils.data",
    "scipy.signal",
    "scipy.stats",
    "transformers.modeling_layers",
    "transformers.models.clip.modeling_clip",
    "transformers.models.t5.modeling_t5",
    "diffusers.schedulers.scheduling_flow_match_euler_discrete",
    "pydantic",
    "httpx",
    "typer",
    "PIL.Image",
    "tokenizers",
)
"""A missing one only makes commands that need it slower."""

COLD = ("OMP_", "MKL_", "KMP_", "LD_", "PYTHON", "LC_", "LANG", "HF_")
"""Variables that are read once, when a process starts. Another value than here: a cold start."""
HARMLESS = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}


def forked_with_a_request(listener: socket.socket) -> dict[str, Any] | None:
    """Wait for requests; returns in each forked process, and with nothing at the end."""
    while True:
        ready, _, _ = select.select([listener, 0], [], [])
        if listener not in ready:
            return None  # standard input was closed: the tests are over
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            return _child_of_monitor(connection)
        connection.close()


def _child_of_monitor(connection: socket.socket) -> dict[str, Any]:
    """Returns in a child; this process passes signals on to it, and its status back."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, fds, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as file:
        request: dict[str, Any] = json.loads(file.readline())
    child = os.fork()
    if child == 0:
        connection.close()
        _take_streams(dict(zip(request["streams"], fds, strict=True)))
        return request
    for fd in fds:
        os.close(fd)
    ended = os.pidfd_open(child)
    watched: list[Any] = [connection, ended]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if ended in ready:
            _, status = os.waitpid(child, 0)
            try:
                connection.sendall(b"%d" % os.waitstatus_to_exitcode(status))
            finally:
                os._exit(0)
        numbers = connection.recv(16)
        for number in numbers or [signal.SIGKILL]:  # a client that was killed says nothing
            os.kill(child, number)
        if not numbers:
            watched.remove(connection)


def _take_streams(fds: dict[int, int]) -> None:
    """Standard streams as Python opens them when it starts; None for one that is closed."""
    for number, fd in fds.items():
        os.dup2(fd, number + 100)  # out of the way: a received one may have the number of another
        os.close(fd)
    for number in range(3):
        if number in fds:
            os.dup2(number + 100, number)
            os.close(number + 100)
        else:
            os.close(number)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = None
        if number in fds:
            binary = open(number, "rb" if number == 0 else "wb", closefd=False)  # noqa: SIM115
            stream = io.TextIOWrapper(
                binary,
                encoding=sys.__stdout__.encoding if sys.__stdout__ else "utf-8",
                errors="backslashreplace" if number == 2 else None,
                line_buffering=number == 2 or os.isatty(number),
            )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _fits(environment: dict[str, str]) -> bool:
    def read_once(all_of_them: dict[str, str]) -> dict[str, str]:
        return {
            name: value
            for name, value in all_of_them.items()
            if name.startswith(COLD) and name not in HARMLESS
        }

    return read_once(environment) == read_once(dict(os.environ))


def become(request: dict[str, Any], base_path: list[str]) -> None:
    """Be the process that was asked for, in place: folder, environment, signals, program."""
    kind, *arguments = request["arguments"]
    os.chdir(request["folder"])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ignored = request["interrupt_is_ignored"]
    signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    if not _fits(request["environment"]) or (kind.startswith("-") and kind not in {"-c", "-m"}):
        command = [sys.executable, *request["arguments"]]
        os.execve(sys.executable, command, request["environment"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    added = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [*added, *base_path]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__builtins__ = __builtins__  # type: ignore[attr-defined]
    if kind == "-m":
        sys.argv = ["-m", *arguments[1:]]
        sys.path.insert(0, str(Path.cwd()))
        runpy._run_module_as_main(arguments[0])  # type: ignore[attr-defined]
    elif kind == "-c":
        sys.argv = ["-c", *arguments[1:]]
        sys.path.insert(0, "")
        exec(compile(arguments[0], "<string>", "exec"), main.__dict__)
    else:
        sys.argv = [kind, *arguments]
        sys.path.insert(0, str(Path(kind).resolve().parent))
        main.__file__ = kind
        with io.open_code(kind) as file:
            exec(compile(file.read(), kind, "exec"), main.__dict__)


_status: int | None = None


def leave() -> None:
    """End without taking thousands of modules apart, once all else that is due at the end is done.

    Nothing is left out if the program failed, or if what it printed can not be written.
    """
    if _status is None:
        return
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        return
    os._exit(_status)


if __name__ == "__main__":
    atexit.register(leave)  # the first to be registered is the last to be called
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # monitors end unheard
    _base = sys.path[1:]
    for _name in HEAVY:
        try:
            importlib.import_module(_name)
        except ImportError:
            continue
    gc.freeze()  # collections of the children leave these pages shared
    _request = forked_with_a_request(socket.socket(fileno=int(sys.argv[1])))
    if _request is not None:
        try:
            become(_request, _base)
            _status = 0
        except SystemExit as end:
            plain = end.code is None or isinstance(end.code, int)
            _status = (end.code or 0) & 0xFF if plain else 1
            raise
