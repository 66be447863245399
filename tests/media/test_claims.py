"""Small files that claim much are refused in one line before memory is taken for it."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.robustness import big_claims
from omni2sound.errors import MediaError, UserError
from omni2sound.media import audio, info, probe, read_audio
from omni2sound.media.limits import claims, file_bytes, worker
from omni2sound.media.limits.budgets import (
    MAX_FILE_BYTES,
    MAX_PACKETS,
    MAX_TAGS,
    MAX_ZEROS_BYTES,
    WORKER_BYTES_PER_S,
    WORKER_S,
)
from omni2sound.media.limits.file_bytes import FileBytes

MUCH: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "tables": (".mp4", lambda: big_claims.mp4_tables(MAX_PACKETS + 1), "tables claim"),
    "tracks": (".mp4", lambda: big_claims.mp4_many_tracks(MAX_PACKETS // 20, 30), "tables claim"),
    "fragment": (".mp4", lambda: big_claims.mp4_fragment(MAX_PACKETS + 1), "tables claim"),
    "edits": (".mp4", lambda: big_claims.mp4_edits(200_000), "tables claim"),
    "header": (".mov", lambda: big_claims.mp4_compressed_header(2**26), "compressed header"),
    "mp4 tags": (".mp4", lambda: big_claims.mp4_tags(2**20), "tags"),
    "mkv tags": (".mkv", lambda: big_claims.mkv_tags(2**20), "tags"),
    "text": (".png", lambda: big_claims.png_text(2**26), "compressed text"),
    "profile": (".png", lambda: big_claims.png_profile(2**26), "compressed text or profile"),
}


@pytest.mark.parametrize("name", MUCH)
def test_what_is_claimed_beyond_its_budget_is_refused_at_once(tmp_path: Path, name: str) -> None:
    suffix, make, words = MUCH[name]
    path = tmp_path / f"much{suffix}"
    path.write_bytes(make())
    begin = time.perf_counter()
    with pytest.raises(MediaError, match=words) as caught:
        probe(path)
    assert time.perf_counter() - begin < 5
    assert str(caught.value).startswith(path.name) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "kind", ["mkv tags", "mkv contents", "png picture", "png text", "mp4 times"]
)
def test_a_long_element_is_checked_in_little_memory(tmp_path: Path, kind: str) -> None:
    num_bytes = 200 * 2**20
    boxes = struct.pack(">I4sI4sI4s", 0, b"moov", 0, b"trak", 0, b"stts")
    ebml = b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01" + b"\xff" * 7
    size = b"\x08" + (num_bytes // 2).to_bytes(4, "big")
    png = b"\x89PNG\r\n\x1a\n" + num_bytes.to_bytes(4, "big")
    head = {
        "mkv tags": ebml + b"\x12\x54\xc3\x67" + size,
        "mkv contents": ebml + b"\x11\x4d\x9b\x74" + size,
        "png picture": png + b"IDAT",
        "png text": png + b"tEXt",
        "mp4 times": boxes + struct.pack(">II", 0, MAX_PACKETS),
    }[kind]
    path = tmp_path / "long"
    path.write_bytes(head)
    os.truncate(path, num_bytes)
    with path.open("ab") as file:
        file.write(b"end")  # no end of zeros, which would be another reason
    tracemalloc.start()
    try:
        with nullcontext() if kind != "png text" else pytest.raises(MediaError, match="a text"):
            claims.check_claims(path, path.name, demuxers="")
        assert tracemalloc.get_traced_memory()[1] < num_bytes / 20
    finally:
        tracemalloc.stop()


def test_a_picture_of_many_bits_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "much.png"
    path.write_bytes(big_claims.png_head(8191, 8191, bits=16, colour=6))
    with pytest.raises(MediaError, match="8191x8191 pixels of 537 MB, the limit is 268 MB"):
        probe(path)
    path.write_bytes(big_claims.png_text(9))
    assert probe(path).video is not None
    for limited in (claims, info):
        with monkeypatch.context() as patch:
            patch.setattr(limited, "MAX_PICTURE_BYTES", 64 * 64 * 3 - 1)
            path.write_bytes(big_claims.png_text(9 + len(limited.__name__)))  # looked at anew
            with pytest.raises(MediaError, match="64x64 pixels of 0 MB"):
                probe(path)


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".avi", ".h264", ".wav"])
def test_an_end_of_zeros_is_refused(tmp_path: Path, suffix: str) -> None:
    make: dict[str, Callable[[], bytes]] = {
        ".mp3": lambda: big_claims.sound("mp3"),
        ".flac": lambda: big_claims.sound("flac"),
        ".avi": lambda: big_claims.film("avi", sound=False),
        ".h264": big_claims.bare_h264,
        ".wav": lambda: big_claims.wav_tags(9),
    }
    path = tmp_path / f"film{suffix}"
    path.write_bytes(make[suffix]())
    assert probe(path).duration_s >= 0
    os.truncate(path, path.stat().st_size + 2 * MAX_ZEROS_BYTES)
    with pytest.raises(MediaError, match="zeros"):
        probe(path)


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska", "webm", "avi", "mpegts", "flv"])
def test_a_film_of_a_moment_claims_no_more_than_it_holds(tmp_path: Path, container: str) -> None:
    path = tmp_path / "film"
    if container == "webm":
        path.write_bytes(big_claims.film("matroska"))
    elif container == "flv":
        file = io.BytesIO()
        with av.open(file, "w", format="flv") as target:
            stream = target.add_stream("aac", rate=44_100)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 44_100), np.float32), "fltp", "mono")
            frame.sample_rate = 44_100
            target.mux(stream.encode(frame))
            target.mux(stream.encode(None))
        path.write_bytes(file.getvalue())
    else:
        path.write_bytes(big_claims.film(container))
    assert probe(path).duration_s > 0.9


def test_pcm_in_an_mp4_has_more_samples_than_packets_and_is_read(tmp_path: Path) -> None:
    """Its table counts samples, and three minutes hold more of them than `MAX_PACKETS`."""
    path = tmp_path / "pcm.mov"
    with av.open(str(path), "w") as target:
        stream = target.add_stream("pcm_s16le", rate=48_000)
        stream.layout = "mono"
        second = np.zeros((1, 48_000), np.int16)
        for _ in range(MAX_PACKETS // 48_000 + 2):
            frame = av.AudioFrame.from_ndarray(second, format="s16", layout="mono")
            frame.sample_rate = 48_000
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    assert probe(path).duration_s * 48_000 > MAX_PACKETS
    assert read_audio(path, duration_s=1).samples_CN.shape == (1, 48_000)


@pytest.mark.parametrize("num", [10, MAX_TAGS - 20])
def test_tags_within_the_limit_are_read(tmp_path: Path, num: int) -> None:
    for suffix, make in ((".mkv", big_claims.mkv_tags), (".wav", big_claims.wav_tags)):
        path = tmp_path / f"few{suffix}"
        path.write_bytes(make(num * (60 if suffix == ".mkv" else 10)))
        assert probe(path).duration_s > 0


def test_many_id3_tags_in_a_row_are_counted_and_not_followed_too_deep(tmp_path: Path) -> None:
    empty_tag = b"ID3\x04\0\0\0\0\0\x64" + bytes(100)
    path = tmp_path / "tags.mp3"
    path.write_bytes(MAX_TAGS // 2 * empty_tag + big_claims.sound("mp3"))
    assert probe(path).duration_s > 0
    path.write_bytes(big_claims.id3_tags(30 * (MAX_TAGS - 20)))  # in one tag
    assert probe(path).duration_s > 0
    for data in ((MAX_TAGS + 1) * empty_tag + big_claims.sound("mp3"), big_claims.id3_tags(2**20)):
        path.write_bytes(data)
        with pytest.raises(MediaError, match=f"more than {MAX_TAGS} tags"):
            probe(path)


def test_a_kind_without_counts_is_opened_in_a_process_with_limits(tmp_path: Path) -> None:
    path = tmp_path / "tags.wav"
    path.write_bytes(big_claims.wav_tags(2**17))
    assert probe(path).duration_s == 1
    code = (
        "import sys, omni2sound.media.limits.worker as worker\n"
        "worker.WORKER_BYTES = 1000\n"
        "from omni2sound.media import probe\nprobe(sys.argv[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert "takes more than 0 MB" in done.stderr.splitlines()[-1]


def _write_nut(path: Path, num_s: int) -> None:
    with av.open(str(path), "w", format="nut") as target:
        stream = target.add_stream("pcm_s16le", rate=48_000)
        stream.layout = "stereo"
        for _ in range(num_s):
            frame = av.AudioFrame.from_ndarray(np.ones((1, 96_000), np.int16), "s16", "stereo")
            frame.sample_rate = 48_000
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))


def test_a_sound_that_ends_in_zeros_is_looked_through_at_once(tmp_path: Path) -> None:
    path = tmp_path / "silence.wav"
    data = big_claims.wav_tags(9)
    at = data.index(b"data") + 4
    begin = time.process_time()
    for num_bytes in (2**30, 0, 2**32 - 1):  # known, not known
        path.write_bytes(data[:at] + num_bytes.to_bytes(4, "little") + data[at + 4 :])
        os.truncate(path, at + 4 + 2**30)
        claims.check_claims(path, path.name, demuxers="wav")
    assert time.process_time() - begin < 3


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (b"RIFF\0\0\0\0WAVE", b"abcd\0\0\0\0"),
        (b"fLaC", b"\x01\0\0\0"),
        (b"", b"OggS" + bytes(23)),
    ],
    ids=["RIFF", "FLAC", "Ogg"],
)
def test_small_parts_without_end_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: bytes, part: bytes
) -> None:
    for limit in ("_MAX_BOXES", "_MAX_ELEMENTS"):
        monkeypatch.setattr(claims, limit, 1000)
    path = tmp_path / "parts"
    path.write_bytes(head + 1010 * part)
    with pytest.raises(MediaError, match="more than 1000 parts"):
        claims.check_claims(path, path.name, demuxers="wav,flac,ogg")


@pytest.mark.parametrize("kind", ["junk", "udta", "pict", "what"])
@pytest.mark.parametrize("name", ["tables", "tracks", "fragment", "edits", "header"])
def test_claims_behind_an_odd_first_box_are_refused(tmp_path: Path, name: str, kind: str) -> None:
    suffix, make, words = MUCH[name]
    path = tmp_path / f"much{suffix}"
    path.write_bytes(big_claims.box(kind.encode(), b"") + make())
    with pytest.raises(MediaError, match=words):
        probe(path)


def test_claims_in_a_compressed_header_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "much.mov"
    path.write_bytes(big_claims.compressed(big_claims.mp4_tables(MAX_PACKETS + 1)))
    with pytest.raises(MediaError, match="tables claim"):
        probe(path)
    path.write_bytes(big_claims.compressed(big_claims.film()))
    assert probe(path).duration_s > 0.9


def test_claims_among_descriptions_of_samples_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "much.mp4"
    table = big_claims.box(b"stts", struct.pack(">IIII", 0, 1, MAX_PACKETS + 1, 1))
    path.write_bytes(big_claims.described(big_claims.film(), table))
    with pytest.raises(MediaError, match="tables claim"):
        probe(path)
    path.write_bytes(big_claims.described(big_claims.film(), big_claims.box(b"free", b"")))
    assert probe(path).duration_s > 0.9


def test_elements_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_MAX_ELEMENTS", 1000)
    path = tmp_path / "much.mkv"
    path.write_bytes(big_claims.with_element(b"\xec\x80" * 1001))
    with pytest.raises(MediaError, match="more than 1000 elements"):
        probe(path)


@pytest.mark.parametrize(
    "code", ["import sys; sys.exit(1)", "import sys; sys.exit(0)", "import no_such_module"]
)
def test_a_process_that_could_not_check_lets_nothing_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setattr(worker, "_WORKER", code)
    path = tmp_path / "sound.nut"
    _write_nut(path, num_s=1)
    with pytest.raises(MediaError, match="could not be checked"):
        claims.check_claims(path, path.name, demuxers="nut")


def test_a_file_that_is_shortened_while_it_is_looked_at_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(bytes(300_000))
    with path.open("rb") as file:
        data = FileBytes(file)
        assert data[:8] == bytes(8)
        os.truncate(path, 4)
        with pytest.raises(OSError, match="became shorter"):
            data[len(data) - 100_000 :]
        with pytest.raises(OSError, match="became shorter"):
            data.find(b"no such bytes")


@given(st.binary(max_size=300), st.binary(min_size=1, max_size=3), st.data())
def test_bytes_of_a_file_are_like_bytes(content: bytes, wanted: bytes, draw: st.DataObject) -> None:
    with tempfile.TemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_bytes, "_BLOCK_BYTES", 16)
        patch.setattr(file_bytes, "_FIND_BYTES", 20)
        file.write(content)
        file.flush()
        data = FileBytes(file)
        assert len(data) == len(content)
        for _ in range(5):
            start, stop = (draw.draw(st.integers(0, 310)) for _ in range(2))
            assert data[start:stop] == content[start:stop]
            assert data.find(wanted, start, stop) == content.find(wanted, start, stop)
            if start < len(content):
                assert data[start] == content[start]


def test_a_long_file_has_longer_to_be_read(tmp_path: Path) -> None:
    assert worker._cpu_limit_s(0) == WORKER_S
    assert worker._cpu_limit_s(MAX_FILE_BYTES) >= MAX_FILE_BYTES / WORKER_BYTES_PER_S
    path = tmp_path / "sound.nut"
    _write_nut(path, num_s=200)
    claims.check_claims(path, path.name, demuxers="nut")


@pytest.mark.skipif(not hasattr(signal, "SIGXCPU"), reason="processor time has no limit here")
def test_a_process_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = worker._WORKER.replace("options =", "while True: pass\noptions =")
    monkeypatch.setattr(worker, "_WORKER", code)
    monkeypatch.setattr(worker, "WORKER_S", 1)
    path = tmp_path / "sound.nut"
    _write_nut(path, num_s=1)
    # By the clock where others keep the processors busy.
    with pytest.raises(MediaError, match=r"0.2 MB are not read in (1 s of processor time|10 s),"):
        claims.check_claims(path, path.name, demuxers="nut")


def test_a_file_that_is_slow_to_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "WORKER_S", 0)
    path = tmp_path / "sound.nut"
    _write_nut(path, num_s=1)
    with pytest.raises(
        MediaError, match=r"not read in 0 s( of processor time)?, .*; convert it to mkv"
    ) as caught:
        claims.check_claims(path, path.name, demuxers="nut")
    assert "damaged" not in str(caught.value)


def test_sound_beyond_its_budget_is_refused_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.mka"
    path.write_bytes(big_claims.long_sound(0.01))
    num = read_audio(path, mono=True).samples_CN.size
    assert num == pytest.approx(36 * 48_000, rel=0.05)
    for most in (num - 1, num // 9):  # found out while it is read, and before
        monkeypatch.setattr("omni2sound.media.audio.MAX_AUDIO_VALUES", most)
        with pytest.raises(UserError, match="read it in parts"):
            read_audio(path, mono=True)
    assert read_audio(path, mono=True, start_s=30, duration_s=1).samples_CN.size == 48_000


def test_sound_beyond_its_budget_is_known_though_its_first_packet_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoder's delay makes it a third shorter."""
    path = tmp_path / "long.mka"
    path.write_bytes(big_claims.long_sound(0.01))
    decoded = []
    to_float = audio._to_float
    monkeypatch.setattr(audio, "_to_float", lambda f: decoded.append(f.samples) or to_float(f))
    monkeypatch.setattr(audio, "MAX_AUDIO_VALUES", 36 * 48_000 * 6 // 10)
    with pytest.raises(UserError, match="read it in parts"):
        read_audio(path, mono=True)
    assert decoded[0] < decoded[1]
    assert len(decoded) == 2
