"""From packages to a prepared folder: whole or not at all, and only what was pinned."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omni2sound.errors import (
    ConfigError,
    IntegrityError,
    MediaError,
    MissingPartError,
    UserError,
)
from omni2sound.scenes.material import packages as packages_module
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.scenes.material.catalogue import Catalogue, Picture, Recording, SoundClass
from omni2sound.scenes.material.fetch import fetch
from omni2sound.scenes.material.packages import Package, load_packages, obtain
from omni2sound.scenes.material.prepare import (
    MAX_SIDE_PX,
    TARGET_RMS,
    cut_waveform,
    picture_rgba,
)
from tests.scenes import synthetic_packages as made

RATE_HZ = 44_100
SILENCE_S = 0.25
TONE = made.tone(0.5, RATE_HZ)
LATE = np.concatenate([np.zeros(round(SILENCE_S * RATE_HZ), np.float32), TONE])
DISC = np.zeros((300, 600, 4), np.uint8)
DISC[50:250, 100:500] = (200, 30, 30, 255)

COMMON: dict[str, Any] = {"licence": "CC0-1.0", "attribution": "this test", "split": "train"}
SOURCES = {
    "wave": ("small", "usr/share/late.wav"),
    "stereo": ("small", "usr/share/stereo.wav"),
    "resource": ("small", "usr/share/a.rcc!sub/late.wav"),
    "font": ("large", "usr/share/f.sf2!0001"),
    "patch": ("large", "usr/share/p.pat!0000"),
    "set": ("large", "usr/share/s.cat!0000"),
    "zip": ("large", "usr/share/z.pk3!sub/late.wav"),
}


def catalogue(**changes: Any) -> Catalogue:
    sound_class = SoundClass(
        class_id="bell",
        names=("a bell",),
        held_out_names=("a chime",),
        verbs=("rings",),
        held_out_verbs=("peals",),
        kind="impulsive",
        motions=("strike",),
        yamnet_classes=("Bell",),
        pictures=True,
    )
    recordings = tuple(
        Recording(
            recording_id=name,
            class_id="bell",
            family=name,
            package=package,
            path=path,
            start_s=0.0 if name in ("font", "patch") else SILENCE_S,
            end_s=SILENCE_S + 0.4,
            **COMMON,
        )
        for name, (package, path) in SOURCES.items()
    )
    picture = Picture(
        picture_id="disc",
        class_id="bell",
        family="picture/disc",
        package="small",
        path="usr/share/disc.png",
        label="a disc",
        **COMMON,
    )
    whole = Catalogue(classes=(sound_class,), recordings=recordings, pictures=(picture,))
    return replace(whole, **changes)


@pytest.fixture
def debs(tmp_path: Path) -> tuple[Path, tuple[Package, ...]]:
    """Two packages in a folder, and their pins."""
    folder = tmp_path / "debs"
    folder.mkdir()
    wave = made.wav(LATE, RATE_HZ)
    small = made.deb(
        {
            "usr/share/late.wav": wave,
            "usr/share/stereo.wav": made.wav(np.stack([LATE, LATE], axis=1), RATE_HZ),
            "usr/share/a.rcc": made.rcc({"late.wav": wave}, compress=True),
            "usr/share/disc.png": made.png(DISC),
            "usr/share/other": b"never looked at",
        }
    )
    large = made.deb(
        {
            "usr/share/f.sf2": made.soundfont({"x": -TONE, "y": TONE}, RATE_HZ),
            "usr/share/p.pat": made.patch({"y": TONE}, RATE_HZ),
            "usr/share/s.cat": made.cat([wave, wave]),
            "usr/share/z.pk3": made.zipped({"other": b"x", "sub/late.wav": wave}),
            "usr/share/padding": np.random.default_rng(0).bytes(200_000),
        }
    )
    return folder, (made.pinned("small", small, folder), made.pinned("large", large, folder))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_kind_of_source_gives_the_same_sound_at_its_onset(
    tmp_path: Path, debs: tuple[Path, tuple[Package, ...]]
) -> None:
    steps: list[tuple[int, int]] = []
    dest = fetch(
        tmp_path / "store",
        from_folder=debs[0],
        packages=debs[1],
        catalogue=catalogue(),
        on_package=lambda done, total: steps.append((done, total)),
    )
    assert steps == [(1, 2), (2, 2)]
    assets = SceneAssets.open(dest)
    expected = assets.waveform("wave")
    assert 0.39 < len(expected) / SAMPLE_RATE_HZ <= 0.4
    assert np.abs(expected[: round(0.005 * SAMPLE_RATE_HZ)]).max() > 0.1
    for name in SOURCES:
        waveform = assets.waveform(name)
        n = min(len(waveform), len(expected))
        correlation = np.corrcoef(waveform[:n], expected[:n])[0, 1]
        assert correlation > 0.98, name
        full, rate_hz = assets.full_band(name)
        assert rate_hz == RATE_HZ
        assert len(full) / rate_hz == pytest.approx(len(waveform) / SAMPLE_RATE_HZ, abs=1e-3)
        loudest = np.lib.stride_tricks.sliding_window_view(full**2, rate_hz // 20).mean(axis=1)
        assert np.sqrt(loudest.max()) == pytest.approx(TARGET_RMS, rel=0.01)
    assert assets.rgba("disc").shape == (128, 256, 4)
    assert {"licences.md", "licences.json", "catalogue.json"} <= {p.name for p in dest.iterdir()}
    assert not list(dest.rglob("*.deb"))


def test_a_second_run_does_nothing_and_a_lost_file_comes_back(
    tmp_path: Path, debs: tuple[Path, tuple[Package, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = functools.partial(
        fetch, tmp_path / "store", from_folder=debs[0], packages=debs[1], catalogue=catalogue()
    )
    before = contents(run())
    steps: list[tuple[int, int]] = []
    run(on_package=lambda done, total: steps.append((done, total)))
    assert steps == []
    (tmp_path / "store" / "recordings" / "font.flac").unlink()
    run(on_package=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 1)]
    assert contents(tmp_path / "store") == before


def test_a_broken_run_goes_on_and_is_no_store_until_it_ends(
    tmp_path: Path, debs: tuple[Path, tuple[Package, ...]]
) -> None:
    folder, pins = debs
    dest = tmp_path / "store"
    large = next(folder.glob("large_*.deb"))
    content = large.read_bytes()
    large.unlink()
    with pytest.raises(MissingPartError, match="large"):
        fetch(dest, from_folder=folder, packages=pins, catalogue=catalogue())
    assert (dest / "recordings" / "wave.flac").is_file()
    with pytest.raises(MissingPartError, match="scenes fetch"):
        SceneAssets.open(dest)
    large.write_bytes(content)
    steps: list[tuple[int, int]] = []
    fetch(
        dest,
        from_folder=folder,
        packages=pins,
        catalogue=catalogue(),
        on_package=lambda done, total: steps.append((done, total)),
    )
    assert steps == [(1, 1)]
    SceneAssets.open(dest)


def test_another_catalogue_never_mixes_with_the_old_one(
    tmp_path: Path, debs: tuple[Path, tuple[Package, ...]]
) -> None:
    run = functools.partial(fetch, tmp_path / "store", from_folder=debs[0], packages=debs[1])
    run(catalogue=catalogue())
    old = catalogue()
    kept, changed = old.recordings[0], old.recordings[1]
    shorter = replace(changed, end_s=changed.start_s + 0.1)
    new = replace(old, recordings=(kept, shorter), version="2")
    stamp = (tmp_path / "store" / "recordings" / "wave.flac").stat().st_mtime_ns
    run(catalogue=new)
    assets = SceneAssets.open(tmp_path / "store")
    assert assets.catalogue == new
    assert len(assets.waveform("stereo")) == round(0.1 * SAMPLE_RATE_HZ)
    assert sorted(p.name for p in (tmp_path / "store" / "recordings").iterdir()) == [
        "stereo.flac",
        "wave.flac",
    ]
    assert (tmp_path / "store" / "recordings" / "wave.flac").stat().st_mtime_ns == stamp


def test_a_benchmark_folder_opens_without_the_kinds_for_training(
    tmp_path: Path, debs: tuple[Path, tuple[Package, ...]]
) -> None:
    dest = fetch(tmp_path, from_folder=debs[0], packages=debs[1], catalogue=catalogue())
    assert SceneAssets.open(dest).catalogue == catalogue()
    with pytest.raises(MissingPartError, match="of all kinds"):
        SceneAssets.open(dest, kinds="all")


def test_a_package_that_is_not_the_pinned_one_is_refused(
    tmp_path: Path, debs: tuple[Path, tuple[Package, ...]]
) -> None:
    folder, pins = debs
    path = next(folder.glob("small_*.deb"))
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(IntegrityError, match="small"):
        fetch(tmp_path / "store", from_folder=folder, packages=pins, catalogue=catalogue())
    assert path.is_file(), "the caller's own file is left alone"


def test_a_file_that_the_package_lacks_is_named(
    tmp_path: Path, debs: tuple[Path, tuple[Package, ...]]
) -> None:
    whole = catalogue()
    for path, message in (
        ("usr/share/none.wav", r"none\.wav"),
        ("usr/share/a.rcc!none", "no member 'none'"),
        ("usr/share/other", "cannot decode"),
    ):
        bad = replace(whole, recordings=(replace(whole.recordings[0], path=path),))
        with pytest.raises(MediaError, match=message):
            fetch(tmp_path / "store", from_folder=debs[0], packages=debs[1], catalogue=bad)


def test_an_unpinned_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not pinned"):
        fetch(tmp_path / "store", packages=(), catalogue=catalogue())


def test_an_empty_folder_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match="1:2"):
        obtain(
            Package(name="x", version="1:2", pool_path="x.deb", size_bytes=1, sha256="0" * 64),
            tmp_path,
            from_folder=tmp_path,
        )


def test_what_is_no_list_of_packages_is_refused() -> None:
    for text in ("{", json.dumps([{"name": "x"}])):
        with pytest.raises(ConfigError, match="pinned packages"):
            load_packages(text)


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on this machine, and the folder that it serves."""
    root = tmp_path / "mirror"
    root.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(root))
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/debian", root / "debian"
    server.shutdown()
    server.server_close()
    thread.join()


