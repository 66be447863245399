"""docs/reference/media.md: what a copy keeps, container by container, measured.

Run:    python -m tests.media.media_table
        writes the page; `tests/media/test_media_table.py` fails where it differs
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from omni2sound.errors import UserError
from omni2sound.media import mux, probe
from omni2sound.media.copy.boxes import boxes_of_entry, quicktime_tags, read_moov
from tests.media.clips import write_video
from tests.media.films import (
    DOLBY_8_4,
    LIGHT,
    LINES,
    MASTERING,
    SPHERE,
    STEREO,
    TO_ENTRY,
    add_subtitles,
    box,
    grow,
    subtitles_of,
    tone,
    write_film,
)

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "media.md"
SUFFIXES = (".mp4", ".mov", ".mkv", ".webm")

TEXT = """# What a copy of a video keeps

`omni2sound generate clip.mp4` copies the picture packet by packet. The tables are made by running
each combination (`python -m tests.media.media_table`), and a test fails where they differ from this
page. What is not kept is named in one warning when the file is written.

## Pictures

*copied*: the same packets, decoded to the same pictures. *encoded*: refused, unless `--reencode`
encodes the picture again (H.264 in mp4 and mov, AV1 in mkv, VP9 in webm), each picture at the time
at which it was shown.

{pictures}

The new sound is AAC in mp4, PCM in mov, Opus in mkv and webm.

## Beside the pictures

*kept*: read back from the copy as it was. *named*: not in the copy, and the warning says so.
*words*: subtitles lose their styling, and the warning says so. *-*: the container holds no codec
that has it.

{beside}

