"""What one stream says of itself: whether it is to be seen or heard, its rate and its shape.

In:   PyAV's streams and frames.
Out:  values that can be relied upon; nonsense is replaced.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

_FALLBACK_FPS = 25
_MIN_FPS = Fraction(1, 120)
_MAX_FPS = 1000
_MAX_PIXEL_ASPECT = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Orientation:
    """How stored rows and columns become the shown picture: transpose first, then flips."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    @property
    def rotation_deg(self) -> int:
        """Clockwise rotation of the shown picture, one of 0, 90, 180, 270; mirrors ignored."""
        if self.transpose:
            return 270 if self.flip_rows else 90
        return 180 if self.flip_columns else 0


def displayed_size(
    width: int, height: int, aspect: Fraction, orientation: Orientation
) -> tuple[int, int]:
    """Stored size to shown (width, height): pixels are made square by stretching the width."""
    width = max(1, math.floor(width * aspect + Fraction(1, 2)))
    return (height, width) if orientation.transpose else (width, height)


def is_picture(stream: VideoStream) -> bool:
    """Whether a stream is to be seen; cover art inside a sound file is not."""
    # PyAV types codec_context as always present; it is None where FFmpeg has no decoder.
    has_decoder = getattr(stream, "codec_context", None) is not None
    return has_decoder and not stream.disposition & av.stream.Disposition.attached_pic


def is_sound(stream: AudioStream) -> bool:
    """Whether FFmpeg has a decoder for a sound track."""
    return getattr(stream, "codec_context", None) is not None


def usable_fps(stream: VideoStream) -> Fraction:
    """Pictures a second by the header; 25 if it says nothing of use."""
    for rate in (stream.average_rate, stream.base_rate):
        if rate is not None and _MIN_FPS <= rate <= _MAX_FPS:
            return Fraction(rate)  # PyAV 19 gives its own class
    return Fraction(_FALLBACK_FPS)


def usable_aspect(aspect: Fraction | None) -> Fraction:
    """Width of a pixel over its height; files hold 0/1, 1/0 and nonsense here, which count as 1."""
    if aspect is None or not Fraction(1, _MAX_PIXEL_ASPECT) <= aspect <= _MAX_PIXEL_ASPECT:
        return Fraction(1)
    return Fraction(aspect)


def orientation_of(frame: VideoFrame) -> Orientation:
    """Read the display matrix: a stored point (x, y) is shown at (ax + cy, bx + dy)."""
    # By key: iterating gives entries in PyAV 18, keys in PyAV 19.
    entries = cast("Mapping[SideDataType, bytes]", frame.side_data)
    matrix = bytes(entries.get(SideDataType.DISPLAYMATRIX, b""))
    if len(matrix) < 36:
        return Orientation()
    a, b, _, c, d = (int(value) for value in np.frombuffer(matrix, dtype=np.int32)[:5])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(flip_rows=d < 0, flip_columns=a < 0)
    return Orientation(transpose=True, flip_rows=b < 0, flip_columns=c < 0)
