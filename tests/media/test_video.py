"""Which picture is on screen when: the law, over odd rates, gaps, orders and containers."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from omni2sound.errors import MediaError, UserError
from omni2sound.media import Audio, iter_frames, mux, probe, read_audio
from omni2sound.media.video import iter_pictures
from tests.media.clips import LEVELS, clicks, number_of, onset_s, shown_number, write_video

RATES = [Fraction(12), Fraction(24_000, 1001), Fraction(25), Fraction(30_000, 1001), Fraction(60)]
BASE = Fraction(1, 600)


def numbers(path: Path, fps: Fraction | int, **span: Fraction | float) -> list[int]:
    return [number_of(picture) for picture in iter_frames(path, fps=fps, **span)]


def expected(ticks: list[int], times_s: list[Fraction], base: Fraction = BASE) -> list[int]:
    return [shown_number(ticks, base, time_s) % LEVELS for time_s in times_s]


def middles(start_s: Fraction, fps: Fraction, count: int) -> list[Fraction]:
    return [start_s + (i + Fraction(1, 2)) / fps for i in range(count)]


@settings(max_examples=60)
@given(
    gaps=st.lists(st.integers(5, 120), min_size=2, max_size=30),
    fps=st.sampled_from([*RATES, Fraction(7), Fraction(100)]),
    start_part=st.fractions(0, Fraction(9, 10), max_denominator=50),
    suffix=st.sampled_from([".mp4", ".mov"]),
    num_b_frames=st.integers(0, 3),
)
def test_frame_i_is_what_is_on_screen_at_its_middle(
    gaps: list[int], fps: Fraction, start_part: Fraction, suffix: str, num_b_frames: int
) -> None:
    ticks = [0, *accumulate(gaps)]
    with TemporaryDirectory() as folder:
        path = write_video(
            Path(folder) / f"clip{suffix}", ticks=ticks, options={"bf": str(num_b_frames)}
        )
        duration_s = probe(path).duration_s
        assert duration_s > ticks[-1] * BASE
        start_s = start_part * duration_s
        count = math.ceil((duration_s - start_s) * fps)
        wanted = expected(ticks, middles(start_s, fps, count))
        assert numbers(path, fps, start_s=start_s) == wanted


@settings(max_examples=40)
@given(
    rate=st.sampled_from(RATES),
    fps=st.sampled_from(RATES),
    num_frames=st.integers(1, 40),
    asked=st.one_of(st.none(), st.floats(0, 3)),
)
def test_exactly_ceil_of_duration_times_rate_frames(
    rate: Fraction, fps: Fraction, num_frames: int, asked: float | None
) -> None:
    with TemporaryDirectory() as folder:
        path = write_video(Path(folder) / "clip.mp4", ticks=range(num_frames), time_base=1 / rate)
        info = probe(path)
        assert abs(info.duration_s - num_frames / rate) < Fraction(1, 1000)
        duration_s = info.duration_s if asked is None else Fraction(asked)
        assert len(numbers(path, fps, duration_s=duration_s)) == math.ceil(duration_s * fps)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("clip.mkv", "libx264", "yuv420p"),
        ("clip.mkv", "ffv1", "yuv420p10le"),
        ("clip.webm", "libvpx-vp9", "yuv420p"),
        ("clip.mp4", "libx265", "yuv420p10le"),
        ("clip.mp4", "mpeg4", "yuv420p"),
        ("clip.mov", "prores_ks", "yuv422p10le"),
        ("clip.mov", "mjpeg", "yuvj420p"),
        ("clip.avi", "mpeg4", "yuv420p"),
        ("clip.avi", "libx264", "yuv420p"),
        ("clip.ts", "libx264", "yuv420p"),
        ("clip.flv", "libx264", "yuv420p"),
        ("clip.h264", "libx264", "yuv420p"),
    ],
)
def test_containers_and_codecs(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    path = write_video(
        tmp_path / name, ticks=range(30), time_base=Fraction(1, 30), codec=codec, pix_fmt=pix_fmt,
        options=options, size=(64, 96),  # libx265 damages the heap below one coding block
    )  # fmt: skip
    assert probe(path).duration_s == pytest.approx(1, abs=0.002)
    # 10 of 30 fps in the middle of each third picture: no rounding can move it.
    assert numbers(path, 10, duration_s=1) == [1 + 3 * i for i in range(9)] + [28 % LEVELS]


def test_avi_that_leaves_pictures_out(tmp_path: Path) -> None:
    """Its empty packets mean "nothing new", not "the end", which decoders take them for."""
    path = write_video(
        tmp_path / "clip.avi", ticks=[0, 1, 2, 8, 9, 10], time_base=Fraction(1, 10), codec="mpeg4"
    )
    assert numbers(path, 10) == [0, 1, 2, 2, 2, 2, 2, 2, 3, 4, 5]


@pytest.mark.parametrize("first", [-90, 17, 600, 4000])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_second_zero_is_the_first_shown_picture(tmp_path: Path, suffix: str, first: int) -> None:
    ticks = [first + 30 * i for i in range(20)]
    path = write_video(tmp_path / f"clip{suffix}", ticks=ticks)
    found = numbers(path, 20)
    if first < 0 and suffix == ".mp4":  # its edit list hides what lies before zero
        assert found == list(range(3, 20))
    else:
        assert found == list(range(20))


BEFORE_ZERO = {
    "first": st.integers(-6000, -1),
    "steps": st.lists(st.integers(1, 900), min_size=4, max_size=60),
    "b_frames": st.sampled_from(["0", "3"]),
    "with_sound": st.booleans(),
    "suffix": st.sampled_from([".mp4", ".mkv"]),
}


@settings(max_examples=6, deadline=None)
@given(**BEFORE_ZERO)
def test_matroska_pictures_before_zero_keep_their_times(**drawn: Any) -> None:
    check_before_zero(**drawn)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(**BEFORE_ZERO)
def test_more_matroska_pictures_before_zero_keep_their_times(**drawn: Any) -> None:
    check_before_zero(**drawn)


def check_before_zero(
    first: int, steps: list[int], b_frames: str, with_sound: bool, suffix: str
) -> None:
    """FFmpeg gives them no time, whatever their rate."""
    ticks_s = [Fraction(first + sum(steps[:i]), 600) for i in range(len(steps) + 1)]
    assume(ticks_s[-1] >= 0)  # else there is nothing to count from
    sound = clicks([0.1], duration_s=1) if with_sound else None
    with TemporaryDirectory() as folder:
        path = write_video(
            Path(folder) / "in.mkv", ticks=[int(600 * t) for t in ticks_s], sound=sound,
            options={"bf": b_frames, "x264-params": "b-adapt=0"},
            container_options={"avoid_negative_ts": "disabled"},
        )  # fmt: skip
        info = probe(path)
        found = list(iter_pictures(path))
        due_s = [float(t - ticks_s[0]) for t in ticks_s]
        assert [float(t) for t, _ in found] == pytest.approx(due_s, abs=0.002)
        shown = [number_of(frame.to_ndarray(format="rgb24")) for _, frame in found]
        assert shown == [n % LEVELS for n in range(len(ticks_s))]
        if sound is not None:
            assert onset_s(read_audio(path)) == pytest.approx(0.1 - float(ticks_s[0]), abs=0.003)
        silence = Audio(samples_CN=np.zeros((1, 100), np.float32), sample_rate_hz=16_000)
        mux(path, silence, Path(folder) / f"out{suffix}")
        copied = [float(t) for t, _ in iter_pictures(Path(folder) / f"out{suffix}")]
        assert copied == pytest.approx(due_s, abs=0.003)
        assert probe(Path(folder) / f"out{suffix}").duration_s == pytest.approx(
            float(info.duration_s), abs=0.05
        )


@pytest.mark.parametrize("start_s", [1.5, 3.0, 4.95, 7.0, 9.9])
def test_seeking_gives_what_reading_from_the_start_gives(tmp_path: Path, start_s: float) -> None:
    path = write_video(
        tmp_path / "clip.mp4", ticks=range(250), time_base=Fraction(1, 25),
        options={"g": "50", "bf": "3"},
    )  # fmt: skip
    whole = numbers(path, 25)
    assert whole == [i % LEVELS for i in range(250)]
    first = math.floor(Fraction(start_s) * 25 + Fraction(1, 2))
    count = math.ceil((10 - Fraction(start_s)) * 25)
    wanted = [whole[min(first + i, 249)] for i in range(count)]
    assert numbers(path, 25, start_s=start_s) == wanted


CORNERS = np.zeros((32, 48, 3), np.uint8)
CORNERS[:16, :24], CORNERS[:16, 24:] = (255, 255, 255), (255, 0, 0)
CORNERS[16:, :24], CORNERS[16:, 24:] = (0, 255, 0), (0, 0, 255)


@pytest.mark.parametrize(
    ("degrees", "flip", "shown", "clockwise_deg"),
    [
        (0, False, CORNERS, 0),
        (90, False, np.rot90(CORNERS), 270),  # PyAV counts counter-clockwise, as NumPy does
        (180, False, np.rot90(CORNERS, 2), 180),
        (-90, False, np.rot90(CORNERS, -1), 90),
        (0, True, CORNERS[:, ::-1], None),
        (90, True, np.rot90(CORNERS)[:, ::-1], None),
    ],
)
def test_rotation_and_mirror_are_applied(
    tmp_path: Path, degrees: int, flip: bool, shown: NDArray[np.uint8], clockwise_deg: int | None
) -> None:
    path = write_video(
        tmp_path / "clip.mp4", ticks=range(3), time_base=Fraction(1, 10), options={"qp": "4"},
        picture=lambda _: CORNERS,
        prepare=lambda stream: stream.set_display_rotation(degrees, hflip=flip),
    )  # fmt: skip
    video = probe(path).video
    assert video is not None
    assert (video.height_px, video.width_px) == shown.shape[:2]
    if clockwise_deg is not None:
        assert video.rotation_deg == clockwise_deg
    picture = next(iter_frames(path, fps=10)).astype(int)
    assert picture.shape == shown.shape
    quarters = [(slice(a, a + 4), slice(b, b + 4)) for a in (5, -9) for b in (5, -9)]
    for quarter in quarters:
        assert np.abs(picture[quarter] - shown[quarter]).max() < 40


@pytest.mark.parametrize("degrees", [0, 90])
def test_pixel_aspect_stretches_the_width(tmp_path: Path, degrees: int) -> None:
    def prepare(stream: av.VideoStream) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.set_display_rotation(degrees)

    path = write_video(tmp_path / "clip.mp4", ticks=range(3), prepare=prepare)
    video = probe(path).video
    assert video is not None
    assert video.pixel_aspect == Fraction(4, 3)
    size = (32, 64) if degrees == 0 else (64, 32)
    assert (video.height_px, video.width_px) == size
    assert next(iter_frames(path, fps=10)).shape == (*size, 3)
    assert next(iter_frames(path, fps=10, size_px=(7, 9))).shape == (7, 9, 3)


@pytest.mark.parametrize("size", [(1, 1), (33, 17), (3, 200)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    path = write_video(
        tmp_path / "clip.mkv", ticks=range(5), time_base=Fraction(1, 10), codec="ffv1",
        pix_fmt="yuv444p", size=size,
    )  # fmt: skip
    pictures = list(iter_frames(path, fps=10))
    assert [picture.shape for picture in pictures] == [(*size, 3)] * 5
    assert [number_of(picture) for picture in pictures] == list(range(5))


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"), [("a.png", "png", "rgb24"), ("a.jpg", "mjpeg", "yuvj420p")]
)
def test_a_still_picture_lasts_as_long_as_is_asked(
    tmp_path: Path, name: str, codec: str, pix_fmt: str
) -> None:
    path = write_video(
        tmp_path / name, ticks=[0], time_base=Fraction(1, 25), codec=codec, pix_fmt=pix_fmt,
        container_format="image2pipe",
    )  # fmt: skip
    video = probe(path).video
    assert video is not None
    assert video.is_still
    assert numbers(path, 8, duration_s=2.5) == [0] * 20
    with pytest.raises(UserError, match="still picture"):
        iter_frames(path, fps=8)


@settings(max_examples=20)
@given(
    gaps=st.lists(st.integers(5, 120), min_size=2, max_size=20),
    first=st.sampled_from(RATES),
    others=st.sets(st.sampled_from([*RATES, Fraction(4), Fraction(1, 2)]), max_size=3),
    start_part=st.fractions(0, Fraction(9, 10), max_denominator=50),
)
def test_samplings_read_along_are_those_read_alone(
    gaps: list[int], first: Fraction, others: set[Fraction], start_part: Fraction
) -> None:
    with TemporaryDirectory() as folder:
        path = write_video(Path(folder) / "clip.mp4", ticks=[0, *accumulate(gaps)])
        duration_s = probe(path).duration_s
        span = {"start_s": start_part * duration_s, "duration_s": (1 - start_part) * duration_s}
        keep: dict[Any, list[NDArray[np.uint8]]] = {(fps, (16, 24)): [] for fps in others}
        read = list(iter_frames(path, fps=first, keep=keep, **span))
        assert np.array_equal(read, list(iter_frames(path, fps=first, **span)))
        for (fps, size_px), kept in keep.items():
            alone = list(iter_frames(path, fps=fps, size_px=size_px, **span))
            assert np.array_equal(kept, alone)


def test_each_array_belongs_to_the_caller(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", ticks=[0, 300])
    for picture in iter_frames(path, fps=20):
        assert picture.min() > 0
        picture[:] = 0


def test_sound_without_picture_and_picture_without_sound(tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.mp4", ticks=range(0, 600, 20))
    assert probe(silent).audio is None
    only_sound = tmp_path / "sound.mp4"
    with av.open(str(only_sound), "w") as container:
        from tests.media.clips import write_track

        track = container.add_stream("aac", rate=16_000)
        track.layout = "mono"
        write_track(container, track, clicks([0.1], duration_s=1), 0)
    info = probe(only_sound)
    assert info.video is None
    assert info.duration_s == pytest.approx(1, abs=0.07)
    with pytest.raises(MediaError, match="no picture"):
        iter_frames(only_sound, fps=8)


@pytest.mark.parametrize(
    "arguments",
    [
        {"fps": 0},
        {"fps": -1},
        {"fps": 10**6},
        {"fps": 8, "start_s": -1.0},
        {"fps": 8, "start_s": float("nan")},
        {"fps": 8, "start_s": 99.0},
        {"fps": 8, "duration_s": float("inf")},
        {"fps": 8, "size_px": (0, 5)},
        {"fps": 8, "size_px": (10**5, 10**5)},
    ],
)
def test_numbers_out_of_range_are_refused_at_the_call(
    tmp_path: Path, arguments: dict[str, float]
) -> None:
    path = write_video(tmp_path / "clip.mp4", ticks=range(0, 600, 60))
    with pytest.raises(UserError):
        iter_frames(path, **arguments)  # type: ignore[arg-type]


def test_a_decoder_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """QuickTime's own raw pictures have no layout that the decoder knows."""
    path = write_video(tmp_path / "raw.mov", ticks=range(3), codec="rawvideo", pix_fmt="yuv420p")
    with pytest.raises(MediaError, match=r"no picture can be decoded \(rawvideo\)"):
        probe(path)
