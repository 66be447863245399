"""Media files: streams, lengths and formats, read from the packets.

In:   a path.
Out:  `MediaInfo`: exact times, the displayed size, codecs.

Headers lie (recorders that crashed, files cut by tools, files made to harm), packets less
so: start and duration come from one pass over the packets' timestamps, which reads the
file once and decodes one picture and one block of sound. The result is remembered until the
file changes. What the times mean is settled in `media.timing`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from omni2sound.errors import MediaError
from omni2sound.media.files import (
    open_input,
    read_packets,
    reading,
    shown_name,
)
from omni2sound.media.layouts import safe, stated_layout
from omni2sound.media.limits.budgets import (
    MAX_DURATION_S,
    MAX_PACKETS,
    MAX_PICTURE_BYTES,
    MAX_PIXELS,
)
from omni2sound.media.limits.claims import too_large
from omni2sound.media.samples import round_half_up
from omni2sound.media.streams import (
    Orientation,
    displayed_size,
    is_picture,
    is_sound,
    orientation_of,
    usable_aspect,
    usable_fps,
)
from omni2sound.media.timing.clock_scan import ClockScan
from omni2sound.media.timing.edits import ticks_within
from omni2sound.media.timing.joined import refuse_joined, warn_new, warn_others
from omni2sound.media.timing.priming import OPUS_RATE_HZ, priming_left
from omni2sound.media.timing.programs import refuse_new_codec
from omni2sound.media.timing.timeline import Hidden, SoundSpan, Timeline, join
from omni2sound.media.timing.track_scan import MAX_UNTOLD_S, TrackScan
from omni2sound.readers import open_regular

logger = logging.getLogger(__name__)

_MAX_PACKETS_TO_FIRST_PICTURE = 300
_MAX_PACKETS_TO_FIRST_SOUND = 64
_MAX_LEAD_S = Fraction(1, 2)
_MISSING_S, _MISSING_SHARE = 0.5, 0.1
"""A file that ends earlier than its header says by this much (both) is reported as incomplete."""


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
    """When the first picture appears, on the container's clock."""
    duration_s: Fraction
    """From the first picture to the end of the last one."""
    last_s: Fraction
    """When the last picture appears, on the container's clock."""
    is_still: bool
    """One picture without a length of its own (png, jpeg, ...)."""
    has_pts: bool
    """False if the container stores no presentation times (avi with reordered pictures, bare
    streams); pictures then follow each other at `average_fps`."""
    hidden: Hidden
    """Pictures that an edit list keeps from the screen."""

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
    video: VideoStreamInfo | None
    audio: AudioStreamInfo | None
    timeline: Timeline
    sounds: Mapping[int, SoundSpan]
    """When each sound track has packets, by stream index."""

    @property
    def duration_s(self) -> Fraction:
        """Seconds to the end of the track that ends last; the last picture stands to it.

        Without moving pictures, the length of the first sound track; 0 for a still picture alone.
        """
        return self.timeline.duration_s


def describe(info: MediaInfo) -> str:
    """Say in a line what a file holds: pictures, sound, length."""
    video, audio = info.video, info.audio
    parts = []
    if video is not None:
        fps = "" if video.is_still else f", {float(video.average_fps):.5g} fps"
        parts.append(f"{video.width_px}x{video.height_px} {video.codec}{fps}")
    if audio is not None:
        layout = audio.layout or f"{audio.channels} channels"
        parts.append(f"sound {audio.codec}, {audio.sample_rate_hz} Hz, {layout}")
    else:
        parts.append("no sound")
    return ", ".join([*parts, f"{float(info.duration_s):.2f} s"])


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


