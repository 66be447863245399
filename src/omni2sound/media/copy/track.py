"""The picture track of a copy, and its name in mp4 and mov.

In:   the source's track.
Out:  a track of the output for the same packets.

Tags say more than the codec does: which ProRes it is (apco, ap4h), which XDCAM, where H.264 has
its parameter sets (avc1, avc3). FFmpeg's muxers write one tag for each codec unless told another;
the source's is kept where the new container knows it.

An HEVC track is called "hvc1", as Apple's players want it, or "hev1". "hvc1" promises that all
parameter sets (VPS, SPS, PPS) stand in the header, and FFmpeg's muxer then drops those between
the pictures of a bare stream. Parts that were encoded differently and joined have sets of their
own: without them their pictures can't be decoded. (ISO/IEC 14496-15, 8.4.1; ITU-T H.265,
7.4.2.2.)
"""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from omni2sound.media.files import TAGS, open_input, read_packets, shown_name

logger = logging.getLogger(__name__)

_FIRST_NO_SLICE = 32
_PARAMETER_SETS = range(32, 35)
_HVCC_BYTES = 23
"""Of an hvcC header, up to its arrays of parameter sets."""
_START = b"\0\0\1"


def copy_track(in_stream: VideoStream, target: OutputContainer, path: Path) -> VideoStream:
    """Add a track for the packets of another one.

    Args:
        in_stream: The source's track.
        target: The output; its header is not yet written.
        path: The source.
    """
    out_stream = target.add_stream_from_template(in_stream, opaque=True)
    if in_stream.average_rate and target.format.name in ("matroska", "webm"):
        # Without it, readers guess a rate from the codec's header.
        out_stream.codec_context.framerate = Fraction(in_stream.average_rate)
    if in_stream.sample_aspect_ratio:  # Matroska keeps it beside the codec, not in it
        out_stream.codec_context.sample_aspect_ratio = in_stream.sample_aspect_ratio
    if tag := _kept_codec_tag(in_stream, target):
        out_stream.codec_context.codec_tag = tag
    if in_stream.codec_context.codec.canonical_name == "hevc":
        _set_hevc_tag(in_stream, out_stream, target, path)
    return out_stream


def _set_hevc_tag(
    in_stream: VideoStream, out_stream: VideoStream, target: OutputContainer, path: Path
) -> None:
    """Name the HEVC track of an mp4 or mov as Apple's players want it, unless that loses pictures.

    With "hvc1", FFmpeg's muxer drops parameter sets that stand between pictures.
    """
    container_format = target.format.name
    if container_format not in ("mp4", "mov"):
        return
    tag = _hevc_tag(path, in_stream)
    if tag == "hvc1" and in_stream.codec_context.codec_tag == "dvh1" and container_format == "mp4":
        tag = "dvh1"
    out_stream.codec_context.codec_tag = tag
    if tag == "hev1":
        logger.warning(
            "%s: has HEVC parameters between the pictures that its header lacks, so the copy's tag "
            "is hev1, which Apple's players may refuse",
            shown_name(path),
        )


def _hevc_tag(path: Path, stream: VideoStream) -> str:
    """Choose the tag of an HEVC track: "hvc1" if its header has all parameter sets, else "hev1".

    Args:
        path: The source, which is read once more.
        stream: Its HEVC track.
    """
    header = bytes(stream.codec_context.extradata or b"")
    is_bare = header[:3] == bytes(3) or header[:3] == _START
    known = set(_bare_units(header) if is_bare else _header_units(header))
    if not any(_kind(unit) in _PARAMETER_SETS for unit in known):
        return "hev1"
    num_length_bytes = 0 if is_bare else (header[21] & 3) + 1
    with open_input(path) as source:
        for packet in read_packets(source, source.streams[stream.index]):
            data = bytes(packet)
            units = _bare_units(data) if is_bare else _sized_units(data, num_length_bytes)
            for unit in units:
                if _kind(unit) < _FIRST_NO_SLICE:  # parameter sets stand before the slices
                    break
                if _kind(unit) in _PARAMETER_SETS and unit not in known:
                    return "hev1"
    return "hvc1"


def _kind(unit: bytes) -> int:
    return unit[0] >> 1 & 63


def _bare_units(data: bytes) -> Iterator[bytes]:
    """Yield what stands between start codes."""
    begin = data.find(_START)
    while begin >= 0:
        begin += len(_START)
        end = data.find(_START, begin)
        if unit := data[begin : end if end >= 0 else None].rstrip(b"\0"):
            yield unit
        begin = end


def _sized_units(data: bytes, num_length_bytes: int) -> Iterator[bytes]:
    """Yield what stands behind lengths."""
    at = 0
    while at + num_length_bytes < len(data):
        begin = at + num_length_bytes
        at = begin + int.from_bytes(data[at:begin], "big")
        if unit := data[begin:at].rstrip(b"\0"):
            yield unit


def _header_units(header: bytes) -> Iterator[bytes]:
    """Yield the units of an hvcC header."""
    at = _HVCC_BYTES
    try:
        for _ in range(header[_HVCC_BYTES - 1] if len(header) >= _HVCC_BYTES else 0):
            (num_units,) = struct.unpack_from(">H", header, at + 1)
            at += 3
            for _ in range(num_units):
                (size,) = struct.unpack_from(">H", header, at)
                if unit := header[at + 2 : at + 2 + size].rstrip(b"\0"):
                    yield unit
                at += 2 + size
    except struct.error:  # cut off
        return


def _kept_codec_tag(stream: VideoStream, target: OutputContainer) -> str:
    """Return the source's tag; empty if it has none, or one that the container does not know.

    Of all tags, Matroska stores that of ProRes only; others in it are those of AVI.
    """
    container_format, tag = target.format.name, stream.codec_context.codec_tag
    is_prores = stream.codec_context.codec.canonical_name == "prores"
    is_kept = is_prores if container_format == "matroska" else container_format in ("mp4", "mov")
    is_quicktime = is_prores or "mp4" in stream.container.format.name
    if not is_kept or not is_quicktime or not tag.strip("\0"):
        return ""
    if tag.startswith("ai") and (stream.codec_context.extradata or b"").startswith(b"\1"):
        return ""  # FFmpeg writes no avcC beside a tag of AVC-Intra, where the file needs it
    try:
        with av.open(io.BytesIO(), "w", format=container_format, **TAGS) as trial:
            copy = trial.add_stream_from_template(stream, opaque=True)
            copy.codec_context.codec_tag = tag
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return ""
    return tag
