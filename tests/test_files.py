"""The cache folder, and files that are whole or absent."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from omni2sound import files
from omni2sound import staging as locks
from omni2sound.errors import UserError
from omni2sound.files import (
    atomic_folder,
    atomic_path,
    cache_dir,
    write_text,
    writing,
)
from omni2sound.generate.repair import repair
from omni2sound.staging import alone_in, remove_leftovers, staging_of


def test_a_file_appears_whole_and_alone(tmp_path: Path) -> None:
    target = tmp_path / "sound.wav"
    with atomic_path(target) as path:
        assert path.parent.parent == tmp_path, "a rename would cross file systems"
        assert path.name == target.name
        path.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [target]


def _write_half(path: Path, error: type[BaseException]) -> None:
    path.write_bytes(b"half")
    raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_no_other(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "sound.wav"
    target.write_bytes(b"old")
    with pytest.raises(error), atomic_path(target) as path:
        _write_half(path, error)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.wav"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"), atomic_path(tmp_path / "no" / "a.wav"):
        pass


def test_a_long_name_still_fits_the_file_system(tmp_path: Path) -> None:
    target = tmp_path / f"{'n' * 240}.wav"
    with atomic_path(target) as path:
        path.write_bytes(b"")
    assert target.exists()


WRITER = """
import os, sys
from pathlib import Path
from omni2sound.errors import UserError
from omni2sound.files import atomic_path
target, how = Path(sys.argv[1]), sys.argv[2]
try:
    with atomic_path(target, replace=False) as path:
        path.write_bytes(b"from another process")
        if how == "die":
            os._exit(9)
        print("writing", flush=True)
        sys.stdin.readline()
except UserError as error:
    print(error)
