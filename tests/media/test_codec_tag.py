"""A copy's sample entry has the name that its source's has, where the container knows it."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from omni2sound.media import mux
from tests.media.clips import write_video
from tests.media.films import tone


def tagged(path: Path, *, codec: str, pix_fmt: str, tag: str = "", **options: str) -> Path:
    def prepare(stream: Any) -> None:
        if tag:
            stream.codec_context.codec_tag = tag

    return write_video(
        path, ticks=range(5), time_base=Fraction(1, 25), codec=codec, pix_fmt=pix_fmt,
        size=(64, 64), options=options, prepare=prepare,
    )  # fmt: skip


def tag_of(path: Path) -> str:
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5
    with av.open(str(path)) as container:
        return container.streams.video[0].codec_context.codec_tag


def copied(source: Path, suffix: str, caplog: pytest.LogCaptureFixture) -> tuple[Path, str]:
    out = source.with_name(f"{source.stem}.out{suffix}")
    caplog.clear()
    with caplog.at_level(logging.WARNING, "omni2sound"):
        mux(source, tone(440), out)
    return out, caplog.text


@pytest.mark.parametrize(
    ("profile", "tag"), list(enumerate(("apco", "apcs", "apcn", "apch", "ap4h", "ap4x")))
)
@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
def test_each_prores_stays_what_it_is(
    tmp_path: Path, profile: int, tag: str, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    pix_fmt = "yuva444p10le" if profile > 3 else "yuv422p10le"
    source = tagged(tmp_path / "in.mov", codec="prores_ks", pix_fmt=pix_fmt, profile=str(profile))
    assert tag_of(source) == tag
    out, warning = copied(source, suffix, caplog)
    assert not warning
    assert tag_of(out) == tag
    assert tag_of(copied(out, ".mov", caplog)[0]) == tag


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "tag", "suffix", "wanted"),
    [
        ("mpeg2video", "yuv422p", "xd55", ".mov", "xd55"),
        ("mpeg2video", "yuv422p", "xd55", ".mp4", "mp4v"),
        ("libx264", "yuv420p", "avc3", ".mov", "avc3"),
        ("libx264", "yuv420p", "avc3", ".mp4", "avc3"),
        ("mjpeg", "yuvj420p", "dmb1", ".mov", "dmb1"),
        ("mjpeg", "yuvj420p", "dmb1", ".mp4", "mp4v"),
        ("mpeg4", "yuv420p", "XVID", ".mov", "XVID"),
    ],
)
def test_tags_stay_where_the_container_knows_them(
    tmp_path: Path,
    codec: str,
    pix_fmt: str,
    tag: str,
    suffix: str,
    wanted: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = tagged(tmp_path / "in.mov", codec=codec, pix_fmt=pix_fmt, tag=tag)
    assert tag_of(source) == tag
    out, warning = copied(source, suffix, caplog)
    assert tag_of(out) == wanted
    assert not warning


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_tag_that_is_not_kept_is_named(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """FFmpeg writes AVC-Intra without the header that this file needs."""
    source = tagged(tmp_path / "in.mov", codec="libx264", pix_fmt="yuv420p")
    source.write_bytes(source.read_bytes().replace(b"avc1", b"ai55"))
    out, warning = copied(source, suffix, caplog)
    assert tag_of(out) == "avc1"
    assert warning.rstrip().endswith(f"not kept in {suffix}: codec tag ai55")


def test_tags_of_avi_are_not_for_mov(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = tagged(tmp_path / "in.avi", codec="mpeg4", pix_fmt="yuv420p", tag="XVID")
    out, warning = copied(source, ".mov", caplog)
    assert tag_of(out) == "mp4v"
    assert not warning
