"""MPEG streams: joined parts with clocks of their own, clocks that turn, stamps that are late."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.media import Audio, mux, probe, read_audio
from omni2sound.media.timing.mpeg_stamps import StampLog
from omni2sound.media.video import iter_pictures
from tests.media.clips import LEVELS, clicks, number_of, packets_of, write_video

FPS = 25
RATE = 48_000
MPEG = Fraction(1, 90_000)
FRAME = 3600
"""Ticks of one picture."""


def write_part(
    path: Path,
    seconds: int,
    *,
    from_s: int = 0,
    codec: str = "libx264",
    num_b: int = 2,
    **more: Any,
) -> bytes:
    """Write pictures numbered from 0 on and a click at 0.5 s, on a clock that begins at `from_s`.

    Up to 10 s, FFmpeg stores packets in the order of time.
    """
    write_video(
        path, ticks=range(from_s * FPS, (from_s + seconds) * FPS), time_base=Fraction(1, FPS),
        codec=codec, options={"bf": str(num_b), "g": "12", "b": "2M", "qmax": "3"},
        sound=clicks([0.5], duration_s=seconds, sample_rate_hz=RATE), sound_codec="mp2",
        sound_first_sample=from_s * RATE, **more,
    )  # fmt: skip
    return path.read_bytes()


def pictures(path: Path) -> tuple[list[float], list[int]]:
    shown = list(iter_pictures(path))
    return [float(t) for t, _ in shown], [number_of(f.to_ndarray(format="rgb24")) for _, f in shown]


def numbers(*seconds: int) -> list[int]:
    return [number % LEVELS for s in seconds for number in range(s * FPS)]


def onsets(path: Path) -> list[float]:
    audio = read_audio(path)
    loud = np.flatnonzero(np.abs(audio.samples_CN[0]) > 0.1) / audio.sample_rate_hz
    return [float(t) for t in loud[np.insert(np.diff(loud) > 0.3, 0, True)]]


def silence(path: Path) -> Audio:
    num_samples = round(probe(path).duration_s * RATE)
    return Audio(samples_CN=np.zeros((1, num_samples), np.float32), sample_rate_hz=RATE)


def check(path: Path, *seconds: int, tolerance_s: float = 0.001) -> None:
    """Check that parts follow each other, seen and heard, and that a copy is the same."""
    begins = np.cumsum([0, *seconds])
    times, seen = pictures(path)
    assert seen == numbers(*seconds)
    due = np.concatenate(
        [b + np.arange(s * FPS) / FPS for b, s in zip(begins, seconds, strict=False)]
    )
    assert np.array(times) == pytest.approx(due, abs=tolerance_s)
    heard = np.array(onsets(path))
    assert heard - heard[0] == pytest.approx(begins[:-1], abs=tolerance_s)
    assert heard[0] == pytest.approx(0.5, abs=0.03)  # the delay of mp2
    out = path.with_name("out.mp4")
    mux(path, silence(path), out, keep_audio=True, overwrite=True)
    copied, again = pictures(out)
    assert again == seen
    assert np.array(copied) == pytest.approx(due, abs=tolerance_s)
    assert onsets(out) == pytest.approx(list(heard), abs=0.002)


def test_parts_of_unequal_length_on_one_clock_lose_no_picture(tmp_path: Path) -> None:
    """FFmpeg finds the time of a part's last reference picture in the middle of the next part."""
    path = tmp_path / "joined.mpg"
    seconds = 2, 3, 4
    path.write_bytes(
        b"".join(
            write_part(tmp_path / f"{n}.mpg", s, codec="mpeg1video") for n, s in enumerate(seconds)
        )
    )
    check(path, *seconds, tolerance_s=0.03)


def test_an_flv_whose_stream_begins_again_goes_on(tmp_path: Path) -> None:
    """Recorders of live streams write one header, and go on after a lost connection."""
    parts = [
        write_video(
            tmp_path / f"{seconds}.flv", ticks=range(seconds * FPS), time_base=Fraction(1, FPS),
            sound=clicks([0.5], duration_s=seconds, sample_rate_hz=RATE),
        ).read_bytes()
        for seconds in (2, 3)
    ]  # fmt: skip
    path = tmp_path / "recorded.flv"
    path.write_bytes(parts[0] + parts[1][13:])  # without its header
    check(path, 2, 3, tolerance_s=0.03)


PARTS = [(0, 60, 0), (100, 43, 100), (0, 15, 0), (0, 0, 0), (70, 10, 500)]


