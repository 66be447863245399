"""The cache folder, and files that are whole or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from omni2sound import files
from omni2sound.errors import UserError
from omni2sound.files import atomic_folder, atomic_path, cache_dir, write_text


def test_a_file_appears_whole_and_alone(tmp_path: Path) -> None:
    target = tmp_path / "sound.wav"
    with atomic_path(target) as path:
        assert path.parent == tmp_path
        assert path.suffix == ".wav"
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
