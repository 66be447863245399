"""Videos with several sound tracks and their tags, made in code."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from omni2sound.media import Audio
from tests.media.clips import grey

RATE_HZ = 48_000
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A sound track to write."""

    audio: Audio
    codec: str = "aac"
    language: str = ""
    title: str = ""
    disposition: int = 0
    layout: str = ""
    """Default: mono, stereo or 5.1."""
    start_s: float = 0

    @property
    def written_layout(self) -> str:
        return self.layout or _LAYOUTS[self.audio.num_channels]


def tone(*hz: float, duration_s: float = 1.0, rate: int = RATE_HZ, level: float = 0.2) -> Audio:
    """One channel with one sine per frequency."""
    time_s = np.arange(round(duration_s * rate)) / rate
    sines_N = sum(level * np.sin(2 * np.pi * f * time_s) for f in hz) + np.zeros(len(time_s))
    return Audio(samples_CN=sines_N[None].astype(np.float32), sample_rate_hz=rate)


def stack(*channels: Audio) -> Audio:
    """Several mono sounds as the channels of one."""
    samples_CN = np.concatenate([audio.samples_CN for audio in channels])
    return Audio(samples_CN=samples_CN, sample_rate_hz=channels[0].sample_rate_hz)


def levels(audio: Audio, *hz: float) -> list[list[float]]:
    """Amplitude of each frequency in each channel."""
    num_samples = audio.samples_CN.shape[1]
    window_N = np.hanning(num_samples)
    power_CF = np.abs(np.fft.rfft(audio.samples_CN * window_N, axis=1)) ** 2
    power_CF *= 4 / num_samples / (window_N**2).sum()
    freqs_F = np.fft.rfftfreq(num_samples, 1 / audio.sample_rate_hz)
    return [[float(row_F[np.abs(freqs_F - f) < 10].sum() ** 0.5) for f in hz] for row_F in power_CF]


def write_film(
    path: Path, sounds: Sequence[Sound] = (), *, duration_s: float = 1.0, codec: str = "libx264"
) -> Path:
    """Write pictures at 25 fps and any number of sound tracks."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        video.codec_context.thread_count = 1
        tracks: list[Any] = []
        for sound in sounds:
            track: Any = container.add_stream(sound.codec, rate=sound.audio.sample_rate_hz)
            track.codec_context.layout = sound.written_layout
            if sound.language:
                track.metadata["language"] = sound.language
            if sound.title:
                track.metadata["title"] = sound.title
            track.disposition = sound.disposition
            tracks.append(track)
        container.start_encoding()
        for number in range(round(duration_s * 25)):
            rgb = np.full((32, 48, 3), grey(number), np.uint8)
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for track, sound in zip(tracks, sounds, strict=True):
            packed = np.ascontiguousarray(sound.audio.samples_CN.T).reshape(1, -1)
            block = av.AudioFrame.from_ndarray(packed, format="flt", layout=sound.written_layout)
            block.sample_rate = sound.audio.sample_rate_hz
            block.pts = round(sound.start_s * block.sample_rate)
            block.time_base = Fraction(1, block.sample_rate)
            container.mux(track.encode(block))
            container.mux(track.encode(None))
    return path


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


DOLBY_8_4 = box(b"dvvC", struct.pack(">IB", 1 << 24 | 8 << 9 | 4 << 3 | 0b101, 4 << 4) + bytes(19))
STEREO = box(b"st3d", bytes(4) + b"\1")
SPHERE = box(
    b"sv3d",
    box(b"svhd", bytes(4) + b"tool\0")
    + box(b"proj", box(b"prhd", bytes(16)) + box(b"equi", bytes(20))),
)
MASTERING = box(
    b"mdcv",
    struct.pack(">8H2I", 13250, 34500, 7500, 3000, 34000, 16000, 15635, 16450, 10_000_000, 50),
)
LIGHT = box(b"clli", struct.pack(">HH", 1000, 400))
TO_ENTRY = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")


def grow(path: Path, parents: Sequence[bytes], added: bytes) -> Path:
    """Append boxes inside the first box at `parents`; `moov` must lie last."""

    def inside(data: bytes, parents: Sequence[bytes]) -> bytes:
        out, at = b"", 0
        while at < len(data):
            size, kind = struct.unpack_from(">I4s", data, at)
            whole = data[at : at + size]
            if parents and kind == parents[0]:
                head = {b"stsd": 16, b"hvc1": 86, b"hev1": 86, b"avc1": 86, b"vp09": 86}.get(
                    kind, 8
                )
                body = inside(whole[head:], parents[1:]) if len(parents) > 1 else whole[head:]
                body += added if len(parents) == 1 else b""
                whole = struct.pack(">I", head + len(body)) + whole[4:head] + body
                parents = ()
            out, at = out + whole, at + size
        return out

    path.write_bytes(inside(path.read_bytes(), parents))
    return path


HEADER = (
    b"[Script Info]\nScriptType: v4.00+\nPlayResX: 384\nPlayResY: 288\n\n[V4+ Styles]\n"
    b"Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, "
    b"Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, "
    b"Shadow, Alignment, MarginL, MarginR, MarginV, Encoding\n"
    b"Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1\n\n"
    b"[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n\0"
)
"""What FFmpeg's decoders of plain subtitles write."""


