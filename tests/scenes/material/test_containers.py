"""Archives from outside: what is in them comes out, and damage is one kind of error."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.errors import MediaError
from omni2sound.scenes.material.containers import (
    Samples,
    iter_deb,
    read_cat,
    read_patch,
    read_rcc,
    read_soundfont,
    read_whole,
)
from tests.scenes import synthetic_packages as made

FILES = {"usr/share/a.txt": b"one", "usr/share/b.bin": bytes(range(256)) * 9}
TONE = made.tone(0.05, 22_050)


@pytest.mark.parametrize("compression", ["xz", "gz", "bz2", ""])
def test_a_package_gives_the_wanted_files_only(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "x.deb"
    path.write_bytes(made.deb(FILES, compression=compression))
    wanted = iter_deb(path, ["usr/share/b.bin", "usr/share/none"])
    assert {name: read_whole(name, content) for name, content in wanted} == {
        "usr/share/b.bin": FILES["usr/share/b.bin"]
    }


def test_links_give_what_they_name(tmp_path: Path) -> None:
    path = tmp_path / "x.deb"
    links = (
        ("usr/share/near.txt", "a.txt", tarfile.SYMTYPE),
        ("usr/share/sub/up.txt", "../a.txt", tarfile.SYMTYPE),
        ("usr/share/again.txt", "/usr/share/near.txt", tarfile.SYMTYPE),
        ("usr/share/hard.bin", "./usr/share/b.bin", tarfile.LNKTYPE),
        ("usr/share/round.txt", "round.txt", tarfile.SYMTYPE),
        ("usr/share/gone.txt", "none.txt", tarfile.SYMTYPE),
    )
    path.write_bytes(made.deb(FILES, links=links))
    wanted = [*FILES, *(name for name, _, _ in links)]
    found = {name: read_whole(name, content) for name, content in iter_deb(path, wanted)}
    texts = ("usr/share/near.txt", "usr/share/sub/up.txt", "usr/share/again.txt")
    assert found == {
        **FILES,
        **dict.fromkeys(texts, b"one"),
        "usr/share/hard.bin": FILES["usr/share/b.bin"],
    }


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.deb"
    for content in (
        b"",
        b"PK\x03\x04",
        b"!<arch>\n",
        made.deb(FILES)[:-40],
        made.deb(FILES, compression="gz")[:-40],
        made.deb(FILES, compression="bz2")[:-40],
    ):
        path.write_bytes(content)
        with pytest.raises(MediaError):
            list(iter_deb(path, FILES))


def test_an_unknown_compression_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.deb"
    path.write_bytes(made.deb(FILES, compression="lz9"))
    with pytest.raises(MediaError, match=r"data\.tar\.lz9"):
        list(iter_deb(path, FILES))


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("compress", [False, True])
def test_a_qt_resource_gives_all_files(version: int, compress: bool) -> None:
    files = {"a.ogg": b"sound" * 50, "ü.webp": b"\x01\x02"}
    data = made.rcc(files, version=version, compress=compress)
    assert read_rcc(data) == {f"sub/{name}": content for name, content in files.items()}


def test_a_resource_whose_folder_holds_itself_is_refused() -> None:
    data = bytearray(made.rcc({"a": b"x"}, version=1))
    tree = int.from_bytes(data[8:12], "big")
    data[tree + 10 : tree + 14] = (0).to_bytes(4, "big")  # the root's first child is the root
    with pytest.raises(MediaError, match="two folders"):
        read_rcc(bytes(data))


def test_a_soundfont_gives_its_samples_in_order() -> None:
    found = read_soundfont(made.soundfont({"low": TONE, "high": TONE[::-1]}, 22_050))
    assert [s.name for s in found] == ["low", "high"]
    assert all(s.sample_rate_hz == 22_050 for s in found)
    np.testing.assert_allclose(found[0].samples_N, TONE, atol=1e-4)
    np.testing.assert_allclose(found[1].samples_N, TONE[::-1], atol=1e-4)


@pytest.mark.parametrize(("modes", "tolerance"), [(0, 2e-2), (1, 1e-4), (3, 1e-4)])
def test_a_patch_gives_its_samples(modes: int, tolerance: float) -> None:
    found = read_patch(made.patch({"a": TONE, "b": -TONE}, 22_050, modes=modes))
    assert [s.name for s in found] == ["a", "b"]
    np.testing.assert_allclose(found[0].samples_N, TONE, atol=tolerance)
    np.testing.assert_allclose(found[1].samples_N, -TONE, atol=tolerance)


def test_a_sound_set_gives_its_waves() -> None:
    waves = [made.wav(TONE, 22_050), b"RIFFshort"]
    assert read_cat(made.cat(waves)) == waves


READERS = {
    "rcc": (read_rcc, made.rcc({"a": b"x" * 40, "b": b""}, compress=True)),
    "sf2": (read_soundfont, made.soundfont({"low": TONE[:40]}, 22_050)),
    "pat": (read_patch, made.patch({"a": TONE[:40]}, 22_050)),
    "cat": (read_cat, made.cat([b"RIFF", b"RIFF2"])),
}


@pytest.mark.parametrize("kind", READERS)
@given(at=st.floats(0, 0.999), value=st.integers(0, 255), keep=st.floats(0.0, 1.0))
def test_damage_gives_a_result_or_a_media_error(
    kind: str, at: float, value: int, keep: float
) -> None:
    reader, whole = READERS[kind]
    data = bytearray(whole)
    data[int(at * len(data))] = value
    try:
        found = reader(bytes(data[: round(keep * len(data))]))
    except MediaError:
        return
    assert all(isinstance(f, (str, bytes, Samples)) for f in found)
