"""Sound into a video: the packets stay, the sound fits, and nothing else is touched."""

from __future__ import annotations

from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.errors import MediaError, UserError
from omni2sound.media import Audio, iter_frames, mux, probe, read_audio, write_audio
from tests.media.clips import clicks, number_of, onset_s, packets_of, write_video

ONE_CODEC_FRAME_S = Fraction(1024, 16_000)
H264 = {"bf": "2", "g": "10"}


@settings(max_examples=30)
@given(
    gaps=st.lists(st.integers(6, 100), min_size=1, max_size=25),
    source=st.sampled_from([".mp4", ".mov", ".mkv"]),
    target=st.sampled_from([".mp4", ".mov"]),
    num_b_frames=st.integers(0, 3),
    sound_s=st.floats(0, 4),
    rate=st.sampled_from([16_000, 44_100, 48_000]),
)
def test_packets_are_equal_and_sound_has_exactly_their_length(
    gaps: list[int], source: str, target: str, num_b_frames: int, sound_s: float, rate: int
) -> None:
    with TemporaryDirectory() as folder:
        video = write_video(
            Path(folder) / f"in{source}", ticks=[0, *accumulate(gaps)],
            options={"bf": str(num_b_frames)},
        )  # fmt: skip
        samples_CN = np.zeros((1, round(sound_s * rate)), np.float32)
        out = Path(folder) / f"out{target}"
        mux(video, Audio(samples_CN=samples_CN, sample_rate_hz=rate), out)
        before, after = packets_of(video), packets_of(out)
        assert [(pts, key, data) for pts, _, key, data in after] == [
            (pts, key, data) for pts, _, key, data in before
        ]
        if source != ".mkv":  # Matroska stores no decoding times
            assert after == before
        duration_s = probe(video).duration_s
        found = probe(out)
        assert found.audio is not None
        assert found.video is not None
        assert found.audio.start_s == found.video.start_s
        one_frame_s = Fraction(1024, rate)
        assert abs(found.audio.duration_s - duration_s) <= one_frame_s
        assert abs(read_audio(out).duration_s - duration_s) <= Fraction(1, 1000)


@pytest.mark.parametrize(
    ("source", "codec", "pix_fmt", "targets"),
    [
        ("in.webm", "libvpx-vp9", "yuv420p", [".webm", ".mkv", ".mp4"]),
        ("in.webm", "libvpx", "yuv420p", [".webm", ".mkv"]),
        ("in.mkv", "ffv1", "yuv420p", [".mkv", ".mp4"]),
        ("in.mp4", "libx265", "yuv420p", [".mp4", ".mov", ".mkv"]),
        ("in.mov", "prores_ks", "yuv422p10le", [".mov", ".mkv"]),
        ("in.avi", "mpeg4", "yuv420p", [".mp4", ".mov", ".mkv"]),
        ("in.avi", "libx264", "yuv420p", [".mp4", ".mov", ".mkv"]),
        ("in.ts", "libx264", "yuv420p", [".mp4", ".mkv"]),
        ("in.flv", "libx264", "yuv420p", [".mp4", ".mkv"]),
        ("in.h264", "libx264", "yuv420p", [".mp4", ".mkv"]),
    ],
)
def test_containers_and_codecs(
    tmp_path: Path, source: str, codec: str, pix_fmt: str, targets: list[str]
) -> None:
    options = {"libx265": {"x265-params": "log-level=none"}, "libx264": H264}.get(codec, {})
    video = write_video(
        tmp_path / source, ticks=range(25), time_base=Fraction(1, 25), codec=codec,
        pix_fmt=pix_fmt, options=options, size=(64, 96),
    )  # fmt: skip
    for target in targets:
        out = tmp_path / f"out{target}"
        mux(video, clicks([0.5], duration_s=3), out)
        assert [number_of(picture) for picture in iter_frames(out, fps=25)] == list(range(25))
        assert read_audio(out).duration_s == pytest.approx(1, abs=0.002)
        assert onset_s(read_audio(out)) == pytest.approx(0.5, abs=0.003)
        if source not in ("in.ts", "in.h264", "in.avi"):  # those frame H.264 in another way
            assert [p[3] for p in packets_of(out)] == [p[3] for p in packets_of(video)]


