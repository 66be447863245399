"""`omni2sound doctor --repair`: what the dead left goes, what the living have stays."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from omni2sound.cli.main import app
from omni2sound.errors import UserError
from omni2sound.files import atomic_path
from omni2sound.generate.output import sidecar
from omni2sound.generate.repair import repair, repair_scratch
from omni2sound.llm import CallStore
from omni2sound.staging import MARK, remove_staging, scratch, staging_of

DIES = """
import os, sys
from pathlib import Path
from omni2sound.files import atomic_path
target = Path(sys.argv[1])
with atomic_path(target) as path, atomic_path(path) as inner:
    inner.write_bytes(bytes(1000))
    os._exit(9)
"""
ASKS = """
import os, sys
from omni2sound.llm import CallStore
from omni2sound.staging import scratch, staging_of
store = CallStore.open(sys.argv[1])
os._exit(9)
"""


def _die(code: str, path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == 9


def _sidecar_of(output: Path) -> None:
    made = {"request_sha256": "0" * 64, "output_bytes": 3, "output_sha256": "0" * 64}
    sidecar(output).write_text(json.dumps(made))


def test_leftovers_of_the_dead_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    _die(DIES, tmp_path / "deep" / "a.wav")
    kept = [tmp_path / ".step-00000010.part", tmp_path / ".own.part", tmp_path / ".a.part"]
    for folder, name in zip(kept, ("state.json", "x", "other"), strict=True):
        folder.mkdir()
        (folder / name).write_text("somebody else's")
    (tmp_path / "b.json").write_text("{}")
    with atomic_path(tmp_path / "alive.wav") as path:
        path.write_bytes(b"half")
        found = list(repair([tmp_path]))
        assert path.exists()
    assert [one.path for one in found] == [staging_of(tmp_path / "deep" / "a.wav")]
    assert found[0].num_bytes == 1000
    assert list((tmp_path / "deep").iterdir()) == []
    assert all(len(list(folder.iterdir())) == 1 for folder in kept)
    assert list(repair([tmp_path])) == []


def test_empty_outputs_are_removed_and_missing_or_changed_ones_reported(tmp_path: Path) -> None:
    for name, data in (("absent", None), ("empty", b""), ("changed", b"abc")):
        output = tmp_path / f"{name}.wav"
        _sidecar_of(output)
        if data is not None:
            output.write_bytes(data)
    result = CliRunner().invoke(app, ["doctor", "--repair", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert result.stdout.count("half-done") == 1
    assert "absent.wav.json: its output is missing" in result.stdout
    assert "changed.wav: is not the file that its sidecar describes" in result.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "absent.wav.json",
        "changed.wav",
        "changed.wav.json",
    ]
    again = CliRunner().invoke(app, ["doctor", "--repair", "--json", str(tmp_path)])
    paths = [Path(one["path"]).name for one in json.loads(again.stdout)["repairs"]]
    assert sorted(paths) == ["absent.wav.json", "changed.wav"]


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = {str(tmp_path / name) for name in (".a.wav.part", "b")}
    for path in map(Path, closed):
        path.mkdir()
        (path / "x").touch()
    for name in ("c.sqlite", "z.sqlite"):
        _die(ASKS, tmp_path / name)
    monkeypatch.setattr(CallStore, "open", _refused_but(CallStore.open, tmp_path / "z.sqlite"))
    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, _denied(getattr(os, name), closed))
    result = CliRunner().invoke(app, ["doctor", "--repair", str(tmp_path)])
    assert result.exit_code == 3, result.output
    lines = result.stdout.splitlines()
    for path in (*closed, tmp_path / "c.sqlite.owners"):
        assert sum(line.startswith(f"{path}: left as it is: ") for line in lines) == 1
    assert sum("died while asking" in line for line in lines) == 1
    assert "4 found" in lines[-1]


def _denied(read: Callable[[object], object], closed: set[str]) -> Callable[[object], object]:
    def tried(path: object) -> object:
        if str(path) in closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path)

    return tried


def _refused_but(
    open_store: Callable[[Path], CallStore], good: Path
) -> Callable[[Path], CallStore]:
    def opened(path: Path) -> CallStore:
        if path != good:
            raise UserError(f"{path}: expected a call store")
        return open_store(path)

    return opened


def test_what_only_has_such_a_name_is_left_alone(tmp_path: Path) -> None:
    """Folders `X.owners` and databases of other programs, and files that are all suffix."""
    for name in (".owners", "thesis.owners", "notes.sqlite.owners"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "chapter.txt").write_text("years of work")
    with closing(sqlite3.connect(tmp_path / "notes.sqlite")) as base:
        base.execute("CREATE TABLE notes (text TEXT)")
    (tmp_path / "0.sqlite.owners").mkdir()
    (tmp_path / "0.sqlite.owners" / ("0" * 16)).touch()
    (tmp_path / ".json").write_text("{}")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert list(repair([tmp_path])) == []
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_calls_of_the_dead_are_settled(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    _die(ASKS, path)
    _die(ASKS, path)
    with CallStore.open(tmp_path / "alive.sqlite") as alive:
        (one,) = [r for r in repair([tmp_path]) if r.path == path]
        assert alive.spend().known_usd == Decimal(0)
    assert "died while asking" in one.what
    assert not list((tmp_path / "calls.sqlite.owners").iterdir())
    assert list(repair([tmp_path])) == []


def test_folders_need_repair_and_have_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a folder"):
        list(repair([tmp_path / "no"]))
    refused = CliRunner().invoke(app, ["doctor", str(tmp_path)])
    assert isinstance(refused.exception, UserError)
    assert "for --repair" in str(refused.exception)


FOLDER = """
import os, sys
from pathlib import Path
from omni2sound.files import atomic_folder
with atomic_folder(Path(sys.argv[1]), kind="model folder", marker="card") as staging:
    (staging / "half.safetensors").write_bytes(bytes(1000))
    os._exit(9)
