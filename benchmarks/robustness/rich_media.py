"""Damage to what lies beside the packets: tracks, subtitles, chapters, boxes, edit lists.

In:   a random generator, the whole files of `damaged_files`.
Out:  (file name, bytes), as the other kinds of damage give them.
"""

from __future__ import annotations

import random
import struct
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

_HEADER = (
    b"[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname, Fontsize\n"
    b"Style: Default,Arial,16\n\n[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, "
    b"MarginR, MarginV, Effect, Text\n\0"
)
_BOXES = (b"dvcC", b"dvvC", b"sv3d", b"st3d", b"mdcv", b"clli", b"vexu", b"lhvC", b"amve")
_made: dict[str, bytes] = {}


def rich(suffix: str) -> bytes:
    """A whole file with two sound tracks, subtitles, chapters, tags and an attached file."""
    if suffix not in _made:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"rich{suffix}"
            _write(path)
            _made[suffix] = path.read_bytes()
    return _made[suffix]


def _write(path: Path) -> None:
    in_webm, in_mp4 = path.suffix == ".webm", path.suffix in (".mp4", ".mov")
    with av.open(str(path), "w") as container:
        container.metadata.update(
            {"title": "a film", "comment": "mine", "workflow": '{"nodes": []}'}
        )
        picture: Any = container.add_stream("libvpx-vp9" if in_webm else "libx264", rate=25)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        picture.codec_context.thread_count = 1
        sounds: list[Any] = []
        for language, default in (("eng", Disposition.default), ("deu", Disposition(0))):
            sound: Any = container.add_stream("libopus" if in_webm else "aac", rate=48_000)
            sound.codec_context.layout = "mono"
            sound.metadata["language"], sound.disposition = language, default
            sounds.append(sound)
        codec = "webvtt" if in_webm else "mov_text" if in_mp4 else "ass"
        subtitles: Any = container.add_stream(codec)
        subtitles.codec_context.subtitle_header = _HEADER
        subtitles.codec_context.time_base = Fraction(1, 1000)
        if path.suffix == ".mkv":
            container.add_attachment("a.ttf", "application/x-truetype-font", bytes(100))
        container.set_chapters(
            [
                {"id": i, "start": 500 * i, "end": 500 * i + 500, "time_base": Fraction(1, 1000),
                 "metadata": {"title": f"part {i}"}}
                for i in (0, 1)
            ]
        )  # fmt: skip
        container.start_encoding()
        for i in range(30):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 8 * i, np.uint8))
            frame.pts, frame.time_base = i, Fraction(1, 25)
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        for i, sound in enumerate(sounds):
            tone_1N = (0.3 * np.sin(np.arange(57_600) * 0.05 * (i + 1))).astype(np.float32)[None]
            block = av.AudioFrame.from_ndarray(tone_1N, format="flt", layout="mono")
            block.sample_rate, block.pts, block.time_base = 48_000, 0, Fraction(1, 48_000)
            container.mux(sound.encode(block))
            container.mux(sound.encode(None))
        for i, text in enumerate(("one", "two")):
            line = subtitles.codec_context.encode_subtitle(
                av.subtitles.subtitle.SubtitleSet.create(
                    f"{i},0,Default,,0,0,0,,{text}".encode(), 0, 400
                )
            )
            line.pts = line.dts = 500 * i
            line.duration, line.time_base, line.stream = 400, Fraction(1, 1000), subtitles
            container.mux(line)


def rich_file(rng: random.Random, _: Any) -> tuple[str, bytes]:
    suffix = rng.choice((".mp4", ".mov", ".mkv", ".webm"))
    return f"rich{suffix}", rich(suffix)