@pytest.mark.parametrize("begins", PARTS)
@pytest.mark.parametrize("num_b", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_joined_dvd_parts_lose_no_picture(
    tmp_path: Path, begins: tuple[int, ...], num_b: int
) -> None:
    """FFmpeg shows the last reference picture of a part in the next one."""
    path = tmp_path / "joined.vob"
    parts = [
        write_part(tmp_path / f"{n}.vob", 2, from_s=s, codec="mpeg2video", num_b=num_b)
        for n, s in enumerate(begins)
    ]
    path.write_bytes(b"".join(parts))
    check(path, 2, 2, 2, tolerance_s=0.03)  # two joints, at most half a block of sound each


@pytest.mark.parametrize("codec", ["mpeg1video", "mpeg2video"])
@pytest.mark.parametrize("container_format", ["mpeg", "vob"])
def test_a_program_stream_is_read_as_it_was_written(
    tmp_path: Path, codec: str, container_format: str
) -> None:
    path = tmp_path / ("a.mpg" if container_format == "mpeg" else "a.vob")
    write_part(path, 3, codec=codec)
    check(path, 3)
    assert probe(path).duration_s == 3


@pytest.mark.parametrize("jump_s", [60, -60, 11])
@pytest.mark.parametrize(
    "suffix", [".ts", *(pytest.param(s, marks=pytest.mark.slow) for s in (".m2ts", ".vob"))]
)
def test_a_jump_is_closed_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, jump_s: int, suffix: str
) -> None:
    """FFmpeg's length of such a file is the difference of its timestamps, which no header tells."""
    codec = "mpeg2video" if suffix == ".vob" else "libx264"
    path = tmp_path / f"jump{suffix}"
    path.write_bytes(
        write_part(tmp_path / f"a{suffix}", 2, from_s=100, codec=codec)
        + write_part(tmp_path / f"b{suffix}", 3, from_s=102 + jump_s, codec=codec)
    )
    check(path, 2, 3, tolerance_s=0.02)
    assert not caplog.records


@pytest.mark.parametrize("suffix", [".ts", ".vob"])
@pytest.mark.parametrize("longer", ["pictures", "sound"])
def test_a_part_begins_where_the_longest_track_before_it_ends(
    tmp_path: Path, suffix: str, longer: str
) -> None:
    """The last picture stands, or silence follows the sound."""
    codec = "mpeg2video" if suffix == ".vob" else "libx264"
    seconds = {"pictures": (4, 2), "sound": (2, 4)}[longer]
    first = write_video(
        tmp_path / f"a{suffix}", ticks=range(seconds[0] * FPS), time_base=Fraction(1, FPS),
        codec=codec, options={"bf": "2", "b": "2M", "qmax": "3"},
        sound=clicks([0.5, seconds[1] - 0.5], duration_s=seconds[1], sample_rate_hz=RATE),
        sound_codec="mp2",
    )  # fmt: skip
    path = tmp_path / f"joined{suffix}"
    path.write_bytes(first.read_bytes() + write_part(tmp_path / f"b{suffix}", 2, codec=codec))
    assert probe(path).duration_s == pytest.approx(6, abs=0.03)
    times, seen = pictures(path)
    assert seen == numbers(seconds[0], 2)
    due = np.concatenate([np.arange(seconds[0] * FPS), 4 * FPS + np.arange(2 * FPS)]) / FPS
    assert np.array(times) == pytest.approx(due, abs=0.03)
    assert np.diff(onsets(path)) == pytest.approx([seconds[1] - 1, 5 - seconds[1]], abs=0.03)