def put(root: Path, package: Package, content: bytes) -> None:
    target = root / package.pool_path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the environment between a test and its own server."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.mark.usefixtures("direct")
def test_a_mirror_serves_packages_and_none_is_left_behind(
    tmp_path: Path, debs: tuple[Path, tuple[Package, ...]], mirror: tuple[str, Path]
) -> None:
    url, root = mirror
    for package in debs[1]:
        put(root, package, next(debs[0].glob(f"{package.name}_*.deb")).read_bytes())
    dest = fetch(tmp_path / "store", mirror=url, packages=debs[1], catalogue=catalogue())
    SceneAssets.open(dest)
    assert not list(dest.rglob("*.deb"))


@pytest.mark.usefixtures("direct")
@pytest.mark.parametrize("wrong", ["other content", "too long" * 1000])
def test_a_download_with_another_checksum_is_deleted(
    tmp_path: Path, debs: tuple[Path, tuple[Package, ...]], mirror: tuple[str, Path], wrong: str
) -> None:
    package = debs[1][0]
    put(mirror[1], package, wrong.encode())
    with pytest.raises(IntegrityError, match="fetch again"):
        obtain(package, tmp_path / "packages", mirror=mirror[0])
    assert not list((tmp_path / "packages").iterdir())


@pytest.mark.usefixtures("direct")
def test_without_mirror_and_apt_the_way_out_is_named(
    tmp_path: Path,
    debs: tuple[Path, tuple[Package, ...]],
    mirror: tuple[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packages_module.shutil, "which", lambda name: None)
    with pytest.raises(MissingPartError, match="from_folder"):
        obtain(debs[1][0], tmp_path / "packages", mirror=mirror[0])


@pytest.mark.usefixtures("direct")
@pytest.mark.parametrize("works", [True, False])
def test_apt_is_the_second_way(
    tmp_path: Path,
    debs: tuple[Path, tuple[Package, ...]],
    mirror: tuple[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    works: bool,
) -> None:
    package = debs[1][0]
    content = next(debs[0].glob(f"{package.name}_*.deb")).read_bytes()
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (tmp_path / "served").write_bytes(content)
    script = bin_folder / "apt-get"
    script.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "download small=1:1.0" ] || exit 9\n'
        f"cp {tmp_path}/served small_1%3a1.0_all.deb\n"
        if works
        else "#!/bin/sh\necho no such package >&2\nexit 100\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}:/usr/bin:/bin")
    if works:
        path = obtain(package, tmp_path / "packages", mirror=mirror[0])
        assert path.read_bytes() == content
        assert obtain(package, tmp_path / "packages", mirror=mirror[0]) == path
    else:
        with pytest.raises(MissingPartError, match="no such package"):
            obtain(package, tmp_path / "packages", mirror=mirror[0])


