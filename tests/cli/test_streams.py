"""What reaches a terminal or a pipe: no control character, no key, no traceback if it is full."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.checks.transcripts import in_terminal, settled
from omni2sound import redact
from omni2sound.cli.streams import GuardedStream

NAME = "\x1b[2J\x07a\r\x9b\u202eb\x7f"
"""A file name that clears the screen, rings, and turns the direction of writing."""
CONTROLS = set(map(chr, range(32))) - {"\n", "\t"} | {"\x7f", "\x9b", "\u202e"}
HEAD = (
    "import sys\nfrom omni2sound.cli.main import main\nsys.argv = ['omni2sound', *sys.argv[1:]]\n"
)


def run(*arguments: str, shell: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", HEAD + "main()", *arguments]
    if shell:
        command = ["sh", "-c", f'"$@" {shell}', "sh", *command]
    kwargs = {"capture_output": True, "text": True, "check": False} | options
    return subprocess.run(command, **kwargs)


@pytest.mark.parametrize("name", [NAME + ".mp4", "line\nomni2sound: forged.mp4"])
def test_names_with_control_characters_reach_no_terminal(tmp_path: Path, name: str) -> None:
    video = tmp_path / name
    video.write_bytes(b"no video")
    for arguments in (["generate", str(video)], ["generate", "-v", str(video), "-o", name]):
        done = run(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert not CONTROLS & set(done.stdout + done.stderr)
        assert "Traceback" not in done.stderr
        assert "omni2sound: forged" not in done.stderr.splitlines()


def test_a_log_record_is_one_line() -> None:
    code = (
        "import logging\nfrom omni2sound.cli import main as m\n"
        "def fail():\n    logging.getLogger('omni2sound.x').warning('%s: skipped', 'a\\nb\\x1b')\n"
        "    raise m.UserError('no')\n"
        "import omni2sound.cli.doctor as d\nd._python = fail\n"
        "import sys\nsys.argv = ['omni2sound', 'doctor']\nm.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "a b\\x1b: skipped\nomni2sound: no\n"


def test_what_is_printed_is_scrubbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_forms", [])
    monkeypatch.setattr(redact, "_windows", {})
    monkeypatch.setattr(redact, "_pattern", None)
    redact.add_secret("sk-planted-0123456789-abcdef")
    behind = io.StringIO()
    stream: Any = GuardedStream(behind, name="standard output", may_fail=False)
    print("key", "sk-planted-0123456789-abcdef", "\x1b", file=stream)
    logging.StreamHandler(stream).emit(
        logging.makeLogRecord({"msg": "sk%2Dplanted-0123456789-abcdef"})
    )
    assert behind.getvalue() == "key [key] \\x1b\n[key]\n"
    stream.writelines(["sk-planted-0123456789-abcdef", "\x1b[2J\n"])
    assert behind.getvalue().endswith("[key]\\x1b[2J\n")


def test_halves_of_characters_can_be_printed() -> None:
    done = run("generate", os.fsdecode(b"\xff.mp4"))
    assert done.returncode == 2 and "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize(
    "command", [pytest.param(["sounds"], marks=pytest.mark.slow), ["--version"]]
)
def test_a_full_standard_output_is_one_line(command: list[str]) -> None:
    done = run(*command, shell="> /dev/full")
    assert done.returncode == 3
    assert done.stderr == "omni2sound: standard output: No space left on device\n"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell that closes streams")
@pytest.mark.parametrize(
    "shell",
    [
        pytest.param("2>&-", marks=pytest.mark.slow),
        pytest.param(">&- 2>&-", marks=pytest.mark.slow),
        "<&- >&- 2>&-",
    ],
)
def test_closed_standard_streams_go_nowhere(tmp_path: Path, shell: str) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    done = run("generate", str(tmp_path / "a.mp4"), shell=shell)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell that closes streams")
def test_closed_standard_output_is_no_failure_and_files_do_not_take_its_place(
    tmp_path: Path,
) -> None:
    done = run("sounds", shell=">&-")
    assert (done.returncode, done.stderr) == (0, "")
    code = (
        HEAD
        + "from omni2sound.cli.streams import guard_streams\nguard_streams()\n"
        + ("file = open(sys.argv[1], 'w')\nassert file.fileno() > 2\nprint('x', file=sys.stderr)\n")
    )
    target = tmp_path / "out"
    command = ["sh", "-c", '"$@" 2>&-', "sh", sys.executable, "-c", code, str(target)]
    assert subprocess.run(command, check=False).returncode == 0
    assert target.read_text() == ""


def test_a_reader_that_leaves_is_no_failure_to_talk_about() -> None:
    done = run("sounds", shell="| head -n 1")
    assert done.stderr == "" and done.stdout.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals to open")
def test_results_stay_on_stdout_while_a_bar_is_on_the_terminal(tmp_path: Path) -> None:
    code = HEAD + (
        "from omni2sound.cli.streams import guard_streams\nguard_streams()\n"
        "import logging\nlogging.getLogger('omni2sound').setLevel(logging.INFO)\n"
        "from omni2sound.cli.progress import progress_bar\n"
        "with progress_bar('jobs', 2) as report:\n"
        "    print('a result')\n    print('bad \\x1b[2J name', file=sys.stderr)\n    report(1, 2)\n"
    )
    ours, theirs = os.openpty()
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm"},
        text=True,
        check=False,
    )
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert (done.returncode, done.stdout) == (0, "a result\n")
    assert "jobs" in shown and "\x1b[2J" not in shown and "name" in shown


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals to open")
def test_a_long_result_above_a_bar_stays_one_line() -> None:
    code = HEAD + (
        "from omni2sound.cli.streams import guard_streams\nguard_streams()\n"
        "import logging\nlogging.getLogger('omni2sound').setLevel(logging.INFO)\n"
        "from omni2sound.cli.progress import progress_bar\n"
        "with progress_bar('jobs', 2) as report:\n    print('a b ' * 60 + 'end')\n"
        "print('after')\n"
    )
    done, shown = in_terminal([sys.executable, "-c", code])
    assert done == 0, shown
    lines = settled(shown.decode())
    assert lines == ["a b " * 60 + "end", "after"], shown
