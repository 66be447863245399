"""Data beside the packets of a picture: what a source has, and what of it a copy has kept.

In:   an open video; its copy.
Out:  boxes for the copy, words for what is missing in it.

Nothing is taken on trust: the finished file is opened again and compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from omni2sound.media.copy.boxes import (
    KINDS,
    OF_THE_CODEC,
    add_boxes,
    boxes_of_entry,
    boxes_of_stream,
    quicktime_tags,
    read_moov,
    text_value,
)
from omni2sound.media.copy.display_size import write_pixel_aspect
from omni2sound.media.copy.picture_data import boxes_of_picture
from omni2sound.media.copy.tags import kept_tags
from omni2sound.media.files import TAGS

_DOLBY_ENTRIES = ("dvh1", "dvhe", "dva1", "dvav")
_ASPECT_ROUNDING = Fraction(1, 50)
"""Matroska stores the size of the picture on screen in whole pixels."""
_STEREO = frozenset((b"st3d", b"vexu"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """What a picture track has beside its packets."""

    boxes: dict[bytes, bytes] = field(default_factory=dict)
    """Boxes of `KINDS` by kind."""
    quicktime: dict[str, bytes] = field(default_factory=dict)
    """QuickTime's tags as stored."""
    has_alpha: bool = False
    """Alpha is stored beside the packets (VP8 and VP9); other codecs have it inside."""
    language: str = ""
    num_chapters: int = 0
    codec_tag: str = ""
    """Name of the sample entry of mp4 and mov, which Matroska stores for ProRes."""
    pixel_aspect: Fraction = Fraction(1)
    """Width of a stored pixel over its height."""

    def without_codec(self) -> Beside:
        """Return what stays true when the pictures are encoded again."""
        kept = {k: box for k, box in self.boxes.items() if k not in OF_THE_CODEC}
        return replace(self, boxes=kept, codec_tag="", pixel_aspect=Fraction(1))

    @property
    def words(self) -> set[str]:
        """Names of what is there."""
        kinds = {KINDS[kind] for kind in self.boxes}
        kinds |= {"alpha"} if self.has_alpha else set()
        kinds |= {"chapters"} if self.num_chapters else set()
        return kinds | ({f"language {self.language}"} if self.language else set())


def read_beside(
    path: Path, container: InputContainer, stream: VideoStream, first: VideoFrame | None = None
) -> Beside:
    """Read what a picture track has beside its packets.

    Args:
        path: The file.
        container: The same, open.
        stream: The track.
        first: Its first picture, whose HDR data counts where the header has none.
    """
    quicktime: dict[str, bytes] = {}
    if "mp4" in container.format.name:
        # The file's own bytes: FFmpeg reads some of the boxes in part, others not at all.
        moov = read_moov(path)
        boxes, quicktime = boxes_of_entry(moov, stream.id), quicktime_tags(moov)
    else:
        boxes = boxes_of_stream(stream)
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    language = tags.get("language", "")
    return Beside(
        boxes=({} if first is None else boxes_of_picture(first)) | boxes,
        quicktime=quicktime,
        has_alpha=has_alpha(stream),
        language="" if language == "und" else language,
        num_chapters=len(container.chapters()),
        codec_tag=_codec_tag(container, stream),
        pixel_aspect=Fraction(stream.sample_aspect_ratio or 1),
    )


def has_alpha(stream: Any) -> bool:
    """Whether the track's alpha lies beside its packets, where mp4 and mov have no place."""
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    return tags.get("alpha_mode") == "1" and stream.codec_context.name in (
        "vp8", "vp9", "libvpx", "libvpx-vp9",
    )  # fmt: skip


def complete(
    path: Path, container_format: str, beside: Beside, tags: dict[str, str], keys: set[str]
) -> None:
    """Add to a closed file what FFmpeg did not write.

    Args:
        path: The file.
        container_format: Its format by FFmpeg's name.
        beside: Of the source.
        tags: All tags of the copy.
        keys: Those of them that belong under `moov/meta`.
    """
    with av.open(f"file:{path}", **TAGS) as copy:
        picture = copy.streams.video[0]
        track_id, codec_tag = picture.id, picture.codec_context.codec_tag
        is_squeezed = _is_squeezed(beside, Fraction(picture.sample_aspect_ratio or 1))
    if container_format not in ("mp4", "mov"):
        if is_squeezed and beside.pixel_aspect != 1:
            write_pixel_aspect(path, beside.pixel_aspect)
        return
    entry = beside.codec_tag
    values = {key: beside.quicktime.get(key) or text_value(tags[key]) for key in sorted(keys)}
    entry_kind = entry.encode() if entry in _DOLBY_ENTRIES and entry != codec_tag else None
    if beside.boxes or values or entry_kind:
        add_boxes(
            path,
            track_id=track_id,
            entry_boxes=beside.boxes,
            entry_kind=entry_kind,
            tags=values,
            is_quicktime=container_format == "mov",
        )


class Loss(NamedTuple):
    """Something of a source that is not in its copy."""

    words: str
    is_in_matroska: bool = True
    """Whether a copy to Matroska would have it."""


def find_losses(
    path: Path, beside: Beside, tags: Iterable[str], *, encoded: bool = False
) -> list[Loss]:
    """Open a copy again and name what of its source is not in it.

    Args:
        path: The copy.
        beside: Of the source.
        tags: Names of the tags that the copy should have.
        encoded: Its pictures were encoded again, which keeps their shape in some other way.
    """
    with av.open(f"file:{path}", **TAGS) as copy:
        found = read_beside(path, copy, copy.streams.video[0])
        # A projection that Matroska holds has no vexu box, but says the same.
        kinds = set(beside.boxes) - set(found.boxes)
        if found.boxes.keys() & _STEREO:
            kinds -= _STEREO
        lost = {KINDS[kind] for kind in kinds} - found.words
        if beside.has_alpha and not found.has_alpha:
            lost.add("alpha")
        if beside.num_chapters and not found.num_chapters:
            lost.add("chapters")
        if beside.language and not found.language:
            lost.add(f"language {beside.language}")
        if not encoded and _is_squeezed(beside, found.pixel_aspect):
            lost.add(f"pixel aspect {beside.pixel_aspect}")
        is_renamed = not encoded and _is_renamed(beside.codec_tag, found.codec_tag)
        there = {key.lower() for key in copy.metadata}
    missing = [key for key in kept_tags(dict.fromkeys(tags, "")) if key.lower() not in there]
    losses = [Loss(words) for words in sorted(lost)]
    if is_renamed:
        losses.append(Loss(f"codec tag {beside.codec_tag}", is_in_matroska=False))
    return losses + [Loss(f"tag {key}") for key in missing]


def _is_squeezed(beside: Beside, pixel_aspect: Fraction) -> bool:
    return abs(pixel_aspect / beside.pixel_aspect - 1) > _ASPECT_ROUNDING


def _codec_tag(container: InputContainer, stream: VideoStream) -> str:
    tag = stream.codec_context.codec_tag.strip("\0")
    is_prores = stream.codec_context.codec.canonical_name == "prores"
    return tag if is_prores or "mp4" in container.format.name else ""


def _is_renamed(before: str, after: str) -> bool:
    """Whether a copy has another sample entry than its source."""
    # mp4v is all MPEG-4, MPEG-2 and JPEG pictures of an mp4; HEVC is renamed on purpose.
    names = {before, after}
    return len(names) == 2 and not names & {"", "mp4v", "hvc1", "hev1"}