class _Scan:
    """One pass over the packets of one file."""

    def __init__(self, path: Path, container: InputContainer) -> None:
        self.path = path
        self.name = shown_name(path)
        self.container = container
        self.video = next((s for s in container.streams.video if is_picture(s)), None)
        self.audio = next((s for s in container.streams.audio if is_sound(s)), None)
        # Asked before any decoding: PyAV 19 crashes where the decoder could not be opened.
        self.codec_name = self.video.codec_context.name if self.video else ""
        self.picture: VideoFrame | None = None
        self.sound: _FirstSound | None = None
        self.is_mov = container.format.name.startswith("mov")
        self.priming = priming_left(container, self.audio) if self.audio else 0

    def info(self) -> MediaInfo:
        sounds = [s for s in self.container.streams.audio if is_sound(s)]
        streams: list[VideoStream | AudioStream] = [*sounds]
        if self.video is not None:
            streams.insert(0, self.video)
        if not streams:
            raise MediaError(f"{self.name}: holds neither picture nor sound that can be decoded")
        tracks = {
            s.index: TrackScan(Fraction(s.time_base or Fraction(1, 1000)), self._told_s(s))
            for s in streams
        }
        scan = ClockScan(self.container, tracks)
        self._read_packets(streams, scan)
        frame_s = {s.index: self._frame_s(s, scan.tracks[s.index]) for s in streams}
        offsets_s = scan.offsets_s()
        video = self._video_info(self.video, scan, frame_s, offsets_s) if self.video else None
        audio = self._audio_info(self.audio, scan, offsets_s) if self.audio else None
        if (
            not scan.may_jump
            and all(s.duration is None for s in streams)
            and len(self.container.streams) == len(streams)
        ):
            # Matroska and FLV tell one duration for all; a stream that is not read may be longer.
            told_s = Fraction(self.container.duration or 0, av.time_base)
            ends_s = [x.start_s + x.duration_s for x in (video, audio) if x is not None]
            self._tell_missing(told_s, max(ends_s, default=told_s))
        if video is None and audio is None:
            raise MediaError(f"{self.name}: holds a header but no picture and no sound")
        spans = {s.index: span for s in sounds if (span := _span(scan.tracks[s.index], offsets_s))}
        others = [
            (span.start_s, span.end_s)
            for index, span in spans.items()
            if self.audio is None or index != self.audio.index
        ]
        start_s, end_s = join(
            None if video is None or video.is_still else _extent(video),
            others if audio is None else [_extent(audio), *others],
            sound_frame_s=self.sound.padding_s if self.sound else Fraction(0),
        )
        self._check_length(start_s, end_s)
        clocks = {index: track.track_clock(offsets_s) for index, track in scan.tracks.items()}
        timeline = Timeline(
            start_s=start_s,
            duration_s=end_s - start_s,
            clocks={index: clock for index, clock in clocks.items() if clock is not None},
        )
        return MediaInfo(path=self.path, video=video, audio=audio, timeline=timeline, sounds=spans)

    def _read_packets(self, streams: list[VideoStream | AudioStream], scan: ClockScan) -> None:
        num_pictures = num_sounds = 0
        pictures = scan.tracks[self.video.index] if self.video else None
        if pictures is not None and self.container.format.name != "avi":  # its times are guesses
            pictures.hold()
        packet: Packet[Any] | None = None
        packets = read_packets(
            self.container, *streams, on_new_streams=partial(warn_new, self.path)
        )
        for num_before, packet in enumerate(packets):
            if num_before == MAX_PACKETS:
                raise MediaError(f"{self.name}: more than {MAX_PACKETS} packets; cut it in parts")
            scan.add(packet)
            if packet.stream is self.video:
                num_pictures += 1
                if self.picture is None and num_pictures <= _MAX_PACKETS_TO_FIRST_PICTURE:
                    self._try_decode(packet)
                    if self.picture is not None or num_pictures == _MAX_PACKETS_TO_FIRST_PICTURE:
                        scan.tracks[packet.stream.index].settle(self.picture)
            elif packet.stream is self.audio:
                num_sounds += 1
                if self.sound is None and num_sounds <= _MAX_PACKETS_TO_FIRST_SOUND:
                    self._try_sound(packet, scan.tracks[packet.stream.index])
        if self.video is not None and self.picture is None:
            self._try_decode(None)
        if pictures is not None:
            pictures.settle(self.picture)
            pictures.correct()
        if self.container.format.name == "mpegts":
            refuse_new_codec(self.path, [stream.id for stream in streams])
            others = [s for s in self.container.streams.video if is_picture(s)]
            if len(others) > 1:
                warn_others(self.path, len(others))
        refuse_joined(
            self.path,
            self.container.format.name,
            steps_back=any(track.steps_back for track in scan.tracks.values()),
            read_to=(packet.pos if packet else None) or 0,
        )

    def _try_sound(self, packet: Packet[Any], track: TrackScan) -> None:
        """Decode up to the first sample: it tells the delay that decoder and packet agree on."""
        assert self.audio is not None
        try:
            frames = self.audio.decode(packet)
        except (av.FFmpegError, ValueError):
            return
        for any_frame in frames:
            safe(any_frame.layout)
        frame = next((f for f in frames if f.samples and f.sample_rate > 0), None)
        if frame is None:
            return
        length_s = Fraction(frame.samples, frame.sample_rate)
        left_s = Fraction(self.priming, OPUS_RATE_HZ)
        start_s = None if frame.pts is None else frame.pts * track.time_base + left_s
        padding_s = length_s if self.audio.codec_context.codec.lossy else Fraction(0)
        self.sound = _FirstSound(start_s=start_s, padding_s=padding_s)
        # A fragmented mp4 without edit lists has no room for what lies before zero: the encoder's
        # delay stands at 0, and is as long as the picture's delay, of which it fills a part.
        hole_s = (frame.duration or 0) * track.time_base - length_s
        if self.is_mov and Fraction(1, 500) < hole_s <= _MAX_LEAD_S:
            track.lead_packets = track.num_packets
            track.lead_ticks = round_half_up(hole_s / track.time_base)

    def _try_decode(self, packet: Packet[Any] | None) -> None:
        assert self.video is not None
        try:
            frames = self.video.decode(packet)
        except (av.FFmpegError, ValueError):
            return
        if frames:
            self.picture = frames[0]

    def _told_s(self, stream: VideoStream | AudioStream) -> Fraction:
        """Duration of a track by the header, else that of the file."""
        if stream.duration is not None and stream.time_base is not None:
            return stream.duration * Fraction(stream.time_base)
        return Fraction(self.container.duration or 0, av.time_base)

    def _frame_s(self, stream: VideoStream | AudioStream, track: TrackScan) -> Fraction:
        """Seconds of a packet that does not tell its own."""
        if isinstance(stream, AudioStream):
            return Fraction(0)
        if not track.has_pts and not track.begins_untimed and 0 < track.last_duration_s <= 1:
            return track.last_duration_s  # the decoder knows, the header not
        if self.container.format.name == "avi" and stream.codec_context.has_b_frames:
            return self._counted_frame_s(stream, track)
        return 1 / usable_fps(stream)

    def _counted_frame_s(self, stream: VideoStream, track: TrackScan) -> Fraction:
        """Seconds of a picture where times are only counted; some headers tell the fields' rate."""
        told_s, offsets_s = 1 / usable_fps(stream), [Fraction(0)]
        if track.num_shown < 2:
            return told_s
        length_s = track.last_s(offsets_s) - track.seconds(offsets_s, told_s)[0]
        return told_s * max(1, round_half_up(length_s / (track.num_shown - 1) / told_s))

    def _video_info(
        self,
        stream: VideoStream,
        scan: ClockScan,
        frame_s: Mapping[int, Fraction],
        offsets_s: list[Fraction],
    ) -> VideoStreamInfo | None:
        track = scan.tracks[stream.index]
        if track.num_shown == 0:
            if self.audio is None:
                raise MediaError(f"{self.name}: holds a video header but no pictures")
            return None
        if self.picture is None:
            if _is_animated_webp(self.path):
                raise MediaError(
                    f"{self.name}: is an animated WebP, which FFmpeg can't decode; save it as mp4, "
                    "or convert it to gif (ImageMagick: magick IN.webp OUT.gif)"
                )
            raise MediaError(
                f"{self.name}: no picture can be decoded ({self.codec_name}); "
                "the file is damaged or starts without a key frame: re-encode it"
            )
        if self.picture.width * self.picture.height > MAX_PIXELS:
            raise MediaError(
                f"{self.name}: {self.picture.width}x{self.picture.height} pixels, "
                f"the limit is {MAX_PIXELS}; scale it down"
            )
        parts = self.picture.format.components
        num_bytes = sum(c.width * c.height * -(-c.bits // 8) for c in parts)
        if num_bytes > MAX_PICTURE_BYTES:
            size = (self.picture.width, self.picture.height)
            raise MediaError(f"{self.name}: {too_large(*size, num_bytes)}")
        fps = 1 / frame_s[stream.index]
        is_avi = self.container.format.name == "avi"  # what it gives as pts is a guess from dts
        if self.is_mov and track.first_shown is not None:
            begin = track.spans[0].first or 0
            track.shift_ticks = ticks_within(self.path, stream.index, track.first_shown, begin)
        start_s, end_s = track.seconds(offsets_s, frame_s[stream.index])
        if track.shift_ticks > 0:
            # Part of a picture stands before, which the decoder hides.
            start_s -= track.shift_ticks * track.time_base
        last_s = track.last_s(offsets_s)
        if is_avi and fps < usable_fps(stream):
            last_s, end_s = (start_s + n / fps for n in (track.num_shown - 1, track.num_shown))
        if self.is_mov and stream.duration is not None:
            told_end_s = start_s + stream.duration * track.time_base
            if last_s < told_end_s:  # an edit list may end within the last picture
                end_s = min(max(end_s, last_s + track.last_duration_s), told_end_s)
        if not scan.may_jump:
            self._check_gap(stream, track.longest_gap_s, end_s - start_s)
        self._check_length(start_s, end_s)
        # With an edit list, the header tells the length of what is stored.
        if stream.duration is not None and not track.hidden and not scan.may_jump:
            told_s = (stream.duration - track.unseen_ticks) * track.time_base
            self._tell_missing(told_s, end_s - start_s)
        is_still = track.num_shown == 1 and (
            self.container.format.name.endswith("_pipe")
            or self.container.format.name in ("gif", "apng", "mjpeg")
        )
        aspect = usable_aspect(stream.sample_aspect_ratio)
        orientation = orientation_of(self.picture)
        width, height = displayed_size(self.picture.width, self.picture.height, aspect, orientation)
        return VideoStreamInfo(
            index=stream.index,
            codec=stream.codec_context.codec.canonical_name,
            width_px=width,
            height_px=height,
            pixel_aspect=aspect,
            orientation=orientation,
            average_fps=fps,
            num_frames=track.num_shown,
            start_s=start_s,
            duration_s=Fraction(0) if is_still else end_s - start_s,
            last_s=last_s,
            is_still=is_still,
            has_pts=track.has_pts and not (is_avi and stream.codec_context.has_b_frames),
            hidden=track.hidden_pictures(),
        )

    def _audio_info(
        self, stream: AudioStream, scan: ClockScan, offsets_s: list[Fraction]
    ) -> AudioStreamInfo | None:
        track = scan.tracks[stream.index]
        rate = stream.codec_context.sample_rate
        if track.num_shown == 0 or rate <= 0:
            return None
        start_s, end_s = track.seconds(offsets_s, Fraction(0))
        if self.sound is not None and self.sound.start_s is not None:
            start_s = self.sound.start_s + track.lead_ticks * track.time_base
            start_s += offsets_s[track.first_clock]
        if self.is_mov:
            start_s = max(start_s, Fraction(0))  # an edit list shows nothing before that
        start_s = min(start_s, end_s)
        self._check_length(start_s, end_s)
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

    def _check_gap(self, stream: VideoStream, gap_s: Fraction, length_s: Fraction) -> None:
        if gap_s <= MAX_UNTOLD_S:
            return
        told_s = self._told_s(stream)
        if told_s + _MISSING_S < max(gap_s, length_s):
            raise MediaError(
                f"{self.name}: timestamps jump by {float(gap_s):.0f} s in a file that says it "
                f"lasts {float(told_s):.0f} s; it is damaged: re-encode it"
            )

    def _check_length(self, start_s: Fraction, end_s: Fraction) -> None:
        if end_s - start_s > MAX_DURATION_S:
            raise MediaError(
                f"{self.name}: lasts {float(end_s - start_s):.0f} s, "
                f"the limit is {MAX_DURATION_S} s; cut it in parts"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class _FirstSound:
    """The first block that a decoder gives."""

    start_s: Fraction | None
    padding_s: Fraction
    """Most that can be padding on either side; lossless codecs have none."""


def _span(track: TrackScan, offsets_s: list[Fraction]) -> SoundSpan | None:
    if not track.num_shown:
        return None
    start_s, end_s = track.seconds(offsets_s, Fraction(0))
    return SoundSpan(start_s=start_s, end_s=end_s, num_packets=track.num_packets)


def _extent(track: VideoStreamInfo | AudioStreamInfo) -> tuple[Fraction, Fraction]:
    return track.start_s, track.start_s + track.duration_s


def _is_animated_webp(path: Path) -> bool:
    with open_regular(path) as file:
        head = file.read(21)
    is_extended = len(head) == 21 and head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X"
    return is_extended and bool(head[20] & 2)
