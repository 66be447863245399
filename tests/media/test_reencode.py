"""Pictures encoded again: only on request, only where a copy does not fit, at exact times."""

from __future__ import annotations

import logging
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from omni2sound.errors import UserError
from omni2sound.media import iter_frames, mux, probe, read_audio
from omni2sound.media.copy.boxes import boxes_of_entry, read_moov
from omni2sound.media.copy.containers import default_suffix
from omni2sound.media.copy.reencode import CODECS
from tests.media.clips import LEVELS, clicks, grey, onset_s, packets_of, write_video
from tests.media.films import (
    DOLBY_8_4,
    LIGHT,
    MASTERING,
    SPHERE,
    TO_ENTRY,
    edit,
    grow,
    tone,
)
from tests.media.test_copy import hevc

SUFFIXES = {".mp4": "h264", ".mov": "h264", ".mkv": "av1", ".webm": "vp9"}


def shown(path: Path) -> list[tuple[Fraction, int]]:
    """(second, number) of each picture, in the order of showing."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        base = Fraction(stream.time_base or 0)
        found = []
        for frame in container.decode(stream):
            mean = float(frame.to_ndarray(format="rgb24").mean())
            found.append((frame.pts * base, round((mean - 20) / 8) % LEVELS))  # type: ignore[operator]
        return sorted(found)


@settings(max_examples=12, deadline=None)
@given(
    gaps=st.lists(st.integers(6, 200), min_size=1, max_size=20),
    suffix=st.sampled_from(list(SUFFIXES)),
    first=st.integers(0, 300),
)
def test_times_are_exact(gaps: list[int], suffix: str, first: int) -> None:
    with TemporaryDirectory() as folder:
        ticks = list(accumulate(gaps, initial=first))
        source = write_video(
            Path(folder) / "in.mov", ticks=ticks, codec="qtrle", pix_fmt="rgb24", size=(64, 64)
        )
        if suffix == ".mov":  # holds the codec: the copy is faithful
            source = write_video(
                Path(folder) / "in.mkv", ticks=ticks, codec="libvpx-vp9", size=(64, 64)
            )
        out = Path(folder) / f"out{suffix}"
        with pytest.raises(UserError, match="reencode"):
            mux(source, tone(440), out)
        mux(source, tone(440), out, reencode=True)
        before, after = shown(source), shown(out)
        assert [n for _, n in after] == [n for _, n in before]
        rounding_s = Fraction(0) if suffix in (".mp4", ".mov") else Fraction(1, 1000)
        for (t, _), (u, _) in zip(before, after, strict=True):
            assert abs(t - u) <= rounding_s
        info, source_info = probe(out), probe(source)
        assert info.video is not None
        assert info.video.codec == SUFFIXES[suffix]
        assert abs(info.duration_s - source_info.duration_s) <= Fraction(1, 500)


@pytest.mark.parametrize("suffix", list(SUFFIXES))
@pytest.mark.parametrize("edits", [[(0.6, 1.0)], [(0.0, 0.48)], [(0.2, 0.6), (1.4, 0.4)]])
def test_what_an_edit_list_shows_is_encoded(
    tmp_path: Path, edits: list[tuple[float, float]], suffix: str
) -> None:
    film = write_video(
        tmp_path / "in.mp4", ticks=range(50), time_base=Fraction(1, 25), size=(64, 64),
        options={"g": "20", "bf": "2"}, codec="libx264",
    )  # fmt: skip
    edit(film, edits)
    out = tmp_path / f"out{suffix}"
    mux(film, tone(440, duration_s=2), out, reencode=True)
    wanted = [
        number % LEVELS
        for first, length in edits
        for number in range(round(first * 25), round((first + length) * 25))
    ]
    found = [round((float(p.mean()) - 20) / 8) % LEVELS for p in iter_frames(out, fps=25)]
    assert found == wanted
    duration_s = sum(length for _, length in edits)
    assert float(probe(out).duration_s) == pytest.approx(duration_s, abs=0.003)
    if suffix not in (".mp4", ".mov") or len(edits) > 1:
        times = [t for t, _ in shown(out)]
        assert [float(t) for t in times] == pytest.approx(
            [n / 25 for n in range(len(wanted))], abs=0.001
        )


@pytest.mark.parametrize("suffix", list(SUFFIXES))
def test_a_faithful_copy_stays_a_copy(tmp_path: Path, suffix: str) -> None:
    codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
    source = write_video(tmp_path / f"in{suffix}", ticks=range(0, 600, 60), codec=codec)
    out = tmp_path / f"out{suffix}"
    mux(source, tone(440), out, reencode=True)
    assert [p[3] for p in packets_of(out)] == [p[3] for p in packets_of(source)]


@pytest.mark.parametrize("suffix", [".webm", ".mp4"])
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_applied_to_the_pixels(tmp_path: Path, suffix: str, degrees: int) -> None:
    def corner(_: int) -> NDArray[np.uint8]:
        picture = np.full((32, 48, 3), 40, np.uint8)
        picture[:16, :24] = 200  # upper left
        return picture

    def prepare(stream: Any) -> None:
        stream.set_display_rotation(degrees)

    source = write_video(
        tmp_path / "in.mov", ticks=range(0, 600, 60), codec="prores_ks", pix_fmt="yuv422p10le",
        picture=corner, prepare=prepare,
    )  # fmt: skip
    out = tmp_path / f"out{suffix}"
    mux(source, tone(440), out, reencode=True)
    before, after = probe(source).video, probe(out).video
    assert before is not None
    assert after is not None
    assert (after.width_px, after.height_px) == (before.width_px, before.height_px)
    assert after.rotation_deg == 0
    wanted, found = (next(iter_frames(path, fps=10)).astype(int) for path in (source, out))
    assert np.abs(wanted - found).mean() < 4


def test_odd_sizes_colours_and_depth(tmp_path: Path) -> None:
    def prepare(stream: Any) -> None:
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = 9, 18, 9

    source = write_video(
        tmp_path / "in.mkv", ticks=range(0, 600, 60), codec="ffv1", pix_fmt="yuv420p10le",
        size=(65, 97), prepare=prepare,
    )  # fmt: skip
    out = tmp_path / "out.mov"
    mux(source, tone(440), out, reencode=True)
    with av.open(str(out)) as container:
        context = container.streams.video[0].codec_context
        assert context.pix_fmt == "yuv420p10le"
        assert (context.width, context.height) == (98, 66)
        assert (context.color_primaries, context.color_trc, context.colorspace) == (9, 18, 9)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize("degrees", [0, 90])
def test_pixel_aspect_stays(tmp_path: Path, degrees: int, suffix: str) -> None:
    def prepare(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.set_display_rotation(degrees)

    source = write_video(
        tmp_path / "in.mov", ticks=range(0, 600, 60), codec="prores_ks", pix_fmt="yuv422p10le",
        size=(64, 96), prepare=prepare,
    )  # fmt: skip
    out = tmp_path / f"out{suffix}"
    mux(source, tone(440), out, reencode=True)
    before, after = probe(source).video, probe(out).video
    assert before is not None
    assert after is not None
    assert before.pixel_aspect == Fraction(4, 3)
    if suffix == ".mp4":
        assert after.pixel_aspect == (Fraction(3, 4) if degrees else Fraction(4, 3))
    assert after.width_px / after.height_px == pytest.approx(
        before.width_px / before.height_px, rel=0.02
    )


@pytest.mark.parametrize("opaque_from", [0, 1, 9, 10])
@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("in.mov", "qtrle", "argb"),
        ("in.mov", "prores_ks", "yuva444p10le"),
        ("in.avi", "rawvideo", "bgra"),
        ("in.apng", "apng", "rgba"),
    ],
)
def test_alpha_stays_in_webm_and_is_named_elsewhere(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    codec: str,
    pix_fmt: str,
    opaque_from: int,
) -> None:
    def picture(number: int) -> NDArray[np.uint8]:
        rgba = np.full((64, 64, 4), 255, np.uint8)
        rgba[..., :3] = grey(number)
        if number < opaque_from:
            rgba[20:40, 20:40, 3] = 30
        return rgba

    source = write_video(
        tmp_path / name, ticks=range(0, 600, 60), codec=codec, pix_fmt=pix_fmt, size=(64, 64),
        picture=picture, container_options={"f": "apng"} if codec == "apng" else None,
    )  # fmt: skip
    caplog.set_level(logging.WARNING, "omni2sound")
    mux(source, tone(440), tmp_path / "out.webm", reencode=True)
    assert "alpha" not in caplog.text
    with av.open(str(tmp_path / "out.webm")) as container:
        tags = {key.lower(): value for key, value in container.streams.video[0].metadata.items()}
        assert tags["alpha_mode"] == "1"
    report = mux(source, tone(440), tmp_path / "out.mp4", reencode=True)
    assert ("not kept in .mp4: alpha" in caplog.text) == (opaque_from > 0)
    assert report.is_encoded
    assert ("alpha" in report.lost) == (opaque_from > 0)
    if codec in ("apng", "rawvideo"):
        assert default_suffix(source, reencode=True) == (".webm" if opaque_from else ".mp4")


def gif(path: Path, *, transparent: bool) -> Path:
    """A GIF of ten pictures, of which some may be transparent in one corner."""
    pictures = []
    for number in range(10):
        pixels_HW = np.full((16, 16), 1 + number % 3, np.uint8)
        pixels_HW[:4, :4] = 0
        picture = Image.fromarray(pixels_HW, mode="P")
        picture.putpalette([200, 30, 30, 30, 30, 200, 30, 200, 30, 90, 90, 90])
        pictures.append(picture)
    options = {"transparency": 0, "disposal": 2} if transparent else {}
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100, **options)
    return path


@pytest.mark.parametrize("transparent", [False, True])
def test_a_gif_becomes_a_video_that_players_show(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, transparent: bool
) -> None:
    source = gif(tmp_path / "in.gif", transparent=transparent)
    caplog.set_level(logging.WARNING, "omni2sound")
    assert default_suffix(source) == ".mov"
    assert "hardly a player shows gif pictures in .mov; `reencode`" in caplog.text
    caplog.clear()
    suffix = default_suffix(source, reencode=True)
    assert suffix == (".webm" if transparent else ".mp4")
    mux(source, tone(440), tmp_path / f"out{suffix}", reencode=True)
    assert not caplog.text
    for other in (".mp4", ".mov", ".mkv"):
        report = mux(source, tone(440), tmp_path / f"other{other}", reencode=True)
        assert report.is_encoded == (other != ".mov")
        assert ("alpha" in report.lost) == (transparent and other != ".mov")


def test_projection_stays_and_dolby_vision_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    film = grow(hevc(tmp_path / "in.mp4"), (*TO_ENTRY, b"hvc1"), DOLBY_8_4 + SPHERE)
    caplog.set_level(logging.WARNING, "omni2sound")
    mux(film, tone(440), tmp_path / "out.webm", reencode=True)
    assert "Dolby Vision" in caplog.text
    assert caplog.text.count("\n") == 1


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_hdr_data_that_only_the_pictures_have(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    params = (
        "log-level=none:hdr10=1:repeat-headers=1:max-cll=1000,400:master-display="
        "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    )
    film = write_video(
        tmp_path / "in.mp4", ticks=range(50), time_base=Fraction(1, 25), size=(64, 64),
        codec="libx265", pix_fmt="yuv420p10le", options={"x265-params": params, "g": "20"},
        sound=tone(440, duration_s=2),
    )  # fmt: skip
    edit(film, [(0.0, 0.6), (1.2, 0.4)])  # can't be copied
    assert not boxes_of_entry(read_moov(film), 1)
    caplog.set_level(logging.WARNING, "omni2sound")
    out = tmp_path / f"out{suffix}"
    mux(film, tone(440, duration_s=1), out, reencode=True)
    if suffix == ".mkv":
        assert "not kept in .mkv: HDR light level, HDR mastering data" in caplog.text
    else:
        found = boxes_of_entry(read_moov(out), 1)
        assert (found[b"mdcv"], found[b"clli"]) == (MASTERING, LIGHT)
        assert "not kept" not in caplog.text


def first_in_bt709(path: Path) -> av.VideoFrame:
    """First picture of a file that says BT.709 of its colours, in video range."""
    with av.open(str(path)) as container:
        first = next(container.decode(video=0))
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range) == (1, 1)
    return first


@pytest.mark.parametrize("suffix", list(SUFFIXES))
@pytest.mark.parametrize("rgb", [(255, 0, 0), (0, 255, 0), (0, 0, 255)])
def test_rgb_becomes_bt709_and_says_so(
    tmp_path: Path, suffix: str, rgb: tuple[int, int, int]
) -> None:
    source = write_video(
        tmp_path / "in.avi", ticks=range(5), time_base=Fraction(1, 25), codec="rawvideo",
        pix_fmt="bgr24", picture=lambda _: np.full((32, 48, 3), rgb, np.uint8),
    )  # fmt: skip
    out = tmp_path / f"out{suffix}"
    mux(source, tone(440), out, reencode=True)
    frame = first_in_bt709(out)
    red, green, blue = rgb
    luma = 16 + 219 * (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255
    assert frame.to_ndarray()[:32].mean() == pytest.approx(luma, abs=2)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])  # .mov holds the codec
def test_a_palette_becomes_bt709_and_says_so(tmp_path: Path, suffix: str) -> None:
    palette = np.zeros((256, 4), np.uint8)
    palette[7] = (255, 0, 255, 0)  # alpha, red, green, blue
    source = tmp_path / "in.avi"
    with av.open(str(source), "w") as out:
        stream = out.add_stream("msrle", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 48, 32, "pal8"
        for number in range(5):
            drawn: Any = (np.full((32, 48), 7, np.uint8), palette)
            frame = av.VideoFrame.from_ndarray(drawn, format="pal8")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    out_path = tmp_path / f"out{suffix}"
    mux(source, tone(440), out_path, reencode=True)
    assert first_in_bt709(out_path).to_ndarray()[:32].mean() == pytest.approx(
        16 + 219 * 0.7152, abs=2
    )


@pytest.mark.parametrize("suffix", list(SUFFIXES))
def test_lost_interlacing_is_named(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    def prepare(stream: Any) -> None:
        stream.codec_context.flags |= 1 << 18 | 1 << 29  # AV_CODEC_FLAG_INTERLACED_DCT, _ME

    film = write_video(
        tmp_path / "in.mp4", ticks=range(50), time_base=Fraction(1, 25), size=(64, 64),
        codec="mpeg2video", options={"g": "20", "bf": "2"}, prepare=prepare,
    )  # fmt: skip
    with av.open(str(film)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    edit(film, [(0.0, 0.6), (1.2, 0.4)])
    caplog.set_level(logging.WARNING, "omni2sound")
    mux(film, tone(440), tmp_path / f"out{suffix}", reencode=True)
    assert f"not kept in {suffix}: interlacing" in caplog.text


def test_sound_stays_with_the_picture(tmp_path: Path) -> None:
    source = write_video(
        tmp_path / "in.mov", ticks=range(0, 1200, 60), codec="qtrle", pix_fmt="rgb24",
        picture=lambda number: np.full((32, 48, 3), grey(number), np.uint8),
    )  # fmt: skip
    for suffix in (".mp4", ".mkv", ".webm"):
        out = tmp_path / f"out{suffix}"
        mux(source, clicks([0.5], duration_s=2), out, reencode=True)
        assert onset_s(read_audio(out)) == pytest.approx(0.5, abs=0.004)


def test_raw_pictures_can_only_be_encoded(tmp_path: Path) -> None:
    source = write_video(
        tmp_path / "in.avi", ticks=range(10), time_base=Fraction(1, 25), codec="rawvideo",
        pix_fmt="bgr24",
    )  # fmt: skip
    out = tmp_path / f"out{default_suffix(source)}"
    with pytest.raises(UserError, match=r"use `reencode`$"):
        mux(source, tone(440), out)
    mux(source, tone(440), out, reencode=True)
    assert [n for _, n in shown(out)] == list(range(10))


def test_every_container_has_a_codec() -> None:
    assert set(CODECS) == {"mp4", "mov", "matroska", "webm"}
