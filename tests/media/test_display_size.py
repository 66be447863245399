"""Matroska holds the shape of pixels, and nothing else in the file changes by it."""

from __future__ import annotations

import logging
import zlib
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.media import mux
from omni2sound.media.copy.display_size import write_pixel_aspect
from tests.media.clips import packets_of, write_video
from tests.media.films import LINES, Sound, add_subtitles, tone, write_film

ASPECTS = (Fraction(16, 11), Fraction(4, 3), Fraction(10, 11), Fraction(1, 2), Fraction(8, 1))
TRACKS, CLUSTER = b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75"


def squeezed(path: Path, codec: str, aspect: Fraction) -> Path:
    def prepare(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = aspect

    return write_video(
        path, ticks=range(20), time_base=Fraction(1, 25), codec=codec, size=(64, 96),
        prepare=prepare,
    )  # fmt: skip


def aspect_of(path: Path) -> float:
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 20
    with av.open(str(path)) as container:
        return float(container.streams.video[0].sample_aspect_ratio or 1)


def checksums(path: Path) -> tuple[bytes, bytes]:
    """Of the Tracks element: as it stands there, as it is."""
    data = path.read_bytes()
    start = data.index(TRACKS, data.index(TRACKS) + 1) + 4  # the index names it first
    num_bytes = 9 - data[start].bit_length()
    size = int.from_bytes(data[start : start + num_bytes]) & ~(1 << 7 * num_bytes)
    body = data[start + num_bytes :][:size]
    assert body[:2] == b"\xbf\x84"
    return body[2:6], zlib.crc32(body[6:]).to_bytes(4, "little")


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".mp4"])
@pytest.mark.parametrize("aspect", ASPECTS)
@pytest.mark.parametrize(
    ("codec", "source"), [("libvpx", ".mkv"), ("libvpx-vp9", ".mp4"), ("libsvtav1", ".mp4")]
)
def test_the_shape_of_pixels_stays(
    tmp_path: Path,
    codec: str,
    source: str,
    aspect: Fraction,
    suffix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if (codec, suffix) == ("libvpx", ".mp4"):
        return
    film = squeezed(tmp_path / f"in{source}", codec, aspect)
    if source == ".mkv":  # no other container for VP8, and PyAV can't tell it to FFmpeg
        mux(film, tone(440), tmp_path / "with sound.mkv")
        film = tmp_path / "with sound.mkv"
        write_pixel_aspect(film, aspect)
    assert aspect_of(film) == pytest.approx(float(aspect), rel=0.01)
    out = tmp_path / f"out{suffix}"
    with caplog.at_level(logging.WARNING, "omni2sound"):
        mux(film, tone(440), out)
    assert not caplog.text
    assert aspect_of(out) == pytest.approx(float(aspect), rel=0.01)
    assert [data for *_, data in packets_of(out)] == [data for *_, data in packets_of(film)]


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_only_the_tracks_change(tmp_path: Path, suffix: str) -> None:
    film = add_subtitles(
        write_film(tmp_path / f"in{suffix}", [Sound(audio=tone(440), codec="libopus")] * 12,
                   codec="libvpx-vp9"),
        LINES, "webvtt",
    )  # fmt: skip
    before = film.read_bytes()
    write_pixel_aspect(film, Fraction(16, 11))
    after = film.read_bytes()
    assert len(after) == len(before)
    changed = [i for i, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]
    start = before.index(TRACKS, before.index(TRACKS) + 1)
    assert start < changed[0] < changed[-1] < before.index(CLUSTER)
    with av.open(str(film)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(70, 48)
        assert len(container.streams) == 14
        assert len(container.chapters()) == 2
        container.seek(500_000)
        assert next(container.decode(video=0)).pts is not None
    write_pixel_aspect(film, Fraction(16, 11))
    assert film.read_bytes() == after


def test_the_checksum_is_that_of_the_muxer(tmp_path: Path) -> None:
    film = squeezed(tmp_path / "in.mkv", "libvpx-vp9", Fraction(1))
    copy = tmp_path / "copy.mkv"
    mux(film, tone(440), copy)
    for path in (film, copy):
        stored, computed = checksums(path)
        assert stored == computed  # FFmpeg's own
    before = copy.read_bytes()
    write_pixel_aspect(copy, Fraction(2))
    assert copy.read_bytes() != before
    stored, computed = checksums(copy)
    assert stored == computed


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_header_stays_as_it_is_or_as_long(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        film = write_film(Path(folder) / "in.mkv", codec="libvpx-vp9", duration_s=0.2)
        damaged = bytearray(film.read_bytes())
        for _ in range(data.draw(st.integers(1, 8))):
            damaged[data.draw(st.integers(0, min(600, len(damaged) - 1)))] = data.draw(
                st.integers(0, 255)
            )
        damaged = damaged[: data.draw(st.integers(0, len(damaged)))]
        film.write_bytes(damaged)
        write_pixel_aspect(film, Fraction(4, 3))
        assert len(film.read_bytes()) == len(damaged)