def test_a_mirror_must_be_a_web_address(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="http"):
        obtain(load_packages()[0], tmp_path, mirror="file:///etc")


def test_levels_match_where_it_is_loudest_and_nothing_clips() -> None:
    loud, soft = (
        cut_waveform(made.wav(gain * TONE, RATE_HZ), start_s=0, end_s=9) for gain in (1.0, 0.02)
    )
    np.testing.assert_allclose(loud, soft, atol=2e-3)
    click = np.zeros(8000, np.float32)
    click[100] = 1
    assert np.abs(cut_waveform(made.wav(click, 16_000), start_s=0, end_s=1)).max() <= 0.96


def test_silence_is_refused() -> None:
    with pytest.raises(MediaError, match="silent"):
        cut_waveform(made.wav(LATE, RATE_HZ), start_s=0.0, end_s=SILENCE_S / 2)


def test_a_picture_is_cropped_and_never_enlarged() -> None:
    small = picture_rgba(made.png(DISC[::4, ::4]))
    assert small.shape == (50, 100, 4)
    large = picture_rgba(made.png(DISC))
    assert max(large.shape[:2]) == MAX_SIDE_PX
    assert (large[..., 3] == 255).all(), "cropped to what is seen"
    assert np.abs(large[5:-5, 5:-5, :3].astype(int) - [200, 30, 30]).max() <= 2


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "cannot decode"), (b"GIF89a", "cannot decode"), (made.png(0 * DISC), "transparent")],
)
def test_a_bad_picture_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        picture_rgba(content)
