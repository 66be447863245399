"""Damaged and odd media files, made in code.

In:   a random generator, whole files by recipe (`Kitchen`).
Out:  (file name, bytes).
"""

from __future__ import annotations

import contextlib
import math
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import rich_media

Rng = random.Random
BYTES_OF_PROSE = b"There is no sound in a text file, however loudly one reads it.\n"

# --- whole files ---------------------------------------------------------------------


@dataclass(frozen=True)
class Base:
    """How to make one small whole file."""

    suffix: str
    format: str
    video: str | None = None
    audio: str | None = None
    pix_fmt: str = "yuv420p"
    rate: int = 48_000
    size: tuple[int, int] = (64, 48)
    num_frames: int = 30


BASES = (
    Base(".mp4", "mp4", "libx264", "aac"),
    Base(".mp4", "mp4", "libx264"),
    Base(".mp4", "mp4", "libx265", "aac"),
    Base(".mp4", "mp4", "mpeg4", "libmp3lame"),
    Base(".mkv", "matroska", "libx264", "libopus"),
    Base(".mkv", "matroska", "ffv1", "flac"),
    Base(".webm", "webm", "libvpx-vp9", "libopus"),
    Base(".webm", "webm", "libvpx"),
    Base(".mov", "mov", "mjpeg", "pcm_s16le", pix_fmt="yuvj420p"),
    Base(".mov", "mov", "prores_ks", "aac", pix_fmt="yuv422p10le"),
    Base(".avi", "avi", "mpeg4", "libmp3lame"),
    Base(".avi", "avi", "libx264", "pcm_s16le"),
    Base(".ts", "mpegts", "libx264", "aac"),
    Base(".flv", "flv", "libx264", "aac", rate=44_100),
    Base(".gif", "gif", "gif", pix_fmt="rgb8"),
    Base(".mp3", "mp3", None, "libmp3lame"),
    Base(".wav", "wav", None, "pcm_s16le"),
    Base(".flac", "flac", None, "flac"),
    Base(".opus", "opus", None, "libopus"),
    Base(".m4a", "ipod", None, "aac"),
    Base(".png", "image2pipe", "png", pix_fmt="rgb24", num_frames=1),
    Base(".jpg", "image2pipe", "mjpeg", pix_fmt="yuvj420p", num_frames=1),
)
VIDEO_BASES = tuple(b for b in BASES if b.video and b.num_frames > 1)


def make(base: Base, path: Path, *, ticks: Callable[[int], int] | None = None) -> None:
    """Encode a moving gradient and a tone; `ticks` maps a frame's number to its time (1/25 s)."""
    width, height = base.size
    with av.open(str(path), "w", format=base.format) as container:
        picture: Any = None
        sound: Any = None
        if base.video:
            options = {"bf": "2", "g": "12"} if base.video in ("libx264", "mpeg4") else {}
            if base.video == "libx265":
                options = {"x265-params": "log-level=none"}
            picture = container.add_stream(
                base.video, rate=25, width=width, height=height, pix_fmt=base.pix_fmt,
                options=options,
            )  # fmt: skip
            picture.codec_context.thread_count = 1
        if base.audio:
            sound = container.add_stream(base.audio, rate=base.rate)
            sound.codec_context.layout = "mono"
        container.start_encoding()  # a file of no frames still gets its header
        if picture is not None:
            ramp = np.add.outer(np.arange(height), np.arange(width)).astype(np.uint8)
            for i in range(base.num_frames):
                rgb = np.repeat((ramp * 2 + 5 * i).astype(np.uint8)[..., None], 3, axis=2)
                frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
                frame.pts, frame.time_base = (ticks or int)(i), Fraction(1, 25)
                container.mux(picture.encode(frame))
            container.mux(picture.encode(None))
        if sound is not None and base.num_frames:
            num_samples = base.rate * base.num_frames // 25
            tone = 0.3 * np.sin(np.arange(num_samples) * 2 * np.pi * 440 / base.rate)
            tone_1N = (tone * 32767).astype(np.int16)[None]
            block = av.AudioFrame.from_ndarray(tone_1N, format="s16", layout="mono")
            block.sample_rate, block.pts, block.time_base = base.rate, 0, Fraction(1, base.rate)
            resampler = av.AudioResampler(
                format=sound.codec_context.format, layout="mono", rate=base.rate, frame_size=960
            )
            for part in [*resampler.resample(block), *resampler.resample(None)]:
                container.mux(sound.encode(part))
            container.mux(sound.encode(None))