def test_slides_stand_in_a_transport_stream(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The rate of pictures says that they stand."""
    path = write_video(
        tmp_path / "slides.ts", ticks=range(3), time_base=Fraction(150), options={"bf": "0"}
    )
    assert probe(path).duration_s == 450
    assert pictures(path) == ([0, 150, 300], [0, 1, 2])
    assert not caplog.records


@pytest.mark.parametrize("stands_s", [6, 20])
def test_slides_beside_sound_can_be_copied(tmp_path: Path, stands_s: int) -> None:
    """FFmpeg looks for a first picture within 5 s of sound, and knows no size until then."""
    path = write_video(
        tmp_path / "slides.ts", ticks=range(0, 25 * 3 * stands_s, 25 * stands_s),
        time_base=Fraction(1, 25), options={"bf": "0", "g": "1"},
        sound=clicks([1.0], duration_s=3 * stands_s), sound_codec="mp2",
    )  # fmt: skip
    mux(path, clicks([2.0], duration_s=3 * stands_s), tmp_path / "copy.mp4")
    mux(path, clicks([2.0], duration_s=3 * stands_s), tmp_path / "encoded.webm", reencode=True)
    for copy in ("copy.mp4", "encoded.webm"):
        assert pictures(tmp_path / copy) == ([0, stands_s, 2 * stands_s], [0, 1, 2])


TURN_S = int((1 << 33) * MPEG)
"""Whole seconds after which an MPEG clock begins at 0 again."""


@pytest.mark.parametrize("container", ["ts", "vob"])
@pytest.mark.parametrize("before", [[], pytest.param([0], marks=pytest.mark.slow), [500, 7]])
def test_a_clock_that_turns_in_a_joined_part_goes_on(
    tmp_path: Path, container: str, before: list[int]
) -> None:
    """Times before the turn are some 95,441 s, those behind it some 0 s; some packets have both."""
    codec = "libx264" if container == "ts" else "mpeg2video"
    begins = [*before, TURN_S - 3, 20]
    lengths = [6 if begin > 1000 else 2 for begin in begins]
    path = tmp_path / f"joined.{container}"
    path.write_bytes(
        b"".join(
            write_part(tmp_path / f"{n}.{container}", length, from_s=begin, codec=codec)
            for n, (begin, length) in enumerate(zip(begins, lengths, strict=True))
        )
    )
    check(path, *lengths, tolerance_s=0.001 + 0.015 * len(before) + 0.015)


def test_a_track_that_begins_before_the_turn_belongs_to_one_that_begins_behind_it(
    tmp_path: Path,
) -> None:
    """The encoder's delay, stored as 13 hours by a writer that does not shift its times."""
    path = write_video(
        tmp_path / "slides.ts", ticks=[0, 150, 300], time_base=Fraction(1), rate=Fraction(1),
        options={"bf": "0"}, sound=clicks([0.5, 301], duration_s=450, sample_rate_hz=16_000),
    )  # fmt: skip
    with av.open(str(path)) as container:
        told = [p.pts for p in container.demux() if p.size and p.pts is not None]
    assert max(told) > (1 << 33) - 50_000
    assert probe(path).duration_s == pytest.approx(450, abs=0.1)
    times, seen = pictures(path)
    assert seen == [0, 1, 2]
    assert np.diff(times) == pytest.approx([150, 150])
    heard = np.array(onsets(path))
    assert heard - times[0] == pytest.approx([0.5, 301], abs=0.002)


def test_pictures_of_an_avi_that_tells_the_rate_of_fields(tmp_path: Path) -> None:
    """FFmpeg writes 50 a second when it copies H.264 of 25 pictures a second."""
    plain, path = tmp_path / "a.ts", tmp_path / "a.avi"
    write_part(plain, 3)
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        copy.time_base = Fraction(1, 2 * FPS)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = copy
                target.mux(packet)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 2 * FPS
    times, seen = pictures(path)
    assert seen == numbers(3)
    assert np.array(times) == pytest.approx(np.arange(3 * FPS) / FPS, abs=0.001)
    assert probe(path).duration_s == pytest.approx(3, abs=0.03)


def stamp(kind: int, ticks: int) -> bytes:
    parts = (ticks >> 30 & 7) << 1 | 1, (ticks >> 15 & 0x7FFF) << 1 | 1, (ticks & 0x7FFF) << 1 | 1
    return struct.pack(">BHH", kind << 4 | parts[0], parts[1], parts[2])


def program_stream(
    pictures: Sequence[tuple[int, int, bytes]], cuts: Sequence[int], *, every: int = 1
) -> bytes:
    """Pack (pts, dts, data) in PES packets that end at `cuts`, by ISO 13818-1.

    A packet carries the stamp of the first picture whose first byte lies in it, if the picture's
    number is a multiple of `every`.
    """
    data = b"".join(picture for _, _, picture in pictures)
    begins = np.cumsum([0, *(len(picture) for _, _, picture in pictures)])
    out = b""
    for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
        number = int(np.searchsorted(begins, start))
        head = b"\x80\x00\x00"
        if number < len(pictures) and begins[number] < stop and number % every == 0:
            pts, dts, _ = pictures[number]
            head = b"\x80\xc0\x0a" + stamp(3, pts) + stamp(1, dts)
        body = head + data[start:stop]
        clock = b"\x44\x00\x04\x00\x04\x01\x00\x00\x03\xf8"
        out += b"\0\0\1\xba" + clock + struct.pack(">IH", 0x1E0, len(body)) + body
    return out + b"\0\0\1\xb9"


def stored(path: Path, num_b: int) -> tuple[list[tuple[int, int, bytes]], list[int]]:
    """Write 3 s of pictures; return them in stored order, and the bytes at which each begins."""
    write_part(path, 3, codec="mpeg2video", num_b=num_b)
    told = [
        (round(pts / MPEG), round((pts if dts is None else dts) / MPEG), data)
        for pts, dts, _, data in packets_of(path)
    ]
    return told, [int(b) for b in np.cumsum([0, *(len(data) for _, _, data in told)])]


@pytest.mark.parametrize("num_b", [0, 1, 2, 3])
@pytest.mark.parametrize("per_packet", [1, 2, 5, 7, 12])
@pytest.mark.parametrize("every", [1, 12])
def test_pictures_that_share_a_stamp_follow_each_other(
    tmp_path: Path, num_b: int, per_packet: int, every: int
) -> None:
    told, begins = stored(tmp_path / "plain.ts", num_b)
    path = tmp_path / "a.mpg"
    path.write_bytes(program_stream(told, begins[per_packet:-1:per_packet], every=every))
    times, seen = pictures(path)
    assert seen == numbers(3)
    assert np.array(times) == pytest.approx(np.arange(3 * FPS) / FPS, abs=0.0001)
    assert probe(path).duration_s == 3


@pytest.mark.parametrize("num_b", [0, 1, 2, 3])
@pytest.mark.parametrize("sizes", [(20, 200), (300, 300)])
def test_packs_may_begin_anywhere(tmp_path: Path, num_b: int, sizes: tuple[int, int]) -> None:
    """Pictures have 30 to 90 bytes; many packs begin within the first bytes of one."""
    told, begins = stored(tmp_path / "plain.ts", num_b)
    for seed in range(6):
        steps = np.random.default_rng(seed).integers(*sizes, size=begins[-1], endpoint=True)
        cuts = [int(cut) for cut in np.cumsum(steps) if cut < begins[-1]]
        path = tmp_path / f"{seed}.mpg"
        path.write_bytes(program_stream(told, cuts))
        times, seen = pictures(path)
        assert seen == numbers(3)
        assert np.array(times) == pytest.approx(np.arange(3 * FPS) / FPS, abs=0.0001)


@pytest.mark.parametrize("num_b", [pytest.param(0, marks=pytest.mark.slow), 2])
@pytest.mark.parametrize("cut_inside", [1, pytest.param(2, marks=pytest.mark.slow), 3])
def test_a_picture_that_ends_a_pack_with_its_first_bytes_is_not_late(
    tmp_path: Path, num_b: int, cut_inside: int
) -> None:
    told, begins = stored(tmp_path / "plain.ts", num_b)
    late = []
    for number in range(20, 40):
        cuts = sorted({*begins[3:-1:3], begins[number] + cut_inside} - {begins[number]})
        path = tmp_path / f"{number}.mpg"
        path.write_bytes(program_stream(told, cuts))
        times, seen = pictures(path)
        assert seen == numbers(3)
        assert np.array(times) == pytest.approx(np.arange(3 * FPS) / FPS, abs=0.0001)
        assert probe(path).duration_s == 3
        with av.open(str(path)) as container:
            dts = [p.dts for p in container.demux(video=0) if p.size]
        late.append(bool(np.any(np.diff(dts) != FRAME)))
    assert any(late) == (cut_inside > 0)


@given(
    kinds=st.lists(st.integers(0, 3), min_size=2, max_size=20),
    frame=st.sampled_from([1501, 3003, 3600, 3750]),
    begin=st.integers(0, 1 << 34),
)
def test_times_that_follow_each_other_are_left_alone(
    kinds: list[int], frame: int, begin: int
) -> None:
    """Law: groups of a reference picture and up to three B-frames need no correction."""
    log = StampLog()
    dts = begin
    for num_b in kinds:
        for number in range(num_b + 1):
            packet = av.Packet(1)
            packet.dts, packet.duration = dts, frame
            packet.pts = dts if number else dts + (num_b + 1) * frame
            log.add(packet, 0)
            dts += frame
    assert log.moved() == {}
