"""What a decoded picture says besides its pixels, for pictures that are encoded again.

In:   the first picture of a track.
Out:  boxes for the sample entry of mp4 and mov; words for what is lost.

HEVC's encoders write HDR data into the pictures' packets (SEI), where a copy keeps it. (ISO/IEC
14496-12, 12.1.6 and 12.1.8: `clli`, `mdcv`; SMPTE ST 2086.)
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from fractions import Fraction
from typing import cast

from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from omni2sound.media.copy.boxes import box
from omni2sound.media.samples import round_half_up

_PER_CHROMATICITY = 50_000
_PER_NIT = 10_000
_DYNAMIC: Mapping[Type, str] = {
    Type.DYNAMIC_HDR_PLUS: "HDR10+ data",
    Type.DYNAMIC_HDR_VIVID: "HDR Vivid data",
    Type.DOVI_RPU_BUFFER: "Dolby Vision",
    Type.DOVI_METADATA: "Dolby Vision",
}


def boxes_of_picture(frame: VideoFrame) -> dict[bytes, bytes]:
    """Return HDR data of a picture as boxes of `boxes.KINDS`, whole, by kind."""
    data = _side_data(frame)
    found = {}
    if mastering := _mastering(bytes(data.get(Type.MASTERING_DISPLAY_METADATA, b""))):
        found[b"mdcv"] = box(b"mdcv", mastering)
    light = bytes(data.get(Type.CONTENT_LIGHT_LEVEL, b""))
    if len(light) >= 8:
        levels = (min(level, 0xFFFF) for level in struct.unpack_from("=II", light))
        found[b"clli"] = box(b"clli", struct.pack(">HH", *levels))
    return found


def lost_when_encoded(frame: VideoFrame) -> list[str]:
    """Name what a picture says and no encoder is told."""
    data = _side_data(frame)
    lost = list(dict.fromkeys(word for kind, word in _DYNAMIC.items() if kind in data))
    return [*lost, "interlacing"] if frame.interlaced_frame else lost


def _side_data(frame: VideoFrame) -> Mapping[Type, bytes]:
    entries = cast("Mapping[Type, bytes]", frame.side_data)
    # By key: iterating gives entries in PyAV 18, keys in PyAV 19.
    wanted = (*_DYNAMIC, Type.MASTERING_DISPLAY_METADATA, Type.CONTENT_LIGHT_LEVEL)
    found = {kind: entries.get(kind) for kind in wanted}
    return {kind: data for kind, data in found.items() if data is not None}


def _mastering(data: bytes) -> bytes:
    """Body of `mdcv` from FFmpeg's AVMasteringDisplayMetadata; empty if it doesn't say all."""
    # Pairs of ints: x and y of red, green, blue and white, least and most light.
    if len(data) < 88:
        return b""
    numbers = struct.unpack_from("=22i", data)
    pairs = list(zip(numbers[:20:2], numbers[1:20:2], strict=True))
    if not all(numbers[20:]) or not all(under > 0 <= over for over, under in pairs):
        return b""
    values = [Fraction(*pair) for pair in pairs]
    red, green, blue, white = (values[i : i + 2] for i in range(0, 8, 2))
    chromaticities = [round_half_up(v * _PER_CHROMATICITY) for v in green + blue + red + white]
    most, least = (round_half_up(v * _PER_NIT) for v in (values[9], values[8]))
    try:
        return struct.pack(">8H2I", *chromaticities, most, least)
    except struct.error:  # no light that there is
        return b""
