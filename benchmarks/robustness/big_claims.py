"""Does a small file make a reader take gigabytes or minutes, because of what its header claims?

    python -m benchmarks.robustness.big_claims [--mib 64] [--only NAME] [--src FOLDER]

Makes media files whose headers, tables, tags or compressed parts claim far more than they hold, and
long sounds that do hold it; then probes each, reads its first picture and its sound in a process of
its own. Prints processor seconds, peak memory and the last line for each. The exit code is 1 if one
takes more than 1.2 GB or 60 s, or ends in a traceback. `--src` measures another copy of
the sources.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np

ROOT = Path(__file__).parents[2]
MAX_GB, MAX_S = 1.2, 60.0
_ADDRESS_SPACE = 12 * 2**30
"""Beyond the limit that is tested; a reader without any shall not stop the machine."""

READ = """
import sys
from itertools import islice
from omni2sound.errors import UserError
from omni2sound.media import iter_frames, probe, read_audio
path = sys.argv[1]
try:
    info = probe(path)
    said = f"{float(info.duration_s):.1f} s"
    if info.video is not None:
        for _ in islice(iter_frames(path, fps=1, duration_s=1, size_px=(64, 64)), 2):
            pass
    if info.audio is not None:
        said += f", {read_audio(path, mono=True, sample_rate_hz=16000).samples_CN.shape[1]} samples"
    print(said)
except UserError as error:
    print(error)
finally:
    from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
    usages = [getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN)]
    took_s = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    print("took", took_s, max(usage.ru_maxrss for usage in usages))
"""


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def film(container: str = "mp4", *, sound: bool = True, num: int = 5) -> bytes:
    """A film of a few pictures, with a second of sound."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as target:
        stream = target.add_stream("mpeg4", rate=num)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        heard = target.add_stream("aac", rate=16_000) if sound else None
        for k in range(num):
            picture = np.full((64, 64, 3), 40 * k % 256, np.uint8)
            target.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        target.mux(stream.encode(None))
        if heard is not None:
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 16_000), np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate = 16_000
            target.mux(heard.encode(frame))
            target.mux(heard.encode(None))
    return file.getvalue()