The pictures are H.264 in mp4, mov and mkv (HEVC for HDR10 and Dolby Vision) and VP9 in webm. Text
subtitles become the one form that the container knows: mov_text in mp4 and mov, WebVTT in webm.
"""


@dataclass(frozen=True)
class Codec:
    """A picture codec, and a container that it comes in."""

    title: str
    encoder: str
    suffix: str
    pix_fmt: str = "yuv420p"


CODECS = (
    Codec("H.264", "libx264", ".mp4"),
    Codec("H.264, transport stream", "libx264", ".ts"),
    Codec("HEVC", "libx265", ".mp4"),
    Codec("VP8", "libvpx", ".webm"),
    Codec("VP9", "libvpx-vp9", ".webm"),
    Codec("AV1", "libsvtav1", ".mkv"),
    Codec("MPEG-4 part 2", "mpeg4", ".avi"),
    Codec("MPEG-2", "mpeg2video", ".ts"),
    Codec("ProRes 4444", "prores_ks", ".mov", "yuva444p10le"),
    Codec("Motion JPEG", "mjpeg", ".avi", "yuvj420p"),
    Codec("QuickTime Animation", "qtrle", ".mov", "rgb24"),
    Codec("FFV1", "ffv1", ".mkv"),
    Codec("GIF", "gif", ".gif", "rgb8"),
    Codec("raw", "rawvideo", ".avi", "bgr24"),
)


@contextmanager
def warnings() -> Iterator[list[str]]:
    """Collect what the package warns of."""
    found: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler = Collect(logging.WARNING)
    logger = logging.getLogger("omni2sound")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def decoded(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        return [frame.to_ndarray(format="rgba").tobytes() for frame in frames]


def picture_cell(source: Path, suffix: str) -> str:
    out = source.with_name(f"out{suffix}")
    try:
        mux(source, tone(440), out, overwrite=True)
    except UserError:
        mux(source, tone(440), out, overwrite=True, reencode=True)
        assert len(decoded(out)) == len(decoded(source))
        return "encoded"
    return "copied" if decoded(out) == decoded(source) else "**changed**"


def pictures_table(folder: Path) -> Iterator[list[str]]:
    for codec in CODECS:
        options = {"x265-params": "log-level=none"} if codec.encoder == "libx265" else {}
        source = write_video(
            folder / f"in{codec.suffix}", ticks=range(10), time_base=Fraction(1, 25),
            codec=codec.encoder, pix_fmt=codec.pix_fmt, size=(64, 64), options=options,
        )  # fmt: skip
        yield [codec.title, *(picture_cell(source, suffix) for suffix in SUFFIXES)]


Make = Callable[[Path, str], Path]
Check = Callable[[Path], bool]


@dataclass(frozen=True)
class Feature:
    """Something that lies beside the pictures."""

    title: str
    make: Make
    """(folder, encoder) -> video"""
    check: Check
    encoders: tuple[str, str] = ("libx264", "libvpx-vp9")
    """For mp4, mov and mkv; for webm, "" where it holds none that has it."""


def boxed(added: bytes) -> Make:
    def make(folder: Path, encoder: str) -> Path:
        options = {"x265-params": "log-level=none"} if encoder == "libx265" else {}
        path = write_video(
            folder / "in.mp4", ticks=range(10), time_base=Fraction(1, 25), codec=encoder,
            size=(64, 64), options=options,
        )  # fmt: skip
        with av.open(str(path)) as container:
            entry = container.streams.video[0].codec_context.codec_tag
        return grow(path, (*TO_ENTRY, entry.encode()), added)

    return make


def has_boxes(*kinds: bytes) -> Check:
    def check(out: Path) -> bool:
        if out.suffix not in (".mp4", ".mov"):
            again = out.with_name("again.mp4")
            mux(out, tone(440), again, overwrite=True)
            out = again
        return set(kinds) <= set(boxes_of_entry(read_moov(out), 1))

    return check


def prepared(prepare: Callable[[Any], None], suffix: str = ".mp4") -> Make:
    def make(folder: Path, encoder: str) -> Path:
        return write_video(
            folder / f"in{suffix}", ticks=range(10), time_base=Fraction(1, 25), codec=encoder,
            prepare=prepare, container_options={"movflags": "use_metadata_tags"},
            size=(64, 64),
        )  # fmt: skip

    return make


def tagged(**tags: str) -> tuple[Make, Check]:
    def check(out: Path) -> bool:
        with av.open(str(out)) as container:
            found = {key.lower(): value for key, value in container.metadata.items()}
        return found | tags == found

    return prepared(lambda stream: stream.container.metadata.update(tags)), check


def set_rotation(stream: Any) -> None:
    stream.set_display_rotation(90)


def set_aspect(stream: Any) -> None:
    stream.codec_context.sample_aspect_ratio = Fraction(4, 3)


def set_colours(stream: Any) -> None:
    context = stream.codec_context
    context.color_primaries, context.color_trc, context.colorspace = 9, 16, 9


def has_rotation(out: Path) -> bool:
    video = probe(out).video
    return video is not None and video.rotation_deg != 0


def has_aspect(out: Path) -> bool:
    video = probe(out).video
    # Matroska stores the size of the picture on screen in whole pixels.
    return video is not None and abs(video.pixel_aspect - Fraction(4, 3)) < Fraction(1, 64)


def has_colours(out: Path) -> bool:
    with av.open(str(out)) as container:
        context = container.streams.video[0].codec_context
        return (context.color_primaries, context.color_trc, context.colorspace) == (9, 16, 9)


def set_alpha(stream: Any) -> None:
    stream.metadata["alpha_mode"] = "1"


def has_alpha(out: Path) -> bool:
    with av.open(str(out)) as container:
        tags = container.streams.video[0].metadata
        return {key.lower(): value for key, value in tags.items()}.get("alpha_mode") == "1"


def prores_4444(folder: Path, encoder: str) -> Path:
    return write_video(
        folder / "in.mov", ticks=range(10), time_base=Fraction(1, 25), codec=encoder,
        pix_fmt="yuva444p10le", size=(64, 64),
    )  # fmt: skip


def has_alpha_inside(out: Path) -> bool:
    with av.open(str(out)) as container:
        return "yuva" in (container.streams.video[0].codec_context.pix_fmt or "")


def set_language(stream: Any) -> None:
    stream.metadata["language"] = "deu"


def has_language(out: Path) -> bool:
    with av.open(str(out)) as container:
        return container.streams.video[0].language in ("deu", "ger")


def subtitled(codec: str, suffix: str) -> Make:
    def make(folder: Path, encoder: str) -> Path:
        return add_subtitles(write_film(folder / f"in{suffix}", codec=encoder), LINES, codec)

    return make


def has_subtitles(out: Path) -> bool:
    with av.open(str(out)) as container:
        if not container.streams.subtitles:
            return False
    return [text for *_, text in subtitles_of(out)] == [text for *_, text in LINES]


def has_chapters(out: Path) -> bool:
    with av.open(str(out)) as container:
        return [c["metadata"]["title"] for c in container.chapters()] == ["part 0", "part 1"]


def attached(name: str, kind: str) -> Make:
    def make(folder: Path, encoder: str) -> Path:
        picture = write_video(
            folder / "cover.png", ticks=[0], codec="png", pix_fmt="rgb24", size=(8, 8),
            container_format="image2pipe",
        ).read_bytes()  # fmt: skip
        path = folder / "in.mkv"
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream(encoder, rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            container.add_attachment(name, kind, picture)
            for number in range(10):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return make


def has_cover(out: Path) -> bool:
    with av.open(str(out)) as container:
        return any(s.disposition & Disposition.attached_pic for s in container.streams)


def has_file(out: Path) -> bool:
    with av.open(str(out)) as container:
        return any(stream.type == "attachment" for stream in container.streams)


def with_quicktime_tags(folder: Path, encoder: str) -> Path:
    key = b"com.apple.quicktime.location.ISO6709"
    value = box(b"data", struct.pack(">II", 1, 0) + b"+48.2082+016.3738/")
    meta = box(
        b"meta",
        bytes(4)
        + box(b"hdlr", bytes(8) + b"mdta" + bytes(13))
        + box(b"keys", struct.pack(">II", 0, 1) + box(b"mdta", key))
        + box(b"ilst", box(struct.pack(">I", 1), value)),
    )
    return grow(write_film(folder / "in.mp4", codec=encoder), (b"moov",), meta)


def has_quicktime_tags(out: Path) -> bool:
    if out.suffix in (".mp4", ".mov"):
        return len(quicktime_tags(read_moov(out))) == 1
    with av.open(str(out)) as container:
        return any(key.lower().startswith("com.apple") for key in container.metadata)


HDR_CODECS = ("libx265", "libvpx-vp9")
FEATURES = (
    Feature("rotation", prepared(set_rotation, ".mov"), has_rotation, ("libx264", "")),
    Feature("pixel aspect", prepared(set_aspect), has_aspect),
    Feature("colour space", prepared(set_colours), has_colours),
    Feature("HDR10 (mastering data, light level)", boxed(MASTERING + LIGHT),
            has_boxes(b"mdcv", b"clli"), HDR_CODECS),
    Feature("Dolby Vision", boxed(DOLBY_8_4), has_boxes(b"dvvC"), ("libx265", "")),
    Feature("360-degree projection", boxed(SPHERE), has_boxes(b"sv3d")),
    Feature("stereo layout", boxed(STEREO), has_boxes(b"st3d")),
    Feature("alpha of VP8 and VP9", prepared(set_alpha, ".webm"), has_alpha,
            ("libvpx-vp9", "libvpx-vp9")),
    Feature("alpha of ProRes", prores_4444, has_alpha_inside, ("prores_ks", "")),
    Feature("title, artist, comment", *tagged(title="a", artist="b", comment="c")),
    Feature("other tags (ComfyUI's `prompt`, `workflow`)", *tagged(prompt="{}", workflow="[]")),
    Feature("QuickTime's tags", with_quicktime_tags, has_quicktime_tags),
    Feature("language of the picture", prepared(set_language), has_language),
    Feature("chapters", subtitled("mov_text", ".mp4"), has_chapters),
    Feature("subtitles: SubRip", subtitled("subrip", ".mkv"), has_subtitles),
    Feature("subtitles: ASS", subtitled("ass", ".mkv"), has_subtitles),
    Feature("subtitles: WebVTT", subtitled("webvtt", ".webm"), has_subtitles,
            ("libvpx-vp9", "libvpx-vp9")),
    Feature("subtitles: mov_text", subtitled("mov_text", ".mp4"), has_subtitles),
    Feature("cover picture", attached("cover.png", "image/png"), has_cover),
    Feature("attached files", attached("a.ttf", "application/x-truetype-font"), has_file),
)  # fmt: skip


def beside_cell(feature: Feature, suffix: str, folder: Path) -> str:
    encoder = feature.encoders[suffix == ".webm"]
    if not encoder:
        return "-"
    source = feature.make(folder, encoder)
    out = folder / f"out{suffix}"
    with warnings() as said:
        try:
            mux(source, tone(440), out, overwrite=True)
        except UserError:
            return "-"
    is_there = feature.check(out)
    is_named = any("not kept" in line for line in said)
    if is_there and not is_named:
        return "kept"
    if is_there and any("styling" in line for line in said):
        return "words"
    return "named" if is_named and not is_there else "**lost**"


def beside_table(folder: Path) -> Iterator[list[str]]:
    for feature in FEATURES:
        yield [feature.title, *(beside_cell(feature, suffix, folder) for suffix in SUFFIXES)]


def markdown(first: str, rows: Iterator[list[str]]) -> str:
    lines = [[first, *(suffix[1:] for suffix in SUFFIXES)], ["---"] * (1 + len(SUFFIXES)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page() -> str:
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        return TEXT.format(
            pictures=markdown("codec", pictures_table(folder)),
            beside=markdown("what", beside_table(folder)),
        )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
