"""Bad input: one line that names the file, quickly, whatever the bytes are."""

from __future__ import annotations

import os
import random
import re
import struct
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.errors import MediaError, UserError
from omni2sound.media import (
    check_output,
    files,
    iter_frames,
    mux,
    probe,
    read_audio,
    write_audio,
)
from tests.media.clips import clicks, write_video


def everything(path: Path) -> None:
    """All that can be done to an input file, as far as it gets."""
    info = probe(path)
    if info.video is not None:
        for _ in iter_frames(path, fps=8, size_px=(16, 16), duration_s=Fraction(1)):
            pass
    if info.audio is not None:
        read_audio(path, mono=True, sample_rate_hz=16_000)
    mux(path, clicks([0.1], duration_s=1), path.with_name("out.mp4"), overwrite=True)


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("whole")
    sound = clicks([0.2], duration_s=1)
    ticks = range(0, 600, 40)
    write_video(folder / "a.mp4", ticks=ticks, sound=sound, options={"bf": "2"})
    write_video(folder / "b.mkv", ticks=ticks, sound=sound, options={"bf": "2"})
    write_video(folder / "c.avi", ticks=range(15), time_base=Fraction(1, 15), codec="mpeg4")
    write_video(folder / "d.webm", ticks=ticks, codec="libvpx-vp9")
    for suffix in (".wav", ".mp3", ".flac", ".opus"):
        write_audio(folder / f"e{suffix}", sound)
    return [path.read_bytes() for path in sorted(folder.iterdir())]


@settings(max_examples=150)
@given(seed=st.integers(0, 2**32))
def test_damage_ends_in_a_result_or_in_one_line(
    whole_files: list[bytes], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = random.Random(seed)
    data = bytearray(rng.choice(whole_files))
    if rng.random() < 0.4:
        del data[rng.randrange(1, len(data)) :]
    for _ in range(rng.choice((0, 1, 5, 50, 500))):
        data[rng.randrange(len(data))] = rng.randrange(256)
    folder = tmp_path_factory.mktemp("damaged", numbered=True)
    path = folder / "clip.mp4"
    path.write_bytes(data)
    message = "clip.mp4: a result"
    try:
        everything(path)
    except UserError as error:
        message = str(error)
    assert re.fullmatch(r"(clip|out)\.mp4: [^\n]+", message)
    assert {p.name for p in folder.iterdir()} <= {"clip.mp4", "out.mp4"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.mp4", b""),
        ("text.mp4", b"no sound in here\n" * 500),
        ("text.wav", b"hello"),
        ("noise.mkv", random.Random(0).randbytes(5000)),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:9,\nclip.ts\n#EXT-X-ENDLIST\n"),
        ("list.txt", b"ffconcat version 1.0\nfile clip.mp4\n"),
    ],
)
def test_not_media(
    tmp_path: Path, name: str, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    write_video(tmp_path / "clip.mp4", ticks=[0, 300])
    write_video(tmp_path / "clip.ts", ticks=[0, 300])
    for function in (probe, read_audio, lambda p: iter_frames(p, fps=8)):
        with pytest.raises(MediaError, match=rf"^{name}: [^\n]*$"):
            function(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "content", ["\ufeff#EXTM3U\n#EXTINF:6,\na.ts\n", '<?xml version="1.0"?>\n<MPD></MPD>\n']
)
def test_a_playlist_is_called_one(tmp_path: Path, content: str) -> None:
    path = tmp_path / "live.m3u8"
    path.write_text(content)
    with pytest.raises(MediaError, match=r"live\.m3u8: .* it is a playlist"):
        probe(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone\.mp4: no such file; check the path"):
        probe(tmp_path / "gone.mp4")
    with pytest.raises(MediaError, match="folder"):
        probe(tmp_path)
    with pytest.raises(MediaError):
        probe("a\0b.mp4")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.mp4")
        with pytest.raises(MediaError, match="pipe"):
            probe(tmp_path / "pipe.mp4")


@pytest.mark.parametrize("ending", ["mp4", "mkv", "webm", "flv"])
def test_a_video_that_breaks_off_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ending: str
) -> None:
    whole = write_video(
        tmp_path / f"whole.{ending}",
        ticks=range(0, 6000, 24),  # 10 s
        codec="libvpx" if ending == "webm" else "libx264",
        container_options={"movflags": "faststart"} if ending == "mp4" else {},
    )
    assert probe(whole).duration_s == pytest.approx(10, abs=0.05)
    assert not caplog.text
    cut = tmp_path / f"cut.{ending}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    assert 0 < probe(cut).duration_s < 9
    assert f"cut.{ending}: ends after" in caplog.text
    assert "s in its header; the file is incomplete" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder where nobody can write")
def test_a_folder_that_takes_no_files_is_not_the_codecs_fault(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", ticks=[0, 300])
    for name in ("/proc/out.mp4", "/proc/out.mkv"):
        with pytest.raises(UserError, match=r"out\.m..: .*cannot be written"):
            mux(path, clicks([0.1], duration_s=1), name)


@pytest.mark.parametrize("name", ["a:b.mp4", "-i.mp4", "http:x.mp4", "two\nlines.mp4", "雨.mp4"])
def test_odd_names_are_names(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / "clip.mp4", ticks=[0, 300]).rename(tmp_path / name)
    out = tmp_path / f"out {name}"
    mux(path, clicks([0.1], duration_s=1), out)
    assert probe(out).audio is not None
    path.write_bytes(b"")
    with pytest.raises(MediaError) as caught:
        probe(path)
    assert "\n" not in str(caught.value)


def _patch(data: bytearray, kind: bytes, offset: int, value: bytes) -> None:
    at = data.find(kind)
    while at >= 0:
        start = at + len(kind) + offset
        data[start : start + len(value)] = value
        at = data.find(kind, at + 1)


def test_a_header_of_four_hours_over_three_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", ticks=range(3), time_base=Fraction(1, 10))
    data = bytearray(path.read_bytes())
    for kind, offset in ((b"mvhd", 16), (b"tkhd", 20), (b"mdhd", 16)):
        _patch(data, kind, offset, struct.pack(">I", 0xFFFFFFF0))
    path.write_bytes(data)
    assert probe(path).duration_s == Fraction(3, 10)
    assert len(list(iter_frames(path, fps=10))) == 3


def test_frames_of_eighty_minutes_each_are_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", ticks=range(3), time_base=Fraction(1, 10))
    data = bytearray(path.read_bytes())
    _patch(data, b"stts", 12, struct.pack(">I", 4800 * 10_240))
    path.write_bytes(data)
    assert probe(path).duration_s == Fraction(3, 10)  # players end with the edit list
    _patch(data, b"edts", -4, b"free")
    path.write_bytes(data)
    with pytest.raises(MediaError, match="jump"):
        probe(path)


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("files.MAX_FILE_BYTES", 100, "bytes, the limit"),
        ("info.MAX_PIXELS", 100, "pixels, the limit"),
        ("info.MAX_DURATION_S", 0.5, "lasts"),
        ("info.MAX_PACKETS", 3, "packets"),
        ("files.MAX_STREAMS", 0, "clip.mp4"),
    ],
)
def test_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: float, message: str
) -> None:
    path = write_video(tmp_path / "clip.mp4", ticks=range(0, 900, 60))
    monkeypatch.setattr(f"omni2sound.media.{limit}", value)
    with pytest.raises(MediaError, match=message):
        probe(path)


