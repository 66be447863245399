"""Joined transport streams: subtitles stand beside their picture, what is not read is named."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.errors import UserError
from omni2sound.media import Audio, mux, probe
from omni2sound.media.files import VIDEO_SUFFIXES
from omni2sound.media.timing.picture_clock import PictureClock

SOUND = Audio(samples_CN=np.zeros((1, 16_000), np.float32), sample_rate_hz=16_000)
EMPTY_PAGE = bytes.fromhex("0f10000100020508 0f8000010000")
"""A page composition segment without regions and the end of its display set (ETSI EN 300 743)."""
WITH_SUBTITLES = (5, 15, 25, 35, 45)
"""Numbers of pictures."""


def broadcast(path: Path, *, pid: int = 0x100, begin_s: int = 0, names: int = 1) -> bytes:
    """Two seconds of picture with empty DVB subtitles."""
    options = {"mpegts_start_pid": str(pid), "mpegts_copyts": "1"}
    with av.open(str(path), "w", format="mpegts", container_options=options) as out:
        picture = out.add_stream("mpeg2video", rate=Fraction(25))
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        subtitles = [out.add_stream("dvbsub") for _ in range(names)]
        for stream in subtitles:
            stream.codec_context.time_base = Fraction(1, 1000)
        out.start_encoding()
        for number in range(50):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 4, np.uint8))
            frame.pts, frame.time_base = begin_s * 25 + number, Fraction(1, 25)
            out.mux(picture.encode(frame))
            for stream in subtitles if number in WITH_SUBTITLES else ():
                packet = av.Packet(EMPTY_PAGE)
                packet.stream, packet.time_base = stream, Fraction(1, 1000)
                packet.pts = packet.dts = begin_s * 1000 + number * 40
                out.mux(packet)
        out.mux(picture.encode(None))
    return path.read_bytes()


def pictures_beside(
    source: Path, target: Path, caplog: pytest.LogCaptureFixture
) -> tuple[list[int], str]:
    """Number of the picture that stands with each subtitle of a copy, and what was said."""
    with caplog.at_level(logging.WARNING, "omni2sound"):
        caplog.clear()
        mux(source, SOUND, target)
    times: dict[str, list[int]] = {"video": [], "audio": [], "subtitle": []}
    with av.open(str(target)) as copy:
        for packet in copy.demux():
            if packet.size and packet.pts is not None:
                times[packet.stream.type].append(packet.pts)
    pictures = sorted(times["video"])
    return [
        min(range(len(pictures)), key=lambda n: abs(pictures[n] - t)) for t in times["subtitle"]
    ], (caplog.text)


@pytest.mark.parametrize("begins_s", [(0, 0, 0), (0, 500, 3), (7, 95_441, 0)])
def test_subtitles_of_joined_parts_stand_beside_their_pictures(
    tmp_path: Path, begins_s: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "in.ts"
    source.write_bytes(
        b"".join(broadcast(tmp_path / "part.ts", begin_s=begin_s) for begin_s in begins_s)
    )
    numbers, said = pictures_beside(source, tmp_path / "out.mkv", caplog)
    assert numbers == [50 * part + number for part in range(3) for number in WITH_SUBTITLES]
    assert not said


def test_subtitles_behind_the_last_picture_of_other_pids_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "in.ts"
    first = broadcast(tmp_path / "first.ts")
    source.write_bytes(first + broadcast(tmp_path / "second.ts", pid=0x200))
    numbers, said = pictures_beside(source, tmp_path / "out.mkv", caplog)
    assert numbers == list(WITH_SUBTITLES)
    assert "not kept in .mkv" in said
    assert "joined parts of subtitles (und, dvb_subtitle)" in said


@pytest.mark.parametrize("suffix", VIDEO_SUFFIXES)
def test_no_container_is_advised_that_loses_the_same(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "in.ts"
    broadcast(source)
    # A teletext descriptor (ETSI EN 300 468) in place of the one of DVB subtitles.
    packets = bytearray(source.read_bytes())
    at = packets.find(b"\x59\x08und")
    while at >= 0:
        start = at // 188 * 188 + 5
        size = 3 + int.from_bytes(packets[start + 1 : start + 3], "big") % 4096
        packets[at] = 0x56
        packets[start + size - 4 : start + size] = crc(packets[start : start + size - 4])
        at = packets.find(b"\x59\x08und", at)
    source.write_bytes(packets)
    with caplog.at_level(logging.WARNING, "omni2sound"):
        try:
            mux(source, SOUND, tmp_path / f"out{suffix}")
        except UserError:
            mux(source, SOUND, tmp_path / f"out{suffix}", reencode=True)
    assert f"not kept in {suffix}: subtitles (" in caplog.text
    assert ".mkv keeps" not in caplog.text


def crc(section: bytes) -> bytes:
    """CRC-32 of a section (ISO 13818-1, annex A)."""
    value = 0xFFFFFFFF
    for byte in section:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return value.to_bytes(4, "big")


def noise(path: Path, pid: int, num_pictures: int) -> bytes:
    """Pictures of 130 kB each."""
    rng = np.random.default_rng(0)
    options = {"mpegts_start_pid": str(pid)}
    with av.open(str(path), "w", format="mpegts", container_options=options) as out:
        intra = {"qmin": "1", "qmax": "1", "g": "1"}
        stream = out.add_stream("mpeg2video", rate=Fraction(25), options=intra)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(num_pictures):
            drawn = rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(drawn)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path.read_bytes()


def test_streams_that_appear_on_the_way_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # FFmpeg looks for streams in the first 5 MB and at the end.
    source = tmp_path / "in.ts"
    one = noise(tmp_path / "one.ts", 0x100, 50)
    source.write_bytes(one + noise(tmp_path / "other.ts", 0x200, 5) + one)
    with caplog.at_level(logging.WARNING, "omni2sound"):
        found = probe(source)
    assert found.video is not None
    assert found.video.num_frames == 100
    (record,) = caplog.records
    assert "in.ts: streams appeared on the way" in record.getMessage()


@given(
    length=st.integers(20, 500),
    begin=st.integers(0, 1 << 34),
    early=st.integers(0, 3),
    at=st.integers(5, 15),
)
def test_near_a_joint_the_nearest_clock_counts(
    length: int, begin: int, early: int, at: int
) -> None:
    """A packet keeps its distance to the picture, though it may come before its own part's."""
    tick = 3600
    clock = PictureClock([(length, length * tick - begin)])

    def packet(time: int) -> av.Packet:
        made = av.Packet(b"x")
        made.time_base, made.pts, made.dts = Fraction(1, 90_000), time, time
        return made

    for number in range(length - early):
        clock.add(packet(number * tick))
    late = packet(begin + tick // 2)
    clock.set_time(late)
    assert late.pts == late.dts == length * tick + tick // 2
