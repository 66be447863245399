"""How commands end, and that each of them starts."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from omni2sound.cli import main as main_module
from omni2sound.cli.progress import progress_bar
from omni2sound.errors import MediaError
from omni2sound.files import atomic_path


@pytest.fixture(autouse=True)
def process_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`main` belongs to a process of its own; put back what it changes in this one."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    handler = signal.getsignal(signal.SIGTERM)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    package_level = logging.getLogger("omni2sound").level
    yield
    signal.signal(signal.SIGTERM, handler)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("omni2sound").setLevel(package_level)


OMNI2SOUND = Path(sys.executable).with_name("omni2sound")


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([OMNI2SOUND, *arguments], check=False, capture_output=True, text=True)


def _end(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int | str | None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(main_module, "_only_called", lambda *_: fail)
    with pytest.raises(SystemExit) as end:
        main_module.main()
    return end.value.code


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (MediaError("a.mp4: no\n video"), 2, "omni2sound: a.mp4: no video\n"),
        (FileNotFoundError(2, "No such file", "b.mp4"), 2, "omni2sound: b.mp4: No such file\n"),
        (OSError("odd"), 2, "omni2sound: odd\n"),
        (KeyboardInterrupt(), 130, "omni2sound: interrupted\n"),
    ],
)
def test_a_failure_is_one_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    line: str,
) -> None:
    assert _end(monkeypatch, error) == code
    assert capsys.readouterr().err == line


def test_ctrl_c_inside_a_command_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("omni2sound.cli.doctor._python", interrupted)
    monkeypatch.setattr(sys, "argv", ["omni2sound", "doctor"])
    with pytest.raises(SystemExit) as end:
        main_module.main()
    assert end.value.code == 130


def test_a_user_error_inside_a_command_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise MediaError("no")

    monkeypatch.setattr("omni2sound.cli.doctor._python", refuse)
    monkeypatch.setattr(sys, "argv", ["omni2sound", "doctor"])
    with pytest.raises(SystemExit) as end:
        main_module.main()
    assert end.value.code == 2
    assert capsys.readouterr() == ("", "omni2sound: no\n")


def test_a_warning_names_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warn() -> None:
        logging.getLogger("omni2sound.media").warning("leave out `as_json` or `other`")
        raise MediaError("no")

    monkeypatch.setattr("omni2sound.cli.doctor._python", warn)
    monkeypatch.setattr(sys, "argv", ["omni2sound", "doctor"])
    with pytest.raises(SystemExit):
        main_module.main()
    assert capsys.readouterr().err == "leave out --json or `other`\nomni2sound: no\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
def test_sigterm_unwinds_the_stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    target = tmp_path / "sound.wav"

    def terminated() -> None:
        with atomic_path(target) as path:
            path.write_bytes(b"half")
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(main_module, "_only_called", lambda *_: terminated)
    with pytest.raises(SystemExit) as end:
        main_module.main()
    assert end.value.code == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())


def test_a_bug_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(main_module, "_only_called", lambda *_: fail)
    with pytest.raises(ZeroDivisionError):
        main_module.main()


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["--nothing"], ["doctor", "--nothing"], ["-q", "-v", "doctor"]]
)
def test_a_wrong_command_line_exits_with_2(arguments: list[str]) -> None:
    done = _run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["-AAAAAAAAA6_000007.mp4", "--0PQM4-hqg.mp4", "-v4QxXz7Y_o.mp4"])
def test_a_file_whose_name_begins_with_a_dash_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    # Ids of YouTube begin so in one of 64 cases: ytdl-org/youtube-dl#4800, yt-dlp#3274.
    (tmp_path / name).write_bytes(b"no video")
    (tmp_path / "--overwrite").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["omni2sound", "generate", name, "-o", "-x.wav"])
    with pytest.raises(SystemExit) as end:
        main_module.main()
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"omni2sound: {name}: cannot be read")
    given = ["generate", "--overwrite", "-q", "--", name]
    assert main_module._mark_files(given) == given


def test_version() -> None:
    done = _run("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("omni2sound ")


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "omni2sound", "--version"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("omni2sound ")


TABLE: Any = typer.main.get_command(main_module.app)


def _command_paths() -> list[tuple[str, ...]]:
    """Every command and group, from the program's own table."""

    def walk(command: object, path: tuple[str, ...]) -> list[tuple[str, ...]]:
        children = getattr(command, "commands", {})
        return [path, *(p for name, c in children.items() for p in walk(c, (*path, name)))]

    return walk(TABLE, ())


@pytest.mark.parametrize("path", _command_paths(), ids=" ".join)
def test_each_command_explains_itself(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        TABLE([*path, "--help"], prog_name="omni2sound")
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "Usage:" in text
    assert "Not written yet" not in text


def test_progress_is_silent_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar("sampling", total=2) as report:
        report(1, 2)
        report(2, 2)
    assert stream.getvalue() == ""


def test_progress_shows_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("logging.Logger.isEnabledFor", lambda self, level: True)
    with progress_bar("sampling") as report:
        report(1, 2)
    assert "sampling" in stream.getvalue()
