"""A copy shows what its source shows, at its times, or there is no copy."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.errors import UserError
from omni2sound.media import mux, probe
from omni2sound.media import packets as packets_module
from omni2sound.media.copy.shown import UnfaithfulCopyError, check_encoded, check_shown
from omni2sound.media.files import create_output
from omni2sound.media.video import iter_pictures
from tests.media.clips import number_of, write_video
from tests.media.test_timeline import FPS, edited, film, numbers, silence


def decoded(path: Path) -> list[tuple[float, int]]:
    """(second, number) of each picture as FFmpeg shows it."""
    with av.open(str(path)) as container:
        return [
            (round(float(frame.time), 3), number_of(frame.to_ndarray(format="rgb24")))
            for frame in container.decode(video=0)
        ]


def told(path: Path) -> list[float]:
    """Seconds of the pictures that are shown, by the file alone; its edit list has one part."""
    with av.open(str(path)) as moved, av.open(str(path), options={"advanced_editlist": "0"}) as own:
        shown = {packet.pos for packet in moved.demux(video=0) if not packet.is_discard}
        times = [(packet.pos, packet.pts, packet.time_base) for packet in own.demux(video=0)]
    return sorted(float(pts * base) for pos, pts, base in times if pos in shown and pts is not None)


def timed(path: Path) -> list[tuple[float, int]]:
    """(second, number) of each picture as we read it."""
    return [(float(t), number_of(f.to_ndarray(format="rgb24"))) for t, f in iter_pictures(path)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    return film(folder / "whole.mp4", 4, container_options={"movie_timescale": "64000"})


def test_a_copy_that_cannot_be_read_back_says_why(whole: Path, tmp_path: Path) -> None:
    picture = probe(whole).video
    assert picture is not None
    temporary = tmp_path / "temporary.mp4"
    temporary.write_bytes(b"nothing" * 9)
    with pytest.raises(
        UnfaithfulCopyError, match=r"^film.mp4: not written: .*`reencode`"
    ) as caught:
        check_shown(temporary, "film.mp4", picture, shift_s=Fraction(0))
    assert str(caught.value.__cause__).removeprefix("temporary.mp4: ") in str(caught.value)
    assert "temporary" not in str(caught.value)


def test_encoded_pictures_are_compared_with_what_is_read_back(whole: Path) -> None:
    with av.open(str(whole)) as container:
        times_s = [Fraction(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    check_encoded(whole, "film.mp4", times_s)
    late = [time + Fraction(1, 100) for time in times_s]
    for wrong in (times_s[:-1], [*times_s, times_s[-1] + 1], late, [*times_s[:-1], late[-1]]):
        with pytest.raises(UnfaithfulCopyError, match=r"^film.mp4: not written: shows .* pictures"):
            check_encoded(whole, "film.mp4", wrong)


def test_a_file_that_cannot_be_read_back_says_why_and_is_not_there(tmp_path: Path) -> None:
    def finish(path: Path) -> None:
        path.write_bytes(b"nothing" * 9)
        probe(path)

    def write(path: Path) -> None:
        with create_output(
            path, container_format="wav", sample_rate_hz=8000, verify=finish
        ) as target:
            stream = target.add_stream("pcm_s16le", rate=8000)
            stream.layout = "mono"
            frame = av.AudioFrame(format="s16", layout="mono", samples=80)
            frame.sample_rate = 8000
            target.mux(stream.encode(frame))

    with pytest.raises(UserError, match=r"^sound.wav: not written, since it .* \(") as caught:
        write(tmp_path / "sound.wav")
    assert f"({str(caught.value.__cause__).partition(': ')[2]})" in str(caught.value)
    assert not list(tmp_path.iterdir())


@settings(max_examples=25, deadline=None)
@given(
    late=st.integers(0, 60),
    first=st.fractions(0, 2, max_denominator=200),
    length=st.integers(5, 40),
    suffix=st.sampled_from([".mp4", ".mov"]),
)
def test_a_cut_picture_that_begins_late(
    whole: Path,
    tmp_path_factory: pytest.TempPathFactory,
    late: int,
    first: Fraction,
    length: int,
    suffix: str,
) -> None:
    """Sound plays from 0; the picture comes later, and hides what was cut away before it."""
    folder = tmp_path_factory.mktemp("cut")
    part = (float(first), length / FPS)
    source = edited(
        whole, folder / "in.mp4", [(None, late / FPS), part] if late else [part],
        sound=[(0.0, 4.0)],
    )  # fmt: skip
    out = folder / f"out{suffix}"
    mux(source, silence(source), out)
    wanted, found = decoded(source), decoded(out)
    assert [number for _, number in found] == [number for _, number in wanted]
    assert [t for t, _ in found] == pytest.approx([t for t, _ in wanted], abs=0.001)
    wanted, found = timed(source), timed(out)
    assert [number for _, number in found] == [number for _, number in wanted]
    assert [t for t, _ in found] == pytest.approx([t for t, _ in wanted], abs=0.001)
    assert told(out) == pytest.approx(told(source), abs=0.001)


@pytest.mark.parametrize("late_s", [0.2, 0.48, 2.0])
@pytest.mark.parametrize("first_s", [0.6, 1.4, 1.42])
def test_the_first_picture_keeps_its_time(
    whole: Path, tmp_path: Path, late_s: float, first_s: float
) -> None:
    source = edited(
        whole, tmp_path / "in.mp4", [(None, late_s), (first_s, 2.0)], sound=[(0.0, 4.0)]
    )
    video = probe(source).video
    assert video is not None
    assert float(video.start_s) == pytest.approx(late_s, abs=0.001)
    # A picture that is cut is not decoded; the next one has its own time.
    number = -int(-round(first_s * FPS, 6) // 1)
    due_s = late_s + number / FPS - first_s
    assert timed(source)[0] == (pytest.approx(due_s, abs=0.001), numbers((number / FPS, 0.04))[0])


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("kind", ["fewer", "later", "all late"])
def test_a_copy_that_shows_something_else_is_refused(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, kind: str
) -> None:
    """Whatever goes wrong on the way: the finished file is compared with its source."""
    needed = packets_module._needed

    def faulty(packets: Any, video: Any) -> Any:
        kept = list(needed(packets, video))
        for packet in {"fewer": [], "later": kept[10:], "all late": kept}[kind]:
            packet.pts, packet.dts = packet.pts + 512, packet.dts + 512
        return iter(kept[:-3] if kind == "fewer" else kept)

    monkeypatch.setattr(packets_module, "_needed", faulty)
    out = tmp_path / f"out{suffix}"
    with pytest.raises(UserError, match=r"not written: a copy would show .* use `reencode`$"):
        mux(whole, silence(whole), out)
    assert list(tmp_path.iterdir()) == []
    mux(whole, silence(whole), out, reencode=True)
    assert [number for _, number in timed(out)] == numbers((0, 4))


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("first_s", [0, 1, 30])
def test_pictures_shown_before_the_first_packet_stay(
    tmp_path: Path, suffix: str, first_s: int
) -> None:
    """A recording of a stream may begin with any packet."""
    source = write_video(
        tmp_path / "in.ts", ticks=range(first_s * FPS, first_s * FPS + 50),
        time_base=Fraction(1, FPS),
        options={"bf": "3", "g": "25", "x264-params": "b-adapt=0:scenecut=0"},
    )  # fmt: skip
    cut = tmp_path / "cut.ts"
    with av.open(str(source)) as whole_file, av.open(str(cut), "w") as target:
        stream = whole_file.streams.video[0]
        copied = target.add_stream_from_template(stream)
        packets = [packet for packet in whole_file.demux(stream) if packet.size]
        pts = [packet.pts or 0 for packet in packets]
        first = next(n for n in range(1, 50) if pts[n] > pts[n + 1])
        for packet in packets[first:]:
            packet.stream = copied
            target.mux(packet)
    video = probe(cut).video
    assert video is not None
    out = tmp_path / f"out{suffix}"
    mux(cut, silence(cut), out)
    copy = probe(out).video
    assert copy is not None
    assert copy.num_frames == video.num_frames
    assert timed(out) == [(pytest.approx(t, abs=0.001), n) for t, n in timed(cut)]