def _replace(data: bytes, kind: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Replace the bodies of all boxes of a kind, and correct the sizes around them."""
    parents = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf", b"udta")
    out, at = b"", 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + size]
        if name == kind:
            body = change(body)
        elif name in parents:
            body = _replace(body, kind, change)
        out += box(name, body)
        at += size
    return out


def mp4_tables(num: int) -> bytes:
    data = _replace(film(), b"stsz", lambda _: struct.pack(">III", 0, 1, num))
    return _replace(data, b"stts", lambda _: struct.pack(">IIII", 0, 1, num, 1))


def mp4_many_tracks(num: int, tracks: int) -> bytes:
    data = mp4_tables(num)
    start = data.index(b"moov") - 4
    (size,) = struct.unpack_from(">I", data, start)
    moov = data[start + 8 : start + size]
    at = moov.index(b"trak") - 4
    (length,) = struct.unpack_from(">I", moov, at)
    more = moov[at : at + length] * (tracks - 1)
    return data[:start] + box(b"moov", moov + more) + data[start + size :]


def mp4_fragment(num: int) -> bytes:
    file = io.BytesIO(film())
    out = io.BytesIO()
    with (
        av.open(file) as source,
        av.open(
            out, "w", format="mp4", container_options={"movflags": "frag_keyframe+empty_moov"}
        ) as target,
    ):
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.size:
                packet.stream = copy
                target.mux(packet)
    trun = struct.pack(">III", 0x000001, num, 100)
    return _replace(out.getvalue(), b"trun", lambda _: trun)


def mp4_edits(num: int) -> bytes:
    many = struct.pack(">II", 0, num) + struct.pack(">IiI", 1000, 0, 0x10000) * num
    return _replace(film(num=200), b"elst", lambda _: many)


def _zeros(num_bytes: int) -> bytes:
    """So many zeros, compressed a thousandfold."""
    packer, block = zlib.compressobj(9), bytes(2**20)
    packed = b"".join(packer.compress(block) for _ in range(num_bytes // len(block)))
    return packed + packer.flush()


def mp4_compressed_header(num_bytes: int) -> bytes:
    packed = _zeros(num_bytes)
    cmov = box(b"dcom", b"zlib") + box(b"cmvd", struct.pack(">I", num_bytes) + packed)
    return (
        box(b"ftyp", b"qt  \0\0\0\0") + box(b"moov", box(b"cmov", cmov)) + box(b"mdat", bytes(99))
    )


def compressed(data: bytes) -> bytes:
    """The film with its header in a compressed one."""
    start = data.index(b"moov") - 4
    (size,) = struct.unpack_from(">I", data, start)
    moov = data[start : start + size]
    body = struct.pack(">I", len(moov)) + zlib.compress(moov)
    cmov = box(b"cmov", box(b"dcom", b"zlib") + box(b"cmvd", body))
    return data[:start] + box(b"moov", cmov) + data[start + size :]


def described(data: bytes, more: bytes) -> bytes:
    """The film with further boxes at the end of its sample description."""

    def longer(body: bytes) -> bytes:
        (size,) = struct.unpack_from(">I", body, 8)
        return body[:8] + struct.pack(">I", size + len(more)) + body[12:] + more

    return _replace(data, b"stsd", longer)


def mp4_tags(num_bytes: int) -> bytes:
    entry = box(b"data", struct.pack(">II", 1, 0) + b"x")
    num = num_bytes // 60
    keys = b"".join(box(b"mdta", b"k%020d" % n) for n in range(num))
    items = b"".join(box(struct.pack(">I", n + 1), entry) for n in range(num))
    handler = box(b"hdlr", bytes(8) + b"mdta" + bytes(13))
    meta = handler + box(b"keys", struct.pack(">II", 0, num) + keys) + box(b"ilst", items)
    data = film()
    start = data.index(b"moov") - 4
    (size,) = struct.unpack_from(">I", data, start)
    return (
        data[:start]
        + box(b"moov", data[start + 8 : start + size] + box(b"meta", meta))
        + (data[start + size :])
    )


def _ebml(number: bytes, body: bytes) -> bytes:
    return number + struct.pack(">Q", len(body) | 1 << 56) + body


def mkv_tags(num_bytes: int) -> bytes:
    num = num_bytes // 60
    tags = b"".join(
        _ebml(b"\x67\xc8", _ebml(b"\x45\xa3", b"K%012d" % n) + _ebml(b"\x44\x87", b"x"))
        for n in range(num)
    )
    whole = _ebml(b"\x12\x54\xc3\x67", _ebml(b"\x73\x73", _ebml(b"\x63\xc0", b"") + tags))
    return with_element(whole)


def mkv_chapters(num_bytes: int) -> bytes:
    num = num_bytes // 60
    atoms = b"".join(
        _ebml(b"\xb6", _ebml(b"\x73\xc4", struct.pack(">I", n + 1)) + _ebml(b"\x91", b"\x01"))
        for n in range(num)
    )
    return with_element(_ebml(b"\x10\x43\xa7\x70", _ebml(b"\x45\xb9", atoms)))


def with_element(element: bytes) -> bytes:
    data = film("matroska")
    at = data.index(b"\x18\x53\x80\x67")
    cluster = data.index(b"\x1f\x43\xb6\x75")
    # An unknown size: to the end of the file.
    return (
        data[: at + 4] + b"\x01" + b"\xff" * 7 + data[at + 12 : cluster] + element + data[cluster:]
    )


def id3_tags(num_bytes: int) -> bytes:
    frames = b"".join(
        b"TXXX" + struct.pack(">I", 20) + b"\0\0" + b"\x03" + b"k%015d\0v" % n + b"\0"
        for n in range(num_bytes // 30)
    )
    size = len(frames)
    packed = bytes((size >> shift) & 127 for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + packed + frames + sound("mp3")


def flac_tags(num_bytes: int) -> bytes:
    num = num_bytes // 24
    comments = struct.pack("<I", 1) + b"x" + struct.pack("<I", num)
    comments += b"".join(struct.pack("<I", 16) + b"K%012d=xy" % n for n in range(num))
    comments = comments[: 2**24 - 1]
    data = sound("flac")
    first = 4 + 4 + 34
    head = bytearray(data[:first])
    head[4] &= 0x7F
    block = b"\x04" + struct.pack(">I", len(comments))[1:] + comments
    rest, at = data, first
    while not rest[at] & 0x80:
        at += 4 + int.from_bytes(rest[at + 1 : at + 4], "big")
    at_last = at
    tail = bytearray(rest[at_last:])
    return bytes(head) + block + bytes(tail)


def wav_tags(num_bytes: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)

    info = b"".join(chunk(b"%04x" % (n % 65536), b"xy") for n in range(num_bytes // 10))
    audio = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16))
    body = b"WAVE" + audio + chunk(b"LIST", b"INFO" + info) + chunk(b"data", bytes(32000))
    return b"RIFF" + struct.pack("<I", len(body)) + body


def sound(container: str) -> bytes:
    file = io.BytesIO()
    codec = {"mp3": "libmp3lame", "flac": "flac", "ogg": "libopus", "matroska": "libopus"}
    with av.open(file, "w", format=container) as target:
        stream = target.add_stream(codec[container], rate=48_000)
        stream.layout = "stereo"
        frame = av.AudioFrame.from_ndarray(
            np.zeros((2, 48_000), np.float32), format="fltp", layout="stereo"
        )
        frame.sample_rate = 48_000
        frame = av.AudioResampler(stream.format, "stereo", 48_000).resample(frame)[0]
        target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return file.getvalue()


def long_sound(hours: float, channels: str = "stereo") -> bytes:
    """Opus packets of a second, again and again."""
    source = io.BytesIO()
    with av.open(source, "w", format="matroska") as target:
        stream = target.add_stream("libopus", rate=48_000)
        stream.layout = channels
        num = stream.codec_context.layout.nb_channels
        shape = (1, 48_000 * num)
        frame = av.AudioFrame.from_ndarray(
            np.zeros(shape, np.float32), format="flt", layout=channels
        )
        frame.sample_rate = 48_000
        target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    source.seek(0)
    out = io.BytesIO()
    with av.open(source) as first, av.open(out, "w", format="matroska") as target:
        stream = first.streams.audio[0]
        copy = target.add_stream_from_template(stream)
        data = [bytes(p) for p in first.demux(stream) if p.size][1:-1]
        for n in range(int(hours * 3600 * 50)):
            packet = av.Packet(data[n % len(data)])
            packet.stream, packet.pts, packet.dts = copy, 20 * n, 20 * n
            packet.time_base = copy.time_base
            target.mux(packet)
    return out.getvalue()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(
    width: int, height: int, bits: int, colour: int, row_bytes: int, extra: bytes = b""
) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + row_bytes)) for _ in range(height)) + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + extra + _chunk(b"IDAT", rows)
        + _chunk(b"IEND", b"")
    )  # fmt: skip


def png_head(width: int, height: int, *, bits: int, colour: int) -> bytes:
    """A picture that says its size and has no pixels."""
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IEND", b"")


def png_text(num_bytes: int) -> bytes:
    text = b"Comment\0\0" + _zeros(num_bytes)
    return _png(64, 64, 8, 2, 192, _chunk(b"zTXt", text))


def png_profile(num_bytes: int) -> bytes:
    return _png(64, 64, 8, 2, 192, _chunk(b"iCCP", b"p\0\0" + _zeros(num_bytes)))


def zeros_behind(data: bytes, num_bytes: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)
        os.truncate(path, len(data) + num_bytes)  # takes no space on the disk

    return write


def bare_h264() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="h264") as target:
        stream = target.add_stream("libx264", rate=5)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for k in range(5):
            picture = np.full((64, 64, 3), 40 * k % 256, np.uint8)
            target.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        target.mux(stream.encode(None))
    return file.getvalue()


def cases(mib: int) -> Iterator[tuple[str, str, Callable[[], bytes | Callable[[Path], None]]]]:
    """Name, suffix, and what makes the file; `mib` is the size of those that hold much."""
    size = mib * 2**20
    yield "mp4: tables of 30 M samples", ".mp4", lambda: mp4_tables(30_000_000)
    yield "mp4: 30 tracks of 4 M samples", ".mp4", lambda: mp4_many_tracks(4_000_000, 30)
    yield "mp4: a fragment of 60 M samples", ".mp4", lambda: mp4_fragment(60_000_000)
    yield "mp4: a million edits", ".mp4", lambda: mp4_edits(1_000_000)
    yield "mov: a compressed header", ".mov", lambda: mp4_compressed_header(3 * 2**30)
    yield "mov: tables in a compressed header", ".mov", lambda: compressed(mp4_tables(20_000_000))
    yield (
        *("mp4: tables behind an odd first box", ".mp4"),
        lambda: box(b"junk", b"") + mp4_tables(20_000_000),
    )
    yield (
        *("mp4: tables in a description", ".mp4"),
        lambda: described(film(), box(b"stts", struct.pack(">IIII", 0, 1, 20_000_000, 1))),
    )
    yield "mp4: tags", ".mp4", lambda: mp4_tags(size)
    yield "mkv: tags", ".mkv", lambda: mkv_tags(size)
    yield "mkv: chapters", ".mkv", lambda: mkv_chapters(size)
    yield "mp3: tags", ".mp3", lambda: id3_tags(size)
    yield "flac: tags", ".flac", lambda: flac_tags(size)
    yield "wav: tags", ".wav", lambda: wav_tags(size)
    yield "png: compressed text", ".png", lambda: png_text(3 * 2**30)
    yield "png: compressed profile", ".png", lambda: png_profile(3 * 2**30)
    yield "png: 8191 px, 16 bit", ".png", lambda: _png(8191, 8191, 16, 6, 8191 * 8)
    yield "png: 4096 px, 16 bit", ".png", lambda: _png(4096, 4096, 16, 6, 4096 * 8)
    yield "mkv: 3 h of stereo", ".mka", lambda: long_sound(3)
    yield "mkv: 1 h of 7.1", ".mka", lambda: long_sound(1, "7.1")
    yield "mp4: a gigabyte of zeros", ".mp4", lambda: zeros_behind(film(), 2**30)
    yield "mkv: a gigabyte of zeros", ".mkv", lambda: zeros_behind(film("matroska"), 2**30)
    yield "ts: a gigabyte of zeros", ".ts", lambda: zeros_behind(film("mpegts"), 2**30)
    yield "avi: a gigabyte of zeros", ".avi", lambda: zeros_behind(film("avi", sound=False), 2**30)
    yield "mp3: a gigabyte of zeros", ".mp3", lambda: zeros_behind(sound("mp3"), 2**30)
    yield "flac: a gigabyte of zeros", ".flac", lambda: zeros_behind(sound("flac"), 2**30)
    yield "ogg: a gigabyte of zeros", ".ogg", lambda: zeros_behind(sound("ogg"), 2**30)
    yield "h264: a gigabyte of zeros", ".h264", lambda: zeros_behind(bare_h264(), 2**30)
    yield "png: a gigabyte of zeros", ".png", lambda: zeros_behind(png_text(9), 2**30)
    yield "wav: a gigabyte of zeros", ".wav", lambda: zeros_behind(wav_tags(9), 2**30)


def read(path: Path, source: Path) -> tuple[float, float, str]:
    """Processor time in s, peak memory in GB and the last line of reading one file in a process."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
        resource.setrlimit(resource.RLIMIT_CPU, (2 * int(MAX_S), 2 * int(MAX_S)))

    process = subprocess.Popen(
        [sys.executable, "-c", READ, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"},
        preexec_fn=limit,
    )
    assert process.stdout is not None
    timer_s = 10 * MAX_S  # by the clock, on a busy machine
    try:
        text, _ = process.communicate(timeout=timer_s)
    except subprocess.TimeoutExpired:
        process.kill()
        text, _ = process.communicate()
        text += f"\nstopped after {timer_s:g} s".encode()
    lines = text.decode(errors="replace").strip().splitlines() or ["nothing"]
    took_s, peak_gb = _usage(lines)
    said = lines[-1] if lines else ""
    if "Traceback" in text.decode(errors="replace"):
        said = f"TRACEBACK {said}"
    return took_s, peak_gb, said


def _usage(lines: list[str]) -> tuple[float, float]:
    """Seconds and GB, which are taken out of the lines; those of a process that checks included."""
    for at, line in enumerate(lines):
        if line.startswith("took "):
            del lines[at]
            return float(line.split()[1]), float(line.split()[2]) / 1e6
    return float("nan"), float("nan")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=8, help="size of files with many tags")
    parser.add_argument("--only", default="", help="part of a case's name")
    parser.add_argument("--src", type=Path, default=ROOT / "src", help="sources to measure")
    chosen = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'case':34s} {'MiB':>7s} {'s':>7s} {'GB':>6s}  last line")
        for name, suffix, make in cases(chosen.mib):
            if chosen.only not in name:
                continue
            path = Path(folder) / f"case{suffix}"
            made = make()
            if isinstance(made, bytes):
                path.write_bytes(made)
            else:
                made(path)
            size = path.stat().st_size
            took_s, peak_gb, said = read(path, chosen.src)
            wrong = "TRACEBACK" in said or not took_s <= MAX_S or not peak_gb <= MAX_GB
            bad += wrong
            mark = "  <--" if wrong else ""
            print(
                f"{name:34s} {size / 2**20:7.2f} {took_s:7.1f} {peak_gb:6.2f}  {said[:110]}{mark}",
                flush=True,
            )
            path.unlink()
    print(f"{bad} over the limits of {MAX_GB} GB and {MAX_S:g} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
