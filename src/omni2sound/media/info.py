"""Media files: streams, lengths and formats, read from the packets.

In:   a path.
Out:  `MediaInfo`: exact times, the displayed size, codecs.

Headers lie (recorders that crashed, files cut by tools, files made to harm), packets less
so: start and duration come from one pass over the packets' timestamps, which reads the
file once and decodes one picture. The result is remembered until the file changes.
Second 0 of a file with a moving picture is the moment of its first picture.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from omni2sound.errors import MediaError
from omni2sound.media.files import (
    MAX_DURATION_S,
    MAX_PACKETS,
    MAX_PIXELS,
    open_input,
    read_packets,
    reading,
    shown_name,
)
from omni2sound.media.layouts import safe, stated_layout

logger = logging.getLogger(__name__)

MAX_STILL_S = 120
"""The longest that one picture of a video may stand. A longer gap is a damaged timestamp far
more often than a video, and would ask for hours of sound."""
_MAX_PACKETS_TO_FIRST_PICTURE = 300
_FALLBACK_FPS = 25
_MAX_FPS = 1000
_MAX_PIXEL_ASPECT = 16
_MISSING_S, _MISSING_SHARE = 0.5, 0.1
"""A file that ends earlier than its header says by this much (both) is reported as incomplete."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoStreamInfo:
    """The first moving picture of a file, or its only still one."""

    index: int
    """Stream index inside the container."""
    codec: str
    width_px: int
    """As displayed: after pixel aspect and rotation."""
    height_px: int
    """As displayed: after pixel aspect and rotation."""
    pixel_aspect: Fraction
    """Width of a stored pixel over its height."""
    orientation: Orientation
    average_fps: Fraction
    num_frames: int
    """Pictures that are shown; at least 1."""
    start_s: Fraction
    """Timestamp of the first picture, on the container's clock."""
    duration_s: Fraction
    """From the first picture to the end of the last one."""
    is_still: bool
    """One picture without a length of its own (png, jpeg, ...)."""
    has_pts: bool
    """False if the container stores no presentation times (avi with reordered pictures, bare
    streams); pictures then follow each other at `average_fps`."""

    @property
    def rotation_deg(self) -> int:
        """Clockwise rotation that was applied to get the shown size."""
        return self.orientation.rotation_deg


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioStreamInfo:
    """The first sound track of a file."""

    index: int
    """Stream index inside the container."""
    codec: str
    sample_rate_hz: int
    channels: int
    layout: str | None
    """What the channels are ("stereo", "3.0", "5.1(side)", ...); None: the file doesn't say."""
    start_s: Fraction
    """Timestamp of the first sample that is heard, on the container's clock."""
    duration_s: Fraction
    """To within one codec frame; `read_audio` knows it exactly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaInfo:
    """What `probe` found."""

    path: Path
    duration_s: Fraction
    """Length of the moving picture if there is one, else of the sound; 0 for a still picture."""
    video: VideoStreamInfo | None
    audio: AudioStreamInfo | None


def probe(path: str | os.PathLike[str]) -> MediaInfo:
    """Read the streams and lengths of a media file.

    Raises:
        MediaError: The file cannot be read, holds neither picture nor sound, none of its
            pictures can be decoded, or it is over a limit.
    """
    path = Path(path)
    with reading(path):
        status = path.stat()
    return _probe(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=32)
def _probe(path: Path, _size: int, _mtime_ns: int) -> MediaInfo:
    with open_input(path) as container:
        return _Scan(path, container).info()


class _Span:
    """Earliest start and latest end among the timestamps of one stream, in seconds."""

    def __init__(self, time_base: Fraction) -> None:
        self.time_base = time_base
        self.num_packets = 0
        self.has_pts = True
        self.first: int | None = None
        self.last: int | None = None
        self.last_duration = 0
        self.longest_gap = 0
        self._order: int | None = None

    def add(self, packet: Packet[Any]) -> None:
        order = packet.dts if packet.dts is not None else packet.pts
        if order is not None:
            if self._order is not None:
                self.longest_gap = max(self.longest_gap, abs(order - self._order))
            self._order = order
        if packet.is_discard:  # hidden by an edit list, needed to decode what follows
            return
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None:  # a bare stream without a container
            time = self.num_packets * (packet.duration or 0)
        self.has_pts = self.has_pts and packet.pts is not None
        self.num_packets += 1
        if self.first is None or time < self.first:
            self.first = time
        if self.last is None or time >= self.last:
            self.last, self.last_duration = time, packet.duration or 0

    def seconds(self, frame_s: Fraction) -> tuple[Fraction, Fraction]:
        """Start and end; `frame_s` stands in where the last packet has no usable duration."""
        assert self.first is not None
        assert self.last is not None
        last_s = self.last_duration * self.time_base
        if not 0 < last_s <= MAX_STILL_S:
            last_s = frame_s
        return self.first * self.time_base, self.last * self.time_base + last_s


class _Scan:
    """One pass over the packets of one file."""

    def __init__(self, path: Path, container: InputContainer) -> None:
        self.path = path
        self.name = shown_name(path)
        self.container = container
        self.video = next((s for s in container.streams.video if _is_picture(s)), None)
        self.audio = next((s for s in container.streams.audio if _is_sound(s)), None)
        # Asked before any decoding: PyAV 19 crashes where the decoder could not be opened
        # (findings/pyav19-name-crash.sh).
        self.codec_name = self.video.codec_context.name if self.video else ""
        self.picture: VideoFrame | None = None
        self.num_dropped = 0

    def info(self) -> MediaInfo:
        streams = [s for s in (self.video, self.audio) if s is not None]
        if not streams:
            raise MediaError(f"{self.name}: holds neither picture nor sound that can be decoded")
        spans = {s.index: _Span(Fraction(s.time_base or Fraction(1, 1000))) for s in streams}
        self._read_packets(streams, spans)
        video = self._video_info(self.video, spans[self.video.index]) if self.video else None
        audio = self._audio_info(self.audio, spans[self.audio.index]) if self.audio else None
        if all(s.duration is None for s in streams) and len(self.container.streams) == len(streams):
            # Matroska and FLV tell one duration for all; a stream that is not read may be longer.
            told_s = Fraction(self.container.duration or 0, av.time_base)
            ends_s = [x.start_s + x.duration_s for x in (video, audio) if x is not None]
            self._tell_missing(told_s, max(ends_s, default=told_s))
        if video is None and audio is None:
            raise MediaError(f"{self.name}: holds a header but no picture and no sound")
        if video is not None and not video.is_still:
            duration_s = video.duration_s
        else:
            duration_s = audio.duration_s if audio else Fraction(0)
        return MediaInfo(path=self.path, duration_s=duration_s, video=video, audio=audio)

    def _read_packets(
        self, streams: list[VideoStream | AudioStream], spans: Mapping[int, _Span]
    ) -> None:
        num_pictures = 0
        for num_before, packet in enumerate(read_packets(self.container, *streams)):
            if num_before == MAX_PACKETS:
                raise MediaError(f"{self.name}: more than {MAX_PACKETS} packets; cut it in parts")
            spans[packet.stream.index].add(packet)
            if packet.stream is self.video:
                num_pictures += 1
                if self.picture is None and num_pictures <= _MAX_PACKETS_TO_FIRST_PICTURE:
                    self._try_decode(packet)
            else:
                self.num_dropped += _dropped_samples(packet)
        if self.video is not None and self.picture is None:
            self._try_decode(None)

    def _try_decode(self, packet: Packet[Any] | None) -> None:
        assert self.video is not None
        try:
            frames = self.video.decode(packet)
        except (av.FFmpegError, ValueError):
            return
        if frames:
            self.picture = frames[0]

    def _video_info(self, stream: VideoStream, span: _Span) -> VideoStreamInfo | None:
        if span.num_packets == 0:
            if self.audio is None:
                raise MediaError(f"{self.name}: holds a video header but no pictures")
            return None
        if self.picture is None:
            raise MediaError(
                f"{self.name}: no picture can be decoded ({self.codec_name}); "
                "the file is damaged or starts without a key frame: re-encode it"
            )
        if self.picture.width * self.picture.height > MAX_PIXELS:
            raise MediaError(
                f"{self.name}: {self.picture.width}x{self.picture.height} pixels, "
                f"the limit is {MAX_PIXELS}; scale it down"
            )
        fps = _usable_fps(stream)
        if not span.has_pts and 0 < span.last_duration * span.time_base <= 1:
            fps = 1 / (span.last_duration * span.time_base)  # the decoder knows, the header not
        start_s, end_s = span.seconds(1 / fps)
        self._check_times(start_s, end_s, span.longest_gap * span.time_base)
        if stream.duration is not None:
            self._tell_missing(stream.duration * span.time_base, end_s - start_s)
        is_still = span.num_packets == 1 and (
            self.container.format.name.endswith("_pipe")
            or self.container.format.name in ("gif", "apng", "mjpeg")
        )
        is_avi = self.container.format.name == "avi"  # what it gives as pts is a guess from dts
        aspect = _usable_aspect(stream.sample_aspect_ratio)
        orientation = _orientation(self.picture)
        width, height = displayed_size(self.picture.width, self.picture.height, aspect, orientation)
        return VideoStreamInfo(
            index=stream.index,
            codec=stream.codec_context.codec.canonical_name,
            width_px=width,
            height_px=height,
            pixel_aspect=aspect,
            orientation=orientation,
            average_fps=fps,
            num_frames=span.num_packets,
            start_s=start_s,
            duration_s=Fraction(0) if is_still else end_s - start_s,
            is_still=is_still,
            has_pts=span.has_pts and not (is_avi and stream.codec_context.has_b_frames),
        )

    def _audio_info(self, stream: AudioStream, span: _Span) -> AudioStreamInfo | None:
        rate = stream.codec_context.sample_rate
        if span.num_packets == 0 or rate <= 0:
            return None
        start_s, end_s = span.seconds(Fraction(0))
        start_s = min(end_s, start_s + Fraction(self.num_dropped, rate))
        self._check_times(start_s, end_s, Fraction(0))
        layout = safe(stream.codec_context.layout)
        return AudioStreamInfo(
            index=stream.index,
            codec=stream.codec_context.codec.canonical_name,
            sample_rate_hz=rate,
            channels=layout.nb_channels,
            layout=stated_layout(layout)[0],
            start_s=start_s,
            duration_s=end_s - start_s,
        )

    def _tell_missing(self, told_s: Fraction, found_s: Fraction) -> None:
        if told_s <= MAX_DURATION_S and told_s - found_s > max(_MISSING_S, _MISSING_SHARE * told_s):
            logger.warning(
                "%s: ends after %.2f s of the %.2f s in its header; the file is incomplete, and "
                "what is there is used",
                self.name,
                found_s,
                told_s,
            )

    def _check_times(self, start_s: Fraction, end_s: Fraction, gap_s: Fraction) -> None:
        if gap_s > MAX_STILL_S:
            raise MediaError(
                f"{self.name}: timestamps jump by {float(gap_s):.0f} s, the limit is "
                f"{MAX_STILL_S} s; the file is damaged, or re-encode it at a constant frame rate"
            )
        if end_s - start_s > MAX_DURATION_S:
            raise MediaError(
                f"{self.name}: lasts {float(end_s - start_s):.0f} s, "
                f"the limit is {MAX_DURATION_S} s; cut it in parts"
            )


def displayed_size(
    width: int, height: int, aspect: Fraction, orientation: Orientation
) -> tuple[int, int]:
    """Stored size to shown (width, height): pixels are made square by stretching the width."""
    width = max(1, math.floor(width * aspect + Fraction(1, 2)))
    return (height, width) if orientation.transpose else (width, height)


def _is_picture(stream: VideoStream) -> bool:
    """Cover art inside a sound file is no video."""
    # PyAV types codec_context as always present; it is None where FFmpeg has no decoder.
    has_decoder = getattr(stream, "codec_context", None) is not None
    return has_decoder and not stream.disposition & av.stream.Disposition.attached_pic


def _is_sound(stream: AudioStream) -> bool:
    return getattr(stream, "codec_context", None) is not None


def _usable_fps(stream: VideoStream) -> Fraction:
    for rate in (stream.average_rate, stream.base_rate):
        if rate is not None and Fraction(1, MAX_STILL_S) <= rate <= _MAX_FPS:
            return Fraction(rate)  # PyAV 19 gives its own class
    return Fraction(_FALLBACK_FPS)


def _usable_aspect(aspect: Fraction | None) -> Fraction:
    """Files hold 0/1, 1/0 and nonsense here; such pixels count as square."""
    if aspect is None or not Fraction(1, _MAX_PIXEL_ASPECT) <= aspect <= _MAX_PIXEL_ASPECT:
        return Fraction(1)
    return Fraction(aspect)


def _orientation(frame: VideoFrame) -> Orientation:
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


def _dropped_samples(packet: Packet[Any]) -> int:
    """Samples that the decoder drops from the packet's start (encoder delay)."""
    if packet.is_discard or not packet.has_sidedata("skip_samples"):
        return 0
    return int(np.frombuffer(bytes(packet.get_sidedata("skip_samples")), dtype="<u4", count=1)[0])