def rich_flipped(rng: random.Random, _: Any) -> tuple[str, bytes]:
    suffix = rng.choice((".mp4", ".mov", ".mkv", ".webm"))
    data = bytearray(rich(suffix))
    # Headers lie last in mp4 and mov, first in mkv and webm.
    start, end = (data.rfind(b"moov"), len(data)) if suffix in (".mp4", ".mov") else (0, 3000)
    for _ in range(rng.choice((1, 3, 10, 30))):
        data[rng.randrange(start, min(end, len(data)))] ^= 1 << rng.randrange(8)
    return f"rich{suffix}", bytes(data)


def rich_truncated(rng: random.Random, _: Any) -> tuple[str, bytes]:
    suffix = rng.choice((".mkv", ".webm"))
    data = rich(suffix)
    return f"rich{suffix}", data[: rng.randrange(len(data) // 4, len(data))]


def odd_boxes(rng: random.Random, _: Any) -> tuple[str, bytes]:
    """Boxes of Dolby Vision, 360 degrees, HDR and stereo with any content and wrong sizes."""
    suffix = rng.choice((".mp4", ".mov"))
    added = b""
    for kind in rng.sample(_BOXES, rng.randrange(1, 4)):
        body = rng.randbytes(rng.choice((0, 1, 5, 24, 200)))
        size = 8 + len(body) + rng.choice((0, 0, 0, -4, 1, 2**20))
        added += struct.pack(">I4s", size % 2**32, kind) + body
    return f"rich{suffix}", _grow(
        rich(suffix), (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"), added
    )


def odd_tags(rng: random.Random, _: Any) -> tuple[str, bytes]:
    """QuickTime's tags with wrong counts, wrong numbers and values that are no text."""
    suffix = rng.choice((".mp4", ".mov"))
    keys = [rng.randbytes(rng.randrange(0, 30)) for _ in range(rng.randrange(0, 4))]
    names = b"".join(_box(b"mdta", b"com.apple." + key) for key in keys)
    items = b"".join(
        _box(struct.pack(">I", rng.choice((i, 0, 2**31))), _box(b"data", rng.randbytes(20)))
        for i, _ in enumerate(keys, 1)
    )
    count = rng.choice((len(keys), 0, 2**31, 2**32 - 1))
    meta = _box(
        b"meta",
        rng.choice((b"", bytes(4)))
        + _box(b"hdlr", bytes(8) + b"mdta" + bytes(13))
        + _box(b"keys", struct.pack(">II", 0, count) + names)
        + _box(b"ilst", items),
    )
    return f"rich{suffix}", _grow(rich(suffix), (b"moov",), meta)


def odd_edits(rng: random.Random, _: Any) -> tuple[str, bytes]:
    """Edit lists that begin anywhere, last any time and run at any speed."""
    suffix = rng.choice((".mp4", ".mov"))
    data = bytearray(rich(suffix))
    at = data.find(b"elst")
    while at >= 0:
        values = [rng.choice((0, 1, 500, 5000, 2**31 - 1)), rng.choice((-1, 0, 512, 9000, 2**30))]
        struct.pack_into(">IiI", data, at + 12, *values, rng.choice((65536, 65536, 0, 32768)))
        at = data.find(b"elst", at + 4)
    return f"rich{suffix}", bytes(data)


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _grow(data: bytes, parents: tuple[bytes, ...], added: bytes) -> bytes:
    """Append bytes inside the first box at `parents`; `moov` lies last."""
    out, at = b"", 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        whole = data[at : at + size]
        if parents and kind == parents[0]:
            head = {b"stsd": 16, b"avc1": 86}.get(kind, 8)
            body = whole[head:]
            body = _grow(body, parents[1:], added) if len(parents) > 1 else body + added
            whole = struct.pack(">I", head + len(body)) + whole[4:head] + body
            parents = ()
        out, at = out + whole, at + max(8, size)
    return out


KINDS: tuple[Callable[[random.Random, Any], tuple[str, bytes]], ...] = (
    rich_file, rich_flipped, rich_truncated, odd_boxes, odd_tags, odd_edits,
)  # fmt: skip
