"""What starts warm can not be told from what starts cold."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.warm.start import warm, warm_scripts

pytestmark = pytest.mark.slow

TOLD = """
import atexit, os, sys, threading
def told():
    print(sys.argv, os.getcwd(), os.environ["TOLD"], __name__, sys.path[0], sys.executable)
    print(sys.stdin.read(), sys.stdout.encoding, sys.stdout.isatty(), sys.stderr.errors)
    print(sorted(n for n in sys.modules if n.split(".")[0] == "omni2sound"))
    print(len(os.listdir("/proc/self/task")), file=sys.stderr)
atexit.register(print, "end")
thread = threading.Timer(0.1, told)
thread.start()
"""
ENDS = {
    "nothing": "print('a')",
    "a number": "import sys; sys.exit(7)",
    "words": "import sys; sys.exit('no')",
    "an error": "int('x')",
    "a signal": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "an interrupt": "raise KeyboardInterrupt",
    "a stream that is full": "import sys; sys.stdout = open('/dev/full', 'w'); print('a')",
    "closed streams": "import os; os.fstat(1)",
}


def both(command: list[object], **options: object) -> list[subprocess.CompletedProcess[str]]:
    found = []
    for argv in (list(map(str, command)), warm(command)):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        found.append(subprocess.run(argv, check=False, **options))  # type: ignore[call-overload]
    return found


@pytest.mark.parametrize("how", ["-c", "-m", "script"])
def test_a_program_sees_the_same(tmp_path: Path, how: str) -> None:
    (tmp_path / "tell.py").write_text(TOLD)
    start = {"-c": ["-c", TOLD], "-m": ["-m", "tell"], "script": [tmp_path / "tell.py"]}[how]
    environment = os.environ | {"TOLD": "ä"}
    cold, hot = both(
        [sys.executable, *start, "a b", "--c"], cwd=tmp_path, env=environment, input="in"
    )
    assert cold.returncode == 0, cold.stderr
    assert (hot.returncode, hot.stdout, hot.stderr) == (0, cold.stdout, cold.stderr)


@pytest.mark.parametrize("end", ENDS)
def test_it_ends_the_same(end: str) -> None:
    shell = ["sh", "-c", '"$@" >&-', "sh"] if end == "closed streams" else []
    cold, hot = (
        subprocess.run([*shell, *argv], check=False, capture_output=True, text=True)
        for argv in ([sys.executable, "-c", ENDS[end]], warm([sys.executable, "-c", ENDS[end]]))
    )
    assert (hot.returncode, hot.stdout) == (cold.returncode, cold.stdout)
    assert hot.stderr.splitlines()[-1:] == cold.stderr.splitlines()[-1:]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_passed_on(number: signal.Signals) -> None:
    code = (
        "import signal, time\n"
        f"signal.signal({number:d}, lambda *_: exit({number:d}))\n"
        "print('ready', flush=True)\ntime.sleep(600)"
    )
    with subprocess.Popen(warm([sys.executable, "-c", code]), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.wait() == number


def test_a_kill_ends_the_command_too() -> None:
    code = "import time; print('ready', flush=True); time.sleep(600)"
    with subprocess.Popen(warm([sys.executable, "-c", code]), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.kill()
        assert process.stdout.read() == b""  # the end: nobody holds the pipe any more


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "PYTHONHASHSEED"])
def test_what_is_read_at_the_start_means_a_cold_start(name: str) -> None:
    code = "import os, sys; print(os.environ[sys.argv[1]], 'torch' in sys.modules)"
    environment = os.environ | {name: "5"}
    cold, hot = both([sys.executable, "-c", code, name], env=environment)
    assert hot.stdout == cold.stdout == "5 False\n"


def test_scripts_start_them_from_a_shell(tmp_path: Path) -> None:
    path = f"{warm_scripts(tmp_path / 'bin')}{os.pathsep}{os.environ['PATH']}"
    code = "omni2sound --version && python -c 'import sys; print(sys.argv)' '$a b'"
    done = subprocess.run(
        ["sh", "-c", code], env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    assert done.stdout.startswith("omni2sound ") and done.stdout.endswith("['-c', '$a b']\n")
