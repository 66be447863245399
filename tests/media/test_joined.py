"""Files joined byte by byte (`cat A B`) in formats whose header counts for the whole file."""

from __future__ import annotations

import logging
import struct
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from omni2sound.errors import MediaError
from omni2sound.media import probe, read_audio
from omni2sound.media.timing.programs import refuse_new_codec
from tests.media.clips import clicks, write_track, write_video
from tests.media.films import tone

FPS = 25
KINDS: dict[str, dict[str, Any]] = {
    "mkv": {},
    "webm": {"codec": "libvpx", "sound_codec": "libopus"},
    "flv": {"codec": "flv1", "rate_hz": 44_100},
    "asf": {"codec": "msmpeg4", "sound_codec": "libmp3lame", "rate_hz": 44_100},
    "nut": {},
    "mp4": {},
}


def part(path: Path, seconds: float, *, rate_hz: int = 48_000, **more: Any) -> bytes:
    write_video(
        path, ticks=range(round(seconds * FPS)), time_base=Fraction(1, FPS),
        sound=clicks([0.5], duration_s=seconds, sample_rate_hz=rate_hz), **more,
    )  # fmt: skip
    return path.read_bytes()


def joined(folder: Path, kind: str, *parts: bytes) -> Path:
    path = folder / f"joined.{kind}"
    path.write_bytes(b"".join(parts))
    return path


def refusal(path: Path, begin: int) -> str:
    with pytest.raises(MediaError) as refused:
        probe(path)
    message = str(refused.value)
    assert message.startswith(f"{path.name}: expected one file, got several")
    assert f"cut it at byte {begin} " in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", ["mkv", "webm"])
@pytest.mark.parametrize("live", [False, True], ids=["whole", "live"])
@pytest.mark.parametrize("seconds", [(2, 2), (1, 3), (3, 1)])
def test_matroska_behind_matroska_is_refused(
    tmp_path: Path, kind: str, seconds: tuple[float, float], *, live: bool
) -> None:
    """FFmpeg mixes both: of 100 pictures, 50 stand on each other."""
    options = {"live": "1"} if live else {}
    a, b = (
        part(tmp_path / f"{s}-{n}.{kind}", s, container_options=options, **KINDS[kind])
        for n, s in enumerate(seconds)
    )
    assert probe(tmp_path / f"{seconds[0]}-0.{kind}").duration_s == pytest.approx(
        seconds[0], abs=0.02
    )
    assert "mkvmerge" in refusal(joined(tmp_path, kind, a, b), len(a))
    refusal(joined(tmp_path, kind, a, b, a), len(a))


def test_nut_behind_nut_is_refused(tmp_path: Path) -> None:
    a = part(tmp_path / "a.nut", 2)
    refusal(joined(tmp_path, "nut", a, a), len(a))


def test_matroska_of_another_size_or_codec_is_refused(tmp_path: Path) -> None:
    a = part(tmp_path / "a.mkv", 1)
    refusal(joined(tmp_path, "mkv", a, part(tmp_path / "b.mkv", 1, size=(64, 48))), len(a))
    refusal(joined(tmp_path, "mkv", a, part(tmp_path / "c.mkv", 1, **KINDS["webm"])), len(a))
    refusal(joined(tmp_path, "mkv", a, part(tmp_path / "d.webm", 1, **KINDS["webm"])), len(a))


def test_matroska_behind_half_a_matroska_is_refused(tmp_path: Path) -> None:
    """The first header says that the file is longer than it is."""
    a = part(tmp_path / "a.mkv", 2)[:-1000]
    refusal(joined(tmp_path, "mkv", a, a), len(a))


def test_what_lies_behind_a_matroska_and_is_none_is_passed_over(tmp_path: Path) -> None:
    a = part(tmp_path / "a.mkv", 1)
    for behind in (b"\xec\x84" + bytes(4), b"\x1aE\xdf\xa3" + bytes(3000), bytes(2_000_000)):
        path = joined(tmp_path, "mkv", a, behind)
        assert probe(path).duration_s == pytest.approx(1, abs=0.02)


def test_header_of_matroska_within_a_packet_is_no_second_file(tmp_path: Path) -> None:
    """A subtitle or an attachment may hold anything."""
    a = part(tmp_path / "a.mkv", 1)
    header = a[: a.index(b"\x18S\x80g") + 12]
    path = tmp_path / "b.mkv"
    with av.open(str(tmp_path / "a.mkv")) as source, av.open(str(path), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        target.add_attachment("inner.mkv", "video/x-matroska", header)
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    assert header in path.read_bytes()
    assert probe(path).duration_s == pytest.approx(1, abs=0.02)


def sound(path: Path, hz: int) -> bytes:
    codec = {".flac": "flac", ".tta": "tta", ".aiff": "pcm_s16be"}
    with av.open(str(path), "w") as container:
        write: Any = container.add_stream(codec.get(path.suffix, "pcm_s16le"), rate=16_000)
        write.codec_context.layout = "mono"
        write_track(container, write, tone(hz, rate=16_000), 0)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["wav", "aiff", "w64", "caf", "tta"])
def test_of_joined_sounds_the_first_is_used_and_the_rest_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    parts = [sound(tmp_path / f"{hz}.{kind}", hz) for hz in (300, 900)]
    caplog.set_level(logging.WARNING, "omni2sound")
    alone = read_audio(tmp_path / f"300.{kind}")
    assert not caplog.text
    both = read_audio(joined(tmp_path, kind, *parts))
    assert both.samples_CN.shape == alone.samples_CN.shape
    begin = len(parts[0])
    assert f"the first one is used, as players do; for all, cut it at byte {begin} " in caplog.text