"""


def _writer(target: Path, how: str) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", WRITER, str(target), how], text=True, **pipes)


@pytest.mark.parametrize("name", ["a.wav", f"{'n' * 250}.wav", "\N{SNOWMAN}.wav", "-.wav"])
def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    with _writer(target, "die") as process:
        process.communicate()
    assert process.returncode == 9
    assert list(tmp_path.iterdir()) == [staging_of(target)]
    with atomic_path(target, replace=False) as path:
        assert list(path.parent.iterdir()) == []
        path.write_bytes(b"whole")
    assert list(tmp_path.iterdir()) == [target]
    with _writer(tmp_path / "b.wav", "die") as process:
        process.communicate()
    assert remove_leftovers(tmp_path / "b.wav")
    assert not remove_leftovers(tmp_path / "b.wav")
    assert list(tmp_path.iterdir()) == [target]


def test_of_two_at_once_one_writes_and_the_other_is_told(tmp_path: Path) -> None:
    target = tmp_path / "a.wav"
    with _writer(target, "wait") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "writing\n"
        assert not remove_leftovers(target), "it is alive"
        with _writer(target, "wait") as second:
            assert "a.wav: another process is writing it" in second.communicate()[0]
        with pytest.raises(UserError, match="another process"), atomic_path(target, alone=True):
            pytest.fail("the block ran")
        with atomic_path(target) as path:  # who may replace, does
            path.write_bytes(b"ours")
        assert "a.wav: exists already" in first.communicate("go on\n")[0]
    assert target.read_bytes() == b"ours"
    assert list(tmp_path.iterdir()) == [target]


def _write_both(path: Path, target: Path) -> None:
    path.write_bytes(b"ours")
    target.write_bytes(b"of somebody else")


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "no hard links here")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    target = tmp_path / "a.wav"
    with (
        pytest.raises(UserError, match=r"a\.wav: exists already"),
        atomic_path(target, replace=False) as path,
    ):
        _write_both(path, target)
    assert target.read_bytes() == b"of somebody else"
    assert list(tmp_path.iterdir()) == [target]
    target.unlink()
    with atomic_path(target, replace=False) as path:
        path.write_bytes(b"ours")
    assert target.read_bytes() == b"ours"


def test_a_staging_folder_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("kept")
    staging_of(tmp_path / "a.wav").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match=r"a\.wav"), atomic_path(tmp_path / "a.wav"):
        pytest.fail("the block ran")
    assert (tmp_path / "precious" / "file").read_text() == "kept"


def test_the_cache_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OMNI2SOUND_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_the_cache_folder_has_a_place_on_each_platform(
    monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    for name in ("OMNI2SOUND_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(files.sys, "platform", platform)
    folder = cache_dir()
    assert folder.is_relative_to(Path.home())
    assert "omni2sound" in folder.parts


def test_a_text_replaces_the_one_before(tmp_path: Path) -> None:
    for text in ("first", "second, ä\n"):
        write_text(tmp_path / "a.txt", text)
        assert (tmp_path / "a.txt").read_text(encoding="utf-8") == text
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_appears_whole_and_replaces_its_own_kind_only(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for text in ("old", "new"):
        with atomic_folder(target, marker="card", kind="model folder") as staging:
            (staging / "card").write_text(text)
            assert not target.exists() or (target / "card").read_text() == "old"
        assert (target / "card").read_text() == text
    with (
        pytest.raises(KeyboardInterrupt),
        atomic_folder(target, marker="card", kind="model folder") as staging,
    ):
        _write_half(staging / "card", KeyboardInterrupt)
    assert (target / "card").read_text() == "new"
    with (
        pytest.raises(UserError, match="exists and is no adapter folder"),
        atomic_folder(target, marker="adapter", kind="adapter folder"),
    ):
        pytest.fail("the block ran")
    assert list(tmp_path.iterdir()) == [target]


def test_a_killed_process_leaves_no_part_of_a_folder_under_its_name(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from omni2sound.files import atomic_folder\n"
        "with atomic_folder(Path(sys.argv[1]), kind='data set') as staging:\n"
        "    (staging / 'first').write_text('whole')\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    (staging / 'second').write_text('whole')\n"
    )
    target = tmp_path / "set"
    done = subprocess.run([sys.executable, "-c", code, target], check=False)
    assert done.returncode != 0
    assert not target.exists()
    with atomic_folder(target, kind="data set") as staging:
        (staging / "first").write_text("whole")
    assert [p.name for p in target.iterdir()] == ["first"]


def test_an_empty_folder_gives_way_and_a_full_one_does_not(tmp_path: Path) -> None:
    target = tmp_path / "set"
    target.mkdir()
    with atomic_folder(target, kind="data set") as staging:
        (staging / "first").write_text("whole")
    with (
        pytest.raises(UserError, match="not empty"),
        atomic_folder(target, kind="data set"),
    ):
        pytest.fail("the block ran")
    assert [p.name for p in target.iterdir()] == ["first"]


def _write_beside(target: Path) -> None:
    with atomic_folder(target, kind="data set"):
        target.mkdir()
        (target / "theirs").write_text("whole")


def test_a_folder_that_was_filled_meanwhile_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "set"
    with pytest.raises(UserError, match="not empty"):
        _write_beside(target)
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    assert [p.name for p in target.iterdir()] == ["theirs"]


def test_an_error_of_writing_names_the_file(tmp_path: Path) -> None:
    target = tmp_path / "sound.wav"
    for error in (OSError(errno.ENOSPC, "No space left on device"), OSError("library: full")):
        with pytest.raises(OSError, match=r"full|No space") as caught, atomic_path(target):
            raise error
        assert caught.value.filename == str(target)
        assert caught.value.strerror


KILLED = """
import os, sys
from pathlib import Path
from omni2sound.files import atomic_folder
before, target = Path.rename, Path(sys.argv[1])
left = int(sys.argv[2])
def rename(self, to):
    global left
    left -= 1
    if left < 0:
        os._exit(9)
    return before(self, to)
Path.rename = rename
with atomic_folder(target, kind="model folder", marker="card") as staging:
    (staging / "card").write_text("new")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a folder in use can't be renamed")
