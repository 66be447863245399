"""Devices, precision, the cache folder, and files that are whole or absent."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omni2sound import runtime
from omni2sound.errors import UserError
from omni2sound.runtime import (
    atomic_path,
    cache_dir,
    resolve_device,
    resolve_dtype,
    set_num_threads,
)

CPU = torch.device("cpu")


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
    monkeypatch.setattr(runtime.sys, "platform", platform)
    folder = cache_dir()
    assert folder.is_relative_to(Path.home())
    assert "omni2sound" in folder.parts


def test_auto_is_a_device_that_exists() -> None:
    torch.zeros(1, device=resolve_device("auto"))
    assert resolve_device("cpu") == CPU


@given(
    st.text(max_size=8).filter(lambda s: s.partition(":")[0] not in {"auto", "cuda", "mps", "cpu"})
)
def test_an_unknown_device_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UserError, match="auto, cpu, cuda, mps"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["cuda:x", "cpu:1", "auto:0", "mps:0", "cuda:-1"])
def test_a_malformed_index_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="expected one of"):
        resolve_device(name)


def test_a_device_that_is_absent_is_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "cuda:0", "mps"):
        with pytest.raises(UserError, match="--device cpu"):
            resolve_device(name)


@pytest.mark.parametrize("able", [(), ("_is_avx512_bf16_supported",), ("_is_amx_tile_supported",)])
def test_precision_on_a_cpu(able: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name in able, raising=False)
    assert resolve_dtype("auto", CPU) is (torch.bfloat16 if able else torch.float32)
    assert resolve_dtype("float32", CPU) is torch.float32
    assert resolve_dtype("bfloat16", CPU) is torch.bfloat16
    with pytest.raises(UserError, match="float16"):
        resolve_dtype("float16", CPU)
    with pytest.raises(UserError, match="float32, bfloat16, float16"):
        resolve_dtype("double", CPU)


def test_threads() -> None:
    before = torch.get_num_threads()
    try:
        assert set_num_threads(1) == 1
        assert set_num_threads(None) == 1
    finally:
        torch.set_num_threads(before)
    with pytest.raises(UserError, match="expected 1 or more"):
        set_num_threads(0)