def test_a_changed_file_is_probed_again(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", ticks=range(2), time_base=Fraction(1, 10))
    assert probe(path).duration_s == Fraction(1, 5)
    write_video(path, ticks=range(3), time_base=Fraction(1, 10))
    assert probe(path).duration_s == Fraction(3, 10)


@pytest.mark.parametrize("overwrite", [False, True])
def test_check_output(tmp_path: Path, overwrite: bool) -> None:
    check_output(tmp_path / "new.MP4", overwrite=overwrite)
    (tmp_path / "old.wav").touch()
    (tmp_path / "folder.mp4").mkdir()
    refused: list[Callable[[], None]] = [
        lambda: check_output(tmp_path / "new.txt", overwrite=overwrite),
        lambda: check_output(tmp_path / "new", overwrite=overwrite),
        lambda: check_output(tmp_path / "missing" / "new.mp4", overwrite=overwrite),
        lambda: check_output(tmp_path / "folder.mp4", overwrite=overwrite),
    ]
    if overwrite:
        check_output(tmp_path / "old.wav", overwrite=True)
    else:
        refused.append(lambda: check_output(tmp_path / "old.wav", overwrite=False))
    for attempt in refused:
        with pytest.raises(UserError):
            attempt()


def test_a_full_or_locked_place_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("omni2sound.files.flush_to_disk", fail)
    with pytest.raises(UserError, match="No space left"):
        write_audio(tmp_path / "a.wav", clicks([0.1], duration_s=1))
    assert list(tmp_path.iterdir()) == []


def test_media_formats_that_open_other_files_are_not_allowed() -> None:
    allowed = files._DEMUXERS.split(",")
    assert not {"hls", "dash", "concat", "sdp", "image2", "imf", "rtsp", "lavfi"} & set(allowed)