def test_flac_behind_flac_is_refused(tmp_path: Path) -> None:
    parts = [sound(tmp_path / f"{hz}.flac", hz) for hz in (300, 900)]
    refusal(joined(tmp_path, "flac", *parts), len(parts[0]))


@pytest.mark.parametrize("kind", ["flv", "asf"])
def test_of_joined_flv_and_asf_the_first_is_used_and_the_rest_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """As FFmpeg and players do."""
    a = part(tmp_path / f"a.{kind}", 2, **KINDS[kind])
    path = joined(tmp_path, kind, a, a)
    assert probe(path).duration_s == probe(tmp_path / f"a.{kind}").duration_s
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 1
    assert said[0].startswith(f"joined.{kind}: expected one file, got several")
    assert f"byte {len(a)} " in said[0]


def test_of_joined_mp4_the_first_is_used_and_the_rest_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    a, b = part(tmp_path / "a.mp4", 2), part(tmp_path / "b.mp4", 3)
    path = joined(tmp_path, "mp4", a, b)
    assert probe(path).duration_s == probe(tmp_path / "a.mp4").duration_s
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 1
    assert said[0].startswith("joined.mp4: expected one file, got several")
    assert f"byte {len(a)} " in said[0]


FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


@pytest.mark.parametrize("seconds", [(2, 2), (1, 3), (3, 1)])
def test_fragments_that_begin_again_are_refused(
    tmp_path: Path, seconds: tuple[float, float]
) -> None:
    a = part(tmp_path / "a.mp4", seconds[0], container_options=FRAGMENTED)
    b = part(tmp_path / "b.mp4", seconds[1], container_options=FRAGMENTED)
    refusal(joined(tmp_path, "mp4", a, b), len(a))


def test_a_header_that_is_repeated_between_fragments_begins_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Downloaders put the header of a stream before each of its segments."""
    data = part(tmp_path / "a.mp4", 4, options={"g": "25"}, container_options=FRAGMENTED)
    at, starts = 0, {}
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        starts.setdefault(kind, []).append(at)
        at += size
    header, moofs = data[: starts[b"moof"][0]], [*starts[b"moof"], starts[b"mfra"][0]]
    assert len(moofs) == 6  # four of pictures, one of sound, the end
    segments = [header + data[a:b] for a, b in pairwise(moofs)]
    path = joined(tmp_path, "mp4", *segments)
    assert probe(path).duration_s == probe(tmp_path / "a.mp4").duration_s
    assert probe(path).video.num_frames == 4 * FPS  # type: ignore[union-attr]
    assert not caplog.records


@pytest.mark.parametrize("size", [b"\xff" * 8, b"\x7f" + b"\xff" * 7, bytes(8), bytes(7) + b"\1"])
def test_a_size_that_no_file_can_have_ends_the_search(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, size: bytes
) -> None:
    a = part(tmp_path / "a.mp4", 1)
    path = joined(tmp_path, "mp4", a, b"\0\0\0\1free" + size, a)
    assert probe(path).duration_s == pytest.approx(1, abs=0.02)
    assert not caplog.records
    a = part(tmp_path / "a.mkv", 1)
    begin = a.index(b"\x18S\x80g") + 4
    path = joined(tmp_path, "mkv", a[:begin], b"\x01" + size[1:], a[begin + 8 :])
    assert probe(path).duration_s == pytest.approx(1, abs=0.02)


CODECS: dict[str, dict[str, Any]] = {
    "H.264": {},
    "HEVC": {"codec": "libx265", "options": {"x265-params": "log-level=none"}, "size": (64, 64)},
    "MPEG-2": {"codec": "mpeg2video"},
    "AC-3": {"sound_codec": "ac3"},
    "MPEG audio": {"sound_codec": "mp2"},
    "Opus": {"sound_codec": "libopus"},
}


@pytest.mark.parametrize("size", [188, 192])
@pytest.mark.parametrize("first", ["H.264", "HEVC", "AC-3"])
@pytest.mark.parametrize("second", [*CODECS])
def test_a_transport_stream_that_changes_its_codec_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, first: str, second: str, size: int
) -> None:
    if size == 192 and second == "MPEG audio":
        pytest.skip("FFmpeg writes AAC and MPEG audio as private data there")
    kind = "ts" if size == 188 else "m2ts"
    more = {"container_options": {"mpegts_m2ts_mode": "1"}} if size == 192 else {}
    parts = [
        part(tmp_path / f"{name}.{kind}", 1, **CODECS[name], **more) for name in (first, second)
    ]
    path = joined(tmp_path, kind, *parts)
    if first == second:
        assert probe(path).duration_s == pytest.approx(2, abs=0.1)
        assert not caplog.text
        return
    with pytest.raises(MediaError) as refused:
        probe(path)
    message = str(refused.value)
    assert message.startswith(
        f"{path.name}: expected one codec from the beginning to the end, got "
    )
    assert "join them with ffmpeg -f concat" in message
    assert "\n" not in message


def test_a_part_with_other_pids_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def other(stream: Any) -> None:
        stream.id = 700

    parts = [part(tmp_path / "a.ts", 1), part(tmp_path / "b.ts", 1, prepare=other)]
    picture = probe(joined(tmp_path, "ts", *parts)).video
    assert picture is not None
    assert picture.duration_s == 1
    assert "has 2 video tracks, as joined parts with other PIDs do; the first one" in caplog.text


def test_a_stream_of_ever_new_tables_is_read_in_time(tmp_path: Path) -> None:
    table = bytes.fromhex("47400010 00 00b00d")
    packets = (table + number.to_bytes(9, "big") + bytes(171) for number in range(20_000))
    path = tmp_path / "tables.ts"
    path.write_bytes(b"".join(packets))
    began = time.process_time()
    refuse_new_codec(path, [256])
    assert time.process_time() - began < 5