@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_kill_while_a_folder_is_replaced_loses_neither(tmp_path: Path, renames: int) -> None:
    target = tmp_path / "model"
    for repaired in (True, False):
        target.mkdir(exist_ok=True)
        (target / "card").write_text("old")
        command = [sys.executable, "-c", KILLED, str(target), str(renames)]
        done = subprocess.run(command, check=False)
        assert done.returncode == (9 if renames < 2 else 0)
        if repaired:
            list(repair([tmp_path]))
        else:
            with atomic_folder(target, kind="model folder", marker="card") as staging:
                assert (target / "card").read_text() == ("old" if renames < 2 else "new")
                (staging / "card").write_text("newer")
        expected = "newer" if not repaired else "old" if renames < 2 else "new"
        assert (target / "card").read_text() == expected
        assert list(tmp_path.iterdir()) == [target]
        assert list(target.iterdir()) == [target / "card"]


@pytest.mark.skipif(sys.platform == "win32", reason="a folder in use can't be renamed")
def test_a_kill_right_before_a_new_folder_gets_its_name_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for repaired in (True, False):
        done = subprocess.run([sys.executable, "-c", KILLED, str(target), "0"], check=False)
        assert done.returncode == 9
        assert len(list(tmp_path.iterdir())) == 2  # the new one, and what says that it is ours
        if repaired:
            assert len(list(repair([tmp_path]))) == 1
            assert list(tmp_path.iterdir()) == []
    with atomic_folder(target, kind="model folder", marker="card") as staging:
        (staging / "card").write_text("new")
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("repaired", [True, False])
def test_what_a_kill_left_beside_a_whole_folder_goes(tmp_path: Path, repaired: bool) -> None:
    target = tmp_path / "set"
    target.mkdir()
    (target / "first").write_text("whole")
    (tmp_path / ".set.part.aside").mkdir()
    if repaired:
        assert len(list(repair([tmp_path]))) == 1
    else:
        with pytest.raises(UserError, match="not empty"), atomic_folder(target, kind="set"):
            pass
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_cannot_get_its_name_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, before = tmp_path / "model", Path.rename
    target.mkdir()
    (target / "card").write_text("old")

    def full(self: Path, to: Path) -> Path:
        if self == staging_of(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        return before(self, to)

    monkeypatch.setattr(Path, "rename", full)
    with (
        pytest.raises(OSError, match="No space"),
        atomic_folder(target, kind="model folder", marker="card") as staging,
    ):
        (staging / "card").write_text("new")
    assert (target / "card").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_of_two_who_write_a_folder_the_second_is_told(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with atomic_folder(target, kind="model folder", marker="card") as staging:
        (staging / "card").write_text("first")
        with (
            pytest.raises(UserError, match="another process is writing it"),
            atomic_folder(target, kind="model folder", marker="card"),
        ):
            pytest.fail("the block ran")
    assert (target / "card").read_text() == "first"


@pytest.mark.skipif(sys.platform == "win32", reason="no locks on folders")
def test_without_locks_nobody_takes_over_what_may_be_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on some network file systems, where flock is refused."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(locks.fcntl, "flock", no_locks)
    target = tmp_path / "a.wav"
    with atomic_path(target, replace=False) as path:
        path.write_bytes(b"minutes of work")
        assert not remove_leftovers(target)
        with pytest.raises(UserError, match="its disk has no locks"):
            _write_nothing(target)
        with atomic_path(tmp_path / "b.wav") as other, atomic_path(tmp_path / "b.wav") as second:
            other.write_bytes(b"one")
            second.write_bytes(b"two")
        assert path.read_bytes() == b"minutes of work"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.wav", "b.wav"]
    with alone_in(tmp_path):
        pass


def _write_nothing(target: Path) -> None:
    with atomic_path(target, replace=False):
        pytest.fail("the block ran")


@pytest.mark.skipif(sys.platform == "win32", reason="no locks on folders")
def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    with alone_in(tmp_path), pytest.raises(UserError, match="another process"), alone_in(tmp_path):
        pytest.fail("the block ran")
    with alone_in(tmp_path):
        pass


def test_an_error_of_a_library_that_takes_no_name_gets_one(tmp_path: Path) -> None:
    class OfLibrary(OSError):
        @property
        def filename(self) -> str | None:  # type: ignore[override]
            return None

    with (
        pytest.raises(OSError, match=r"No space left on device: '.*out\.wav'"),
        writing(tmp_path / "out.wav"),
    ):
        raise OfLibrary(errno.ENOSPC, "No space left on device")
