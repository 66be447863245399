"""Pictures encoded again, for containers that a copy of the packets does not fit.

In:   the pictures that are shown, with their times; an open output.
Out:  packets of H.264 (mp4, mov), AV1 (mkv) or VP9 (webm) with exactly those times.

Rotation and mirroring are applied to the pixels, so that no player has to. Chroma is stored at
half size, as all players expect; RGB is converted by BT.709, and tagged. Alpha and depth stay
where the codec has them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise, takewhile
from typing import Any

import av
from av.container import OutputContainer
from av.filter import Graph
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from omni2sound.media.copy.beside import Loss
from omni2sound.media.copy.picture_data import lost_when_encoded
from omni2sound.media.info import VideoStreamInfo
from omni2sound.media.samples import round_half_up
from omni2sound.media.streams import Orientation

_MIN_TICKS_PER_S = 10_000
_FALLBACK_TICKS_PER_S = 90_000
_MAX_TICKS_PER_S = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoCodec:
    """One way to encode pictures."""

    name: str
    pixel_formats: tuple[str, ...]
    """8 bits first; then, where the encoder has them, 10 bits and alpha."""
    options: Mapping[str, str]


# Qualities are chosen: hardly to be told from the source, at a few times the speed of playing.
_H264 = VideoCodec(
    name="libx264",
    pixel_formats=("yuv420p", "yuv420p10le"),
    # Without B-frames each picture stands in the file as long as on screen, the last one too.
    options={"crf": "18", "preset": "medium", "bf": "0"},
)
_AV1 = VideoCodec(
    name="libsvtav1",
    pixel_formats=("yuv420p", "yuv420p10le"),
    options={"crf": "25", "preset": "8"},
)
_VP9 = VideoCodec(
    name="libvpx-vp9",
    pixel_formats=("yuv420p", "yuva420p"),
    options={"crf": "24", "b": "0", "row-mt": "1", "cpu-used": "4"},
)
CODECS: Mapping[str, VideoCodec] = {"mp4": _H264, "mov": _H264, "matroska": _AV1, "webm": _VP9}
"""By container, by FFmpeg's names."""