class Kitchen:
    """Whole files by recipe, each encoded once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[Base, bytes] = {}

    def bytes_of(self, base: Base) -> bytes:
        if base not in self.made:
            path = self.folder / f"base{base.suffix}"
            make(base, path)
            self.made[base] = path.read_bytes()
            path.unlink()
        return self.made[base]


# --- damage: (rng, kitchen) -> (file name, bytes) -------------------------------------

Damage = Callable[[Rng, Kitchen], tuple[str, bytes]]


def _any(rng: Rng, kitchen: Kitchen) -> tuple[str, bytearray]:
    base = rng.choice(BASES)
    return f"clip{base.suffix}", bytearray(kitchen.bytes_of(base))


def intact(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    name, data = _any(rng, kitchen)
    return name, bytes(data)


def truncated(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    name, data = _any(rng, kitchen)
    return name, bytes(data[: rng.randrange(1, len(data))])


def head_cut(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    name, data = _any(rng, kitchen)
    return name, bytes(data[rng.randrange(1, len(data)) :])


def bits_flipped(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    name, data = _any(rng, kitchen)
    for _ in range(rng.choice((1, 10, 100, 1000))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return name, bytes(data)


def header_flipped(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    name, data = _any(rng, kitchen)
    for _ in range(rng.choice((1, 3, 10))):
        data[rng.randrange(min(600, len(data)))] ^= 1 << rng.randrange(8)
    return name, bytes(data)


def index_flipped(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    base = rng.choice([b for b in VIDEO_BASES if b.suffix in (".mp4", ".mov")])
    data = bytearray(kitchen.bytes_of(base))
    start = data.rfind(b"moov")
    for _ in range(rng.choice((1, 3, 10, 30))):
        data[rng.randrange(start, len(data))] ^= 1 << rng.randrange(8)
    return f"clip{base.suffix}", bytes(data)


def hole(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    name, data = _any(rng, kitchen)
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.randrange(1, len(data)))
    data[start:end] = rng.randbytes(end - start) if rng.random() < 0.5 else bytes(end - start)
    return name, bytes(data)


def wrong_suffix(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    _, data = _any(rng, kitchen)
    return f"clip{rng.choice([*(b.suffix for b in BASES), '.txt', '.m3u8', '.sdp', ''])}", bytes(
        data
    )


def empty(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    return f"clip{rng.choice(BASES).suffix}", b""


def text(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    words = BYTES_OF_PROSE * rng.choice((1, 1000))
    return f"clip{rng.choice(BASES).suffix}", words


def noise(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    return f"clip{rng.choice(BASES).suffix}", rng.randbytes(rng.choice((1, 16, 1000, 200_000)))


def playlist(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    name, content = rng.choice(
        (
            ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/passwd\n"),
            ("list.mp4", "#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n"),
            ("list.txt", "ffconcat version 1.0\nfile /etc/hostname\n"),
            ("clip.mp4", "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n"),
            ("clip.mpd", '<?xml version="1.0"?><MPD type="static"><Period/></MPD>'),
        )
    )
    return name, content.encode()


def one_pixel(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    base = rng.choice(
        (
            Base(".png", "image2pipe", "png", pix_fmt="rgb24", num_frames=1, size=(1, 1)),
            Base(".mkv", "matroska", "ffv1", pix_fmt="yuv444p", size=(1, 1)),
            Base(".webm", "webm", "libvpx-vp9", "libopus", size=(1, 1)),
            Base(".mp4", "mp4", "libx264", "aac", pix_fmt="yuv444p", size=(1, 1)),
            Base(".avi", "avi", "mjpeg", pix_fmt="yuvj444p", size=(1, 1)),
            Base(".gif", "gif", "gif", pix_fmt="rgb8", size=(1, 1)),
            Base(".mp4", "mp4", "libx264", pix_fmt="yuv444p", size=(3, 1)),
            Base(".mp4", "mp4", "libx264", size=(2, 300)),
        )
    )
    return f"clip{base.suffix}", kitchen.bytes_of(base)


def _patch_boxes(data: bytearray, kind: bytes, offset: int, value: bytes) -> None:
    """Overwrite bytes in every box (or element) of a kind, counted from the end of its name."""
    at = data.find(kind)
    while at >= 0:
        start = at + len(kind) + offset
        if start + len(value) <= len(data):
            data[start : start + len(value)] = value
        at = data.find(kind, at + 1)


def four_hour_header(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    if rng.random() < 0.3:  # Matroska: Duration (0x4489), a float in milliseconds
        base = rng.choice([b for b in VIDEO_BASES if b.suffix in (".mkv", ".webm")])
        data = bytearray(kitchen.bytes_of(replace(base, audio=None, num_frames=3)))
        _patch_boxes(data, b"\x44\x89", 1, struct.pack(">d", 4 * 3600e3))
        return f"clip{base.suffix}", bytes(data)
    if rng.random() < 0.3:
        data = bytearray(kitchen.bytes_of(BASES[16]))  # wav: RIFF and data chunk sizes
        _patch_boxes(data, b"RIFF", 0, struct.pack("<I", 2**31))
        _patch_boxes(data, b"data", 0, struct.pack("<I", 2**31))
        return "clip.wav", bytes(data)
    base = rng.choice([b for b in VIDEO_BASES if b.suffix in (".mp4", ".mov")])
    data = bytearray(kitchen.bytes_of(replace(base, audio=None, num_frames=3)))
    for kind, clock, offset in ((b"mvhd", 12, 16), (b"tkhd", 0, 20), (b"mdhd", 12, 16)):
        at = data.find(kind) + 4
        scale = struct.unpack(">I", data[at + clock : at + clock + 4])[0] if clock else 1000
        _patch_boxes(data, kind, offset, struct.pack(">I", min(2**32 - 1, 4 * 3600 * scale)))
    if rng.random() < 0.5:
        _patch_boxes(data, b"elst", 8, struct.pack(">I", 4 * 3600 * 1000))
    if rng.random() < 0.5:  # the time table too: three frames that claim 80 minutes each
        _patch_boxes(data, b"stts", 12, struct.pack(">I", 4800 * 12800))
    return f"clip{base.suffix}", bytes(data)


def huge_dimensions(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    width, height = rng.choice(((65535, 65535), (30000, 30000), (65535, 1), (0, 0), (8000, 9000)))
    if rng.random() < 0.4:
        data = bytearray(kitchen.bytes_of(BASES[20]))
        _patch_boxes(data, b"IHDR", 0, struct.pack(">II", width * 8, height * 8))
        return "clip.png", bytes(data)
    base = rng.choice([b for b in VIDEO_BASES if b.suffix in (".mp4", ".mov")])
    data = bytearray(kitchen.bytes_of(base))
    for kind in (b"avc1", b"hev1", b"mp4v", b"jpeg", b"apch"):
        _patch_boxes(data, kind, 24, struct.pack(">HH", width, height))
    _patch_boxes(data, b"tkhd", 76, struct.pack(">II", width << 16 & 0xFFFFFFFF, height << 16))
    return f"clip{base.suffix}", bytes(data)


def no_moov(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    base = rng.choice([b for b in VIDEO_BASES if b.suffix in (".mp4", ".mov")])
    data = kitchen.bytes_of(base)
    if rng.random() < 0.5:
        return f"clip{base.suffix}", data.replace(b"moov", b"free")
    return f"clip{base.suffix}", data[: data.rfind(b"moov") - 4]


def lost_box(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    base = rng.choice([b for b in VIDEO_BASES if b.suffix in (".mp4", ".mov")])
    kind = rng.choice((b"stts", b"stsz", b"stsc", b"stco", b"stss", b"ctts", b"mdia", b"stsd",
                       b"avcC", b"elst", b"mdat", b"trak", b"esds", b"hdlr"))  # fmt: skip
    return f"clip{base.suffix}", kitchen.bytes_of(base).replace(kind, b"free")


def _remuxed(
    rng: Rng, kitchen: Kitchen, edit: Callable[[int, av.Packet[Any]], bool]
) -> tuple[str, bytes]:
    """A whole video with packets changed or left out (`edit` returns False)."""
    base = rng.choice([b for b in VIDEO_BASES if b.suffix in (".mp4", ".mkv", ".webm", ".ts")])
    source_path = kitchen.folder / f"source{base.suffix}"
    source_path.write_bytes(kitchen.bytes_of(base))
    target_path = kitchen.folder / f"target{base.suffix}"
    try:
        with (
            av.open(str(source_path)) as source,
            av.open(str(target_path), "w", format=base.format) as target,
        ):
            stream = source.streams.video[0]
            copy = target.add_stream_from_template(stream, opaque=True)
            for index, packet in enumerate(source.demux(stream)):
                if packet.size and edit(index, packet):
                    packet.stream = copy
                    with contextlib.suppress(av.FFmpegError):
                        target.mux(packet)
    except (av.FFmpegError, ValueError):
        pass  # what was written so far is odd enough
    data = target_path.read_bytes() if target_path.exists() else b""
    source_path.unlink()
    target_path.unlink(missing_ok=True)
    return f"clip{base.suffix}", data


def no_key_frames(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    return _remuxed(rng, kitchen, lambda _, packet: not packet.is_keyframe)


def late_key_frame(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    return _remuxed(rng, kitchen, lambda index, _: index > 5)


def lost_packets(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    return _remuxed(rng, kitchen, lambda _, packet: packet.is_keyframe or rng.random() < 0.5)


def one_frame(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    def edit(index: int, packet: av.Packet[Any]) -> bool:
        packet.duration = 0
        return index == 0

    return _remuxed(rng, kitchen, edit)


def no_frames(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    base = rng.choice([b for b in VIDEO_BASES if b.suffix != ".gif"])
    return f"clip{base.suffix}", kitchen.bytes_of(replace(base, num_frames=0))


def wild_times(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    jump = rng.choice((10, 10**3, 10**5, 10**7)) * rng.choice((1, -1))

    def edit(index: int, packet: av.Packet[Any]) -> bool:
        if index > 10 and packet.pts is not None and packet.dts is not None:
            shift = math.floor(jump / packet.time_base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
        return True

    return _remuxed(rng, kitchen, edit)


def offset_times(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    offset = rng.choice((-0.2, 0.05, 0.7, 30, 95_000))

    def edit(index: int, packet: av.Packet[Any]) -> bool:
        shift = math.floor(Fraction(offset) / packet.time_base)
        if packet.pts is not None:
            packet.pts += shift
        if packet.dts is not None:
            packet.dts += shift
        return True

    return _remuxed(rng, kitchen, edit)


def sound_in_video_suffix(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    suffix, container, codec = rng.choice(
        ((".mp4", "mp4", "aac"), (".mkv", "matroska", "libopus"), (".mov", "mov", "pcm_s16le"),
         (".webm", "webm", "libopus"), (".avi", "avi", "pcm_s16le"), (".ts", "mpegts", "aac"))
    )  # fmt: skip
    return f"clip{suffix}", kitchen.bytes_of(Base(suffix, container, None, codec))


def picture_in_video_suffix(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    base = rng.choice(BASES[20:])
    return f"clip{rng.choice(('.mp4', '.mkv', '.mov'))}", kitchen.bytes_of(base)


def glued(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    name, first = _any(rng, kitchen)
    _, second = _any(rng, kitchen)
    return name, bytes(first + second)


def odd_name(rng: Rng, kitchen: Kitchen) -> tuple[str, bytes]:
    base = rng.choice(BASES)
    stem = rng.choice(("a:b", "-i", "two\nlines", "naïve 猫", "%03d", "x" * 200, "http:", "a'b\"c"))
    return f"{stem}{base.suffix}", kitchen.bytes_of(base)


KINDS: tuple[Damage, ...] = (
    intact, truncated, head_cut, bits_flipped, header_flipped, index_flipped, hole, wrong_suffix,
    empty, text, noise, playlist, one_pixel, four_hour_header, huge_dimensions, no_moov, lost_box,
    no_key_frames, late_key_frame, lost_packets, one_frame, no_frames, wild_times, offset_times,
    sound_in_video_suffix, picture_in_video_suffix, glued, odd_name, *rich_media.KINDS,
)  # fmt: skip