@pytest.mark.parametrize("first_s", [-0.15, 0.1, 0.9, 30])
@pytest.mark.parametrize("source", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("target", [".mp4", ".mkv"])
def test_sound_starts_with_the_picture(
    tmp_path: Path, source: str, target: str, first_s: float
) -> None:
    base = Fraction(1, 600)
    first = round(first_s / base)
    video = write_video(
        tmp_path / f"in{source}", ticks=range(first, first + 1200, 30), options=H264,
        rate=Fraction(20),
    )  # fmt: skip
    out = tmp_path / f"out{target}"
    if source == ".mp4" and first < 0 and target == ".mkv":
        with pytest.raises(UserError, match="`reencode`"):  # Matroska has no edit lists
            mux(video, clicks([0.5], duration_s=2), out)
        assert not out.exists()
        return
    mux(video, clicks([0.5], duration_s=2), out)
    info, source_info = probe(out), probe(video)
    assert info.video is not None
    assert source_info.video is not None
    if 0 <= source_info.video.start_s <= 1:
        assert [p[0] for p in packets_of(out)] == pytest.approx(
            [p[0] for p in packets_of(video)], abs=0.001
        )
    else:
        assert info.video.start_s == pytest.approx(0, abs=0.001)
    assert onset_s(read_audio(out)) == pytest.approx(0.5, abs=0.004)
    # The picture that was on screen with the click still is.
    fps = Fraction(20)
    shown = [number_of(p) for p in iter_frames(out, fps=fps)]
    wanted = [number_of(p) for p in iter_frames(video, fps=fps)]
    assert shown == wanted


def test_rotation_aspect_colour_and_tags_stay(tmp_path: Path) -> None:
    def prepare(stream: av.VideoStream) -> None:
        context = stream.codec_context
        context.sample_aspect_ratio = Fraction(4, 3)
        context.color_primaries = context.color_trc = context.colorspace = 1  # BT.709
        context.color_range = 1
        stream.set_display_rotation(-90)
        stream.metadata["language"] = "nor"
        stream.container.metadata["title"] = "old title"
        stream.container.metadata["artist"] = "somebody"

    video = write_video(tmp_path / "in.mp4", ticks=[0, 300, 600], prepare=prepare)
    for suffix in (".mp4", ".mov", ".mkv"):
        out = tmp_path / f"out{suffix}"
        mux(video, clicks([0.5], duration_s=1), out, metadata={"title": "new", "comment": "{}"})
        before, after = probe(video).video, probe(out).video
        assert before is not None
        assert after is not None
        assert (after.pixel_aspect, after.rotation_deg) == (Fraction(4, 3), 90)
        assert (after.width_px, after.height_px) == (before.width_px, before.height_px)
        with av.open(str(out)) as container:
            tags = {key.lower(): value for key, value in container.metadata.items()}
            context = container.streams.video[0].codec_context
            assert context.color_primaries == context.color_trc == context.colorspace == 1
            assert container.streams.video[0].language == "nor"
        assert (tags["title"], tags["comment"], tags["artist"]) == ("new", "{}", "somebody")


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_same_input_same_bytes(tmp_path: Path, suffix: str) -> None:
    codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
    video = write_video(tmp_path / f"in{suffix}", ticks=range(0, 600, 60), codec=codec)
    outs = [tmp_path / f"{name}{suffix}" for name in ("first", "second")]
    for out in outs:
        mux(video, clicks([0.5], duration_s=1), out, metadata={"comment": "x"})
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_keep_audio_mixes(tmp_path: Path) -> None:
    video = write_video(
        tmp_path / "in.mp4", ticks=range(0, 1200, 60),
        sound=clicks([0.25], duration_s=2, sample_rate_hz=48_000),
    )  # fmt: skip
    new = clicks([1.25], duration_s=2)
    mux(video, new, tmp_path / "mixed.mp4", keep_audio=True)
    mux(video, new, tmp_path / "only.mp4")
    mixed = read_audio(tmp_path / "mixed.mp4")
    assert mixed.sample_rate_hz == 48_000
    later = Audio(samples_CN=mixed.samples_CN[:, 48_000:], sample_rate_hz=48_000)
    assert onset_s(mixed) == pytest.approx(0.25, abs=0.003)
    assert onset_s(later) == pytest.approx(0.25, abs=0.003)
    assert onset_s(read_audio(tmp_path / "only.mp4")) == pytest.approx(1.25, abs=0.003)


def test_keep_audio_of_a_silent_video_is_the_new_sound(tmp_path: Path) -> None:
    video = write_video(tmp_path / "in.mp4", ticks=range(0, 1200, 60))
    mux(video, clicks([1.0], duration_s=2), tmp_path / "out.mp4", keep_audio=True)
    assert onset_s(read_audio(tmp_path / "out.mp4")) == pytest.approx(1.0, abs=0.003)


@pytest.mark.parametrize(
    ("source", "codec", "target", "advice"),
    [
        ("in.mp4", "libx264", ".webm", ".mp4 .mov .mkv"),
        ("in.webm", "libvpx-vp9", ".mov", ".mp4 .mkv .webm"),
        ("in.webm", "libvpx", ".mp4", ".mkv .webm"),
    ],
)
def test_a_codec_that_does_not_fit_names_the_suffixes_that_do(
    tmp_path: Path, source: str, codec: str, target: str, advice: str
) -> None:
    video = write_video(tmp_path / source, ticks=[0, 300], codec=codec)
    with pytest.raises(UserError, match=f"use {advice}, or `reencode`$"):
        mux(video, clicks([0.1], duration_s=1), tmp_path / f"out{target}")
    assert list(tmp_path.iterdir()) == [video]


def test_refusals_leave_everything_as_it_was(tmp_path: Path) -> None:
    video = write_video(tmp_path / "in.mp4", ticks=[0, 300])
    before = video.read_bytes()
    sound = clicks([0.1], duration_s=1)
    write_audio(tmp_path / "sound.wav", sound)
    with pytest.raises(UserError, match="exists already"):
        mux(video, sound, video)
    with pytest.raises(UserError, match="input itself"):
        mux(video, sound, video, overwrite=True)
    with pytest.raises(UserError, match="not a video file"):
        mux(video, sound, tmp_path / "out.wav")
    with pytest.raises(UserError, match="does not exist"):
        mux(video, sound, tmp_path / "missing" / "out.mp4")
    with pytest.raises(UserError, match="suffix"):
        mux(video, sound, tmp_path / "out.xyz")
    with pytest.raises(MediaError, match="no picture"):
        mux(tmp_path / "sound.wav", sound, tmp_path / "out.mp4")
    nan = Audio(samples_CN=np.full((1, 9), np.nan, np.float32), sample_rate_hz=16_000)
    with pytest.raises(UserError, match="not finite"):
        mux(video, nan, tmp_path / "out.mp4")
    assert video.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"in.mp4", "sound.wav"}


def test_overwrite_replaces(tmp_path: Path) -> None:
    video = write_video(tmp_path / "in.mp4", ticks=[0, 300, 600])
    out = tmp_path / "out.mp4"
    out.write_bytes(b"old")
    mux(video, clicks([0.1], duration_s=1), out, overwrite=True)
    assert probe(out).duration_s == probe(video).duration_s


def test_a_tag_that_is_not_utf8_stays_as_it_is(tmp_path: Path) -> None:
    def prepare(stream: av.VideoStream) -> None:
        stream.container.metadata["artist"] = "Bj?rk"

    video = write_video(tmp_path / "in.mkv", ticks=[0, 300, 600], prepare=prepare)
    latin1 = "Björk".encode("latin-1")
    video.write_bytes(video.read_bytes().replace(b"Bj?rk", latin1))
    assert probe(video).video is not None
    out = tmp_path / "out.mkv"
    mux(video, clicks([0.5], duration_s=1), out)
    assert latin1 in out.read_bytes()