def add_subtitles(
    path: Path,
    lines: Sequence[tuple[float, float, str]],
    codec: str,
    *,
    title: str = "",
    marks: int = 0,
) -> Path:
    """Rewrite a file with chapters, and a subtitle track in German after what it holds."""
    out = path.with_name(f"subtitled{path.suffix}")
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        streams: dict[int, Any] = {
            stream.index: target.add_stream_from_template(stream, opaque=True)
            for stream in source.streams
        }
        track: Any = target.add_stream(codec)
        track.codec_context.subtitle_header = HEADER
        track.codec_context.time_base = Fraction(1, 1000)
        track.metadata["language"] = "deu"
        if title:
            track.metadata["title"] = title
        track.disposition = marks
        target.set_chapters(
            [
                {
                    "id": i + 1, "start": 500 * i, "end": 500 * (i + 1),
                    "time_base": Fraction(1, 1000), "metadata": {"title": f"part {i}"},
                }
                for i in range(2)
            ]
        )  # fmt: skip
        target.start_encoding()
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
        for number, (start_s, end_s, text) in enumerate(lines):
            shown = av.subtitles.subtitle.SubtitleSet.create(
                f"{number},0,Default,,0,0,0,,{text}".encode(), 0, round(1000 * (end_s - start_s))
            )
            line = track.codec_context.encode_subtitle(shown)
            line.pts = line.dts = round(start_s * 1000)
            line.duration, line.time_base = round(1000 * (end_s - start_s)), Fraction(1, 1000)
            line.stream = track
            target.mux(line)
    return out


def subtitles_of(path: Path) -> list[tuple[float, float, str]]:
    with av.open(str(path)) as container:
        track = container.streams.subtitles[0]
        found = []
        for packet in container.demux(track):
            shown = track.decode2(packet) if packet.size else None
            if shown is not None and len(shown):
                text = shown[0].ass.decode().split(",", 8)[8]  # type: ignore[attr-defined]
                start = packet.pts * track.time_base
                found.append((float(start), float(start + packet.duration * track.time_base), text))
        return found


LINES = [(0.2, 0.4, "Grüß Gott"), (0.5, 0.8, "two, with a comma")]


def edit(path: Path, edits: Sequence[tuple[float, float]]) -> Path:
    """Replace every track's edit list: (first second, length) of each part that is shown.

    `moov` must lie last, and each track must have an edit list.
    """
    data = path.read_bytes()
    clock = 0

    def inside(data: bytes, ticks: int) -> bytes:
        nonlocal clock
        out, at = b"", 0
        while at < len(data):
            size, kind = struct.unpack_from(">I4s", data, at)
            whole = data[at : at + size]
            if kind == b"mvhd":
                clock = struct.unpack_from(">I", whole, 20)[0]
                length = round(sum(length for _, length in edits) * clock)
                whole = whole[:24] + struct.pack(">I", length) + whole[28:]
            elif kind == b"trak":
                mdhd = whole.index(b"mdhd") - 4
                body = inside(whole[8:], struct.unpack_from(">I", whole, mdhd + 20)[0])
                whole = box(kind, body)
            elif kind == b"elst":
                delay = struct.unpack_from(">i", whole, 20)[0]  # of the encoder
                rows = b"".join(
                    struct.pack(">IiI", round(n * clock), round(t * ticks) + delay, 65536)
                    for t, n in edits
                )
                whole = box(kind, struct.pack(">II", 0, len(edits)) + rows)
            elif kind in (b"moov", b"edts"):
                whole = box(kind, inside(whole[8:], ticks))
            out, at = out + whole, at + size
        return out

    path.write_bytes(inside(data, 0))
    return path