class Encoder:
    """One track of pictures that are encoded again."""

    def __init__(
        self,
        target: OutputContainer,
        in_stream: VideoStream,
        video: VideoStreamInfo,
    ) -> None:
        """Add the track to an output; call before its header.

        Args:
            target: The output.
            in_stream: The source's track.
            video: The same, from `probe`.
        """
        self.codec = CODECS[target.format.name]
        if self.codec is _AV1:
            os.environ.setdefault("SVT_LOG", "1")  # it prints its settings past FFmpeg's log
        source = in_stream.codec_context
        self.orientation = video.orientation
        self.pixel_format = self._choose_format(source.pix_fmt or "yuv420p")
        self.time_base = _time_base(Fraction(in_stream.time_base or 1))
        aspect, shown_width = video.pixel_aspect, source.width
        if target.format.name in ("matroska", "webm"):  # PyAV can't tell Matroska an aspect
            aspect, shown_width = Fraction(1), round_half_up(source.width * aspect)
        # 4:2:0 has no odd sizes.
        width, height = (max(2, -(-side // 2) * 2) for side in (shown_width, source.height))
        self.stored_size = (width, height)
        if self.orientation.transpose:
            width, height = height, width
        stream: Any = target.add_stream(
            self.codec.name, rate=video.average_fps, options=dict(self.codec.options)
        )
        stream.width, stream.height, stream.pix_fmt = width, height, self.pixel_format
        stream.time_base = stream.codec_context.time_base = self.time_base
        stream.codec_context.sample_aspect_ratio = (
            1 / aspect if self.orientation.transpose else aspect
        )
        for name in ("color_primaries", "color_trc", "colorspace", "color_range"):
            setattr(stream.codec_context, name, getattr(source, name))
        form = av.VideoFormat(source.pix_fmt or "yuv420p")
        self.is_rgb = form.is_rgb or form.name == "pal8"  # a palette of RGB
        if self.is_rgb:  # has no luma and chroma yet
            stream.codec_context.colorspace = Colorspace.ITU709
            stream.codec_context.color_range = ColorRange.MPEG
        self.stream: VideoStream = stream
        self.drops_alpha = has_alpha_channel(source.pix_fmt) and not has_alpha_channel(
            self.pixel_format
        )
        self.is_transparent = False
        """Whether a picture so far has alpha that the codec does not hold."""
        self.encoded: list[Fraction] = []
        """Times of the pictures so far, in seconds of the output."""

    def packets(
        self, pictures: Iterator[tuple[Fraction, VideoFrame]], *, start_s: Fraction, end_s: Fraction
    ) -> Iterator[Packet[VideoStream]]:
        """Encode.

        Args:
            pictures: (second, picture), rising; those at or after the end are left out.
            start_s: Added to each time.
            end_s: The last picture stands up to here, on the same clock as the first.
        """
        ticks: dict[int, int] = {}
        graph: Graph | None = None
        shown = takewhile(lambda picture: picture[0] < end_s, pictures)
        timed = chain(shown, [(end_s, None)])
        for (time, frame), (following, _) in pairwise(timed):
            assert frame is not None
            begin, end = (round_half_up((t + start_s) / self.time_base) for t in (time, following))
            if end <= begin:
                continue
            if self.drops_alpha and not self.is_transparent:
                self.is_transparent = is_transparent(frame)
            self.encoded.append(begin * self.time_base)
            frame = frame.reformat(
                *self.stored_size,
                format=self.pixel_format,
                dst_colorspace=Colorspace.ITU709 if self.is_rgb else None,
                dst_color_range=ColorRange.MPEG if self.is_rgb else None,
            )
            if self.orientation != Orientation():
                graph = graph or _turning(frame, self.orientation, self.time_base)
                graph.push(frame)
                frame = graph.pull()  # type: ignore[assignment]
            frame.pts, frame.time_base = begin, self.time_base
            frame.pict_type = 0  # the encoder chooses key frames
            ticks[begin] = end - begin
            yield from self._timed(self.stream.encode(frame), ticks)
        yield from self._timed(self.stream.encode(None), ticks)

    def _timed(
        self, packets: list[Packet[VideoStream]], ticks: dict[int, int]
    ) -> Iterator[Packet[VideoStream]]:
        for packet in packets:
            if packet.pts is not None:
                packet.duration = ticks.pop(packet.pts, 0)
            yield packet

    def _choose_format(self, source: str) -> str:
        form = av.VideoFormat(source)
        if has_alpha_channel(source):
            with_alpha = [name for name in self.codec.pixel_formats if "yuva" in name]
            if with_alpha:
                return with_alpha[0]
        if max(component.bits for component in form.components) > 8:
            return next((n for n in self.codec.pixel_formats if "10" in n), "yuv420p")
        return self.codec.pixel_formats[0]

    def losses(self, in_stream: VideoStream, first: VideoFrame | None) -> list[Loss]:
        """Name what the codec does not hold, once all pictures are encoded.

        Args:
            in_stream: The source's track.
            first: Its first picture.
        """
        form = av.VideoFormat(in_stream.codec_context.pix_fmt or "yuv420p")
        own = av.VideoFormat(self.pixel_format)
        lost = [] if first is None else lost_when_encoded(first)
        if self.is_transparent:
            lost.append("alpha")
        bits = max(component.bits for component in form.components)
        if bits > max(component.bits for component in own.components):
            lost.append(f"{bits} bits")
        return [Loss(words) for words in lost]


def has_alpha_channel(pixel_format: str | None) -> bool:
    """Whether a pixel format has room for alpha; palettes have."""
    components = av.VideoFormat(pixel_format).components if pixel_format else ()
    return pixel_format == "pal8" or any(component.is_alpha for component in components)


def is_transparent(frame: VideoFrame) -> bool:
    """Whether a pixel of a picture lets anything show through."""
    opaque = 255
    return has_alpha_channel(frame.format.name) and bool(
        (frame.reformat(format="rgba").to_ndarray()[..., 3] < opaque).any()
    )


def _time_base(source: Fraction) -> Fraction:
    """A clock of whole ticks a second that has every tick of the source's."""
    ticks = source.denominator
    if not 0 < ticks <= _MAX_TICKS_PER_S:
        return Fraction(1, _FALLBACK_TICKS_PER_S)
    while ticks < _MIN_TICKS_PER_S:
        ticks *= 2
    return Fraction(1, ticks)


def _turning(frame: VideoFrame, orientation: Orientation, time_base: Fraction) -> Graph:
    graph = Graph()
    nodes = [
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=time_base
        )
    ]
    if orientation.transpose:
        nodes.append(graph.add("transpose", "cclock_flip"))  # rows and columns change places
    if orientation.flip_rows:
        nodes.append(graph.add("vflip"))
    if orientation.flip_columns:
        nodes.append(graph.add("hflip"))
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    return graph