"""


def test_a_half_written_folder_is_a_leftover(tmp_path: Path) -> None:
    _die(FOLDER, tmp_path / "model")
    (found,) = repair([tmp_path])
    assert found.path == staging_of(tmp_path / "model")
    assert found.num_bytes == 1000
    assert list(tmp_path.iterdir()) == []


def test_an_empty_output_that_is_being_made_is_left_alone(tmp_path: Path) -> None:
    output = tmp_path / "a.wav"
    _sidecar_of(output)
    output.write_bytes(b"")
    with atomic_path(output, alone=True) as path:
        path.write_bytes(b"abc")
        assert list(repair([tmp_path])) == []
    assert output.read_bytes() == b"abc"
    assert sidecar(output).exists()


SCRATCH = """
import os, sys
from omni2sound.staging import scratch
with scratch() as folder:
    assert folder.stat().st_mode & 0o77 == 0
    (folder / "cut.mp4").write_bytes(bytes(1000))
    os._exit(9)
"""


def test_temporary_files_of_the_dead_go_and_those_of_the_living_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / ".omni2sound-somebody-else.part").mkdir()
    _die(SCRATCH, tmp_path)
    with scratch() as alive:
        (found,) = repair_scratch()
        assert found.num_bytes == 1000
        assert alive.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == [".omni2sound-somebody-else.part"]


def test_only_private_folders_of_this_user_are_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may put anything under such a name; it ends nothing, and is left alone."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("0-file", "1-link", "2-open", "3-own"):
        path = tmp_path / f".omni2sound-{name}.part"
        if name == "0-file":
            path.touch()
            continue
        folder = tmp_path / "elsewhere" if name == "1-link" else path
        folder.mkdir()
        (folder / MARK).touch()
        (folder / "cut.mp4").write_bytes(bytes(10))
        if name == "1-link":
            path.symlink_to(folder)
        elif name == "2-open":
            folder.chmod(0o722)
    with monkeypatch.context() as other:
        other.setattr(os, "getuid", lambda: -1)
        assert list(repair_scratch()) == []
    (found,) = repair_scratch()
    assert found.path.name == ".omni2sound-3-own.part"
    assert len(list(tmp_path.glob("*/cut.mp4"))) == 3  # one of them by the link


def test_nothing_is_repaired_where_there_is_no_folder_for_temporary_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", full)
    assert list(repair_scratch()) == []


def test_a_folder_is_emptied_where_it_was_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody puts a link to other files in its place the moment it is found to be right."""
    folder, mine = tmp_path / ".a.part", tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    folder.mkdir()
    same = os.path.samestat

    def swapped(first: os.stat_result, second: os.stat_result) -> bool:
        if folder.is_symlink():
            return same(first, second)
        folder.rename(tmp_path / "away")
        folder.symlink_to(mine)
        return True

    monkeypatch.setattr(os.path, "samestat", swapped)
    remove_staging(folder)
    assert (mine / "thesis.txt").exists()


def test_a_folder_that_is_gone_was_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_dir", lambda path: True)  # it goes right after the look
    assert not remove_staging(tmp_path / ".a.part")


def test_the_mark_of_a_scratch_goes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off anywhere before, the rest is still known as ours."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gone, unlink = [], os.unlink

    def noted(name: str, *, dir_fd: int | None = None) -> None:
        gone.append(name)
        unlink(name, dir_fd=dir_fd)

    with scratch() as folder:
        for number in range(20):
            (folder / str(number)).touch()
        (folder / MARK).unlink()
        (folder / MARK).touch()  # the newest: some file systems list it first
        monkeypatch.setattr(os, "unlink", noted)
    assert gone.index(MARK) == 20
    assert list(tmp_path.iterdir()) == []


def test_a_scratch_is_never_open_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(Path, "chmod", lambda path, mode: None)
    with scratch() as folder:
        assert folder.stat().st_mode & 0o77 == 0
