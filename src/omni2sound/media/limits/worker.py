"""A process that opens a media file first, with limits of memory and of time.

In:   a path.
Out:  nothing, or `TooMuch`.

For kinds whose claims are not counted. What not to get wrong: only the process's own word that it
came to the file's end counts; however else it ends, the file has not been checked.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from omni2sound.media.limits.budgets import (
    WORKER_BYTES,
    WORKER_BYTES_PER_S,
    WORKER_S,
    TooMuch,
)

_WORKER = """
import sys
num_bytes, seconds, demuxers, path = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
import av
try:
    import resource
except ImportError:
    resource = None  # Windows: the clock alone is a limit
if resource is not None:
    limits = {"RLIMIT_CORE": (0, 0), "RLIMIT_CPU": (seconds, seconds + 1)}
    try:
        with open("/proc/self/statm") as file:
            num_bytes += int(file.read().split()[0]) * resource.getpagesize()
        limits["RLIMIT_AS"] = (num_bytes, num_bytes)
    except OSError:
        pass  # no Linux: memory has no limit
    for name, limit in limits.items():
        try:
            resource.setrlimit(getattr(resource, name), limit)
        except (ValueError, OSError):
            pass  # a lower one is set already
options = {"protocol_whitelist": "file", "format_whitelist": demuxers}
try:
    with av.open("file:" + path, container_options=options) as container:
        for packet in container.demux():
            pass
except (av.FFmpegError, MemoryError) as error:
    sys.exit(OVER if isinstance(error, MemoryError) or error.errno == 12 else DONE)
except (ValueError, IndexError):
    pass
sys.exit(DONE)
"""
_OVER, _DONE = 3, 4
_OUT_OF_TIME = {-kind for kind in signal.Signals if kind.name == "SIGXCPU"}
"""Windows has no such signal."""


def _cpu_limit_s(num_bytes: int) -> int:
    """Return the processor time that a file of a length may take to be read."""
    return WORKER_S + num_bytes // WORKER_BYTES_PER_S


def check_in_worker(path: Path, demuxers: str) -> None:
    """Let a process with limits read a file to its end, whatever it holds.

    Raises:
        TooMuch: It took more than its limits, or could not check the file.
    """
    num_bytes = path.stat().st_size
    cpu_s = _cpu_limit_s(num_bytes)
    code = _WORKER.replace("OVER", str(_OVER)).replace("DONE", str(_DONE))
    command = [sys.executable, "-P", "-c", code, str(WORKER_BYTES), str(cpu_s), demuxers]
    quiet = subprocess.DEVNULL
    slow = (
        f"its {num_bytes / 1e6:.1f} MB are not read in {{}}, so what it claims is unknown; "
        "convert it to mkv, mp4 or wav, which need no such check"
    )
    try:
        code_of_end = subprocess.run(
            [*command, str(path)],
            stdin=quiet,
            stdout=quiet,
            stderr=quiet,
            timeout=10 * cpu_s,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        raise TooMuch(slow.format(f"{10 * cpu_s} s")) from None
    if code_of_end in _OUT_OF_TIME:
        raise TooMuch(slow.format(f"{cpu_s} s of processor time"))
    if code_of_end == _OVER:
        raise TooMuch(
            f"takes more than {WORKER_BYTES // 10**6} MB of memory to be opened; it is damaged: "
            "convert it to mp4 or wav"
        )
    if code_of_end < 0:
        raise TooMuch(
            f"stops the process that opens it (signal {-code_of_end}); it is damaged: convert it "
            "to mp4 or wav"
        )
    if code_of_end != _DONE:
        raise TooMuch(
            f"could not be checked (a process ended with exit code {code_of_end}); convert it to "
            "mkv, mp4 or wav, which need no such check"
        )
