"""Subtitles, chapters, cover art and attached files on their way into a copied video.

In:   an open source, an open output.
Out:  tracks and packets; words for what the output's container can't hold.

Text subtitles are converted to the one form that the container knows (mov_text, WebVTT, SubRip),
picture subtitles are copied or lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

import av
from av.container import InputContainer, OutputContainer
from av.format import Flags
from av.packet import Packet
from av.stream import Disposition

from omni2sound.media.copy.beside import Loss, has_alpha
from omni2sound.media.copy.tags import track_tags, track_title
from omni2sound.media.files import TAGS, open_input, read_packets
from omni2sound.media.samples import round_half_up
from omni2sound.media.timing.picture_clock import PictureClock
from omni2sound.media.timing.timeline import Timeline

_TEXT_CODECS = ("subrip", "srt", "text", "webvtt", "mov_text", "ass", "ssa")
_STYLED_CODECS = ("ass", "ssa")
_CONVERTED = {"mp4": "mov_text", "mov": "mov_text", "matroska": "subrip", "webm": "webvtt"}
_COPIED = {
    "mp4": ("mov_text",),
    "mov": ("mov_text",),
    "matroska": (
        "subrip", "srt", "ass", "ssa", "text", "webvtt", "hdmv_pgs_subtitle", "dvd_subtitle",
        "dvb_subtitle",
    ),
    "webm": ("webvtt",),
}  # fmt: skip
_MAX_STEP_BACK_S = 1
"""Most by which a subtitle may stand before the picture beside it, or be moved up without an end
of its own."""
_COVERS = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}

_MARKS = {
    Disposition.forced: "forced",
    Disposition.hearing_impaired: "hearing-impaired",
    Disposition.visual_impaired: "visual-impaired",
    Disposition.original: "original",
    Disposition.comment: "commentary",
    Disposition.dub: "dub",
    Disposition.lyrics: "lyrics",
    Disposition.karaoke: "karaoke",
}


def subtitle_loss(codec: str, container_format: str) -> str:
    """Return what a container loses of subtitles: "", "styling" or "all"."""
    if codec in _COPIED[container_format]:
        return ""
    if codec not in _TEXT_CODECS:
        return "all"
    return "styling" if codec in _STYLED_CODECS else ""


def loses_shown(source: InputContainer, video_index: int, container_format: str) -> bool:
    """Whether a container would lose something that a viewer sees: alpha or subtitles."""
    video = source.streams[video_index]
    if container_format in ("mp4", "mov") and has_alpha(video):
        return True
    return any(
        subtitle_loss(stream.codec_context.codec.canonical_name, container_format)
        for stream in source.streams.subtitles
        if getattr(stream, "codec_context", None) is not None
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Subtitles:
    """What players show of a subtitle track beside its lines."""

    words: str
    title: str
    handler: str
    """Where players of mp4 and mov look for a title."""
    marks: frozenset[str]
    """Words for its dispositions."""

    @classmethod
    def of(cls, stream: Any) -> _Subtitles:
        context = getattr(stream, "codec_context", None)
        codec = "unknown" if context is None else context.codec.canonical_name
        tags = {key.lower(): value for key, value in stream.metadata.items()}
        title = track_title(tags)
        name = " ".join(part for part in (title, tags.get("language")) if part)
        return cls(
            words=f"subtitles ({name + ', ' if name else ''}{codec})",
            title=title,
            handler=tags.get("handler_name", ""),
            marks=frozenset(name for mark, name in _MARKS.items() if stream.disposition & mark),
        )

    def missing(self, copy: _Subtitles | None) -> list[str]:
        """Words for what of it is not in its copy."""
        if copy is None:
            return [self.words]
        lost = [f'mark "{mark}"' for mark in sorted(self.marks - copy.marks)]
        if self.title not in ("", copy.title, copy.handler):
            lost.append("title")
        return [f"{' and '.join(lost)} of {self.words}"] if lost else []


class SideTracks:
    """All of a source but its picture and its sound."""

    def __init__(
        self,
        path: Path,
        source: InputContainer,
        target: OutputContainer,
        video_index: int,
        *,
        add: bool = True,
    ) -> None:
        """Add a track to `target` for each one that it can hold; call before its header.

        Args:
            path: Where `source` was opened from.
            source: The video.
            target: Its copy.
            video_index: Stream index of the picture that is copied.
            add: False counts all tracks as lost.
        """
        self.path = path
        self.add = add
        self.video_index = video_index
        self.format = target.format.name
        self.lost: list[Loss] = []
        """What is not in the copy; whole only when all packets are read."""
        self.copies: dict[int, Any] = {}
        self.converted: set[int] = set()
        self.num_covers = 0
        self.subtitles: list[_Subtitles] = []
        has_chapters = bool(source.chapters())
        for stream in source.streams:
            codec = getattr(stream, "codec_context", None)
            if stream.type == "subtitle":
                self._add_subtitle(stream, target)
            elif stream.type == "video" and stream.disposition & Disposition.attached_pic:
                self._add_cover(stream, target)
            elif stream.type == "video" and stream.index != video_index:
                self._lose(f"video track {stream.index + 1}", is_in_matroska=False)
            elif stream.type == "attachment":
                self._add_attachment(stream, target)
            elif stream.type == "data":
                name = stream.metadata.get("handler_name", "").strip() or "unnamed"
                is_made_again = has_chapters or "timecode" in stream.metadata
                if codec is None and not is_made_again:
                    self._lose(f"data track ({name})", is_in_matroska=False)

    def set_chapters(
        self, source: InputContainer, target: OutputContainer, *, shift_s: Fraction, end_s: Fraction
    ) -> None:
        """Copy the chapters that begin before the end."""
        chapters: list[Any] = []
        for chapter in source.chapters():
            base = Fraction(chapter["time_base"] or 1)
            shift, last = round_half_up(shift_s / base), int(end_s / base)
            start, end = max(0, chapter["start"] + shift), min(last, chapter["end"] + shift)
            if start < end:
                chapters.append({**chapter, "start": start, "end": end})
        if chapters:
            target.set_chapters(chapters)

    def missing(self, path: Path) -> list[Loss]:
        """Open the finished copy and name what its muxer left out without a word."""
        with av.open(f"file:{path}", **TAGS) as copy:
            found = [s for s in copy.streams.video if s.disposition & Disposition.attached_pic]
            written = [_Subtitles.of(stream) for stream in copy.streams.subtitles]
        lost = ["cover picture"] if len(found) < self.num_covers else []
        for before, after in zip_longest(self.subtitles, written[: len(self.subtitles)]):
            lost.extend(before.missing(after))
        return [Loss(words) for words in lost]

    def packets(
        self, timeline: Timeline, *, shift_s: Fraction, end_s: Fraction
    ) -> Iterator[Packet[Any]]:
        """Yield the packets of all added tracks, from a second reading of the file.

        Those of each track rise; what steps back is moved up, or left out and named in `lost`.
        """
        if not self.copies:
            return
        last: dict[int, int] = {}
        with open_input(self.path) as source:
            for packet in self._timed(source, timeline):
                index = packet.stream.index
                if packet.stream.type == "video":  # cover art: one packet without a time
                    packet.stream = self.copies[index]
                    packet.pts = packet.dts = 0
                    yield packet
                    continue
                words = _Subtitles.of(packet.stream).words
                copied = self._subtitle(packet, index, shift_s, end_s)
                if copied is None:
                    continue
                if _moved_up(copied, last.get(index, 0)):
                    last[index] = copied.dts or 0
                    yield copied
                else:
                    self._lose(f"lines out of order of {words}", is_in_matroska=False)

    def _timed(self, source: InputContainer, timeline: Timeline) -> Iterator[Packet[Any]]:
        """Yield the packets in stored order, on the clock of the picture beside them."""
        streams = [source.streams[index] for index in self.copies]
        if not source.format.flags & cast("int", Flags.ts_discont.value):
            yield from self._readable(source, streams)
            return
        track = timeline.clocks.get(self.video_index)
        clock = PictureClock(track.jumps if track else ())
        held: list[Packet[Any]] = []  # stored behind the last picture
        for packet in self._readable(source, [*streams, source.streams[self.video_index]]):
            if packet.stream.index == self.video_index:
                clock.add(packet)
                at = packet.pos or 0  # demuxers give a track's last packet only at its end
                yield from (p for p in held if (p.pos or 0) <= at)
                held = [p for p in held if (p.pos or 0) > at]
            else:
                clock.set_time(packet)
                held.append(packet)
        # What steps back behind the last picture is of a joined part with another picture.
        ended = False
        for packet in held:
            ended = ended or clock.is_before(packet, _MAX_STEP_BACK_S)
            if ended:
                words = _Subtitles.of(packet.stream).words
                self._lose(f"joined parts of {words}", is_in_matroska=False)
            else:
                yield packet

    def _readable(self, source: InputContainer, streams: list[Any]) -> Iterator[Packet[Any]]:
        try:
            yield from read_packets(source, *streams)
        except av.FFmpegError:  # not even one can be read
            for index in self.copies:
                words = _Subtitles.of(source.streams[index]).words
                self._lose(words, is_in_matroska=False)

    def _lose(self, words: str, *, is_in_matroska: bool) -> None:
        loss = Loss(words, is_in_matroska=is_in_matroska)
        if loss not in self.lost:
            self.lost.append(loss)

    def _subtitle(
        self, packet: Packet[Any], index: int, shift_s: Fraction, end_s: Fraction
    ) -> Packet[Any] | None:
        if packet.pts is None or packet.time_base is None:
            return None
        base = Fraction(packet.time_base)
        pts = packet.pts + round_half_up(shift_s / base)
        duration = packet.duration or 0
        start, end = max(0, pts), min(pts + duration, int(end_s / base))
        if end < start or (duration and end == start):
            return None
        if index in self.converted:
            try:
                shown = packet.stream.decode2(packet)
                if shown is None or not len(shown):
                    return None
                packet = self.copies[index].codec_context.encode_subtitle(shown)
            except (av.FFmpegError, ValueError):
                return None
            packet.time_base = base
        packet.pts = packet.dts = start
        packet.duration = end - start
        packet.stream = self.copies[index]
        return packet

    def _add_subtitle(self, stream: Any, target: OutputContainer) -> None:
        context = getattr(stream, "codec_context", None)
        codec = "unknown" if context is None else context.codec.canonical_name
        subtitles = _Subtitles.of(stream)
        words = subtitles.words
        loss = subtitle_loss(codec, self.format)
        try:
            if loss == "all" or not self.add:
                raise ValueError(codec)
            if codec in _COPIED[self.format]:
                copy: Any = target.add_stream_from_template(stream, opaque=True)
            else:
                copy = self._converted(stream, target)
        except (av.FFmpegError, ValueError):
            self._lose(words, is_in_matroska=subtitle_loss(codec, "matroska") != "all")
            return
        if loss:
            self._lose(f"styling of {words}", is_in_matroska=True)
        copy.metadata.update(track_tags(stream.metadata, self.format))
        copy.disposition = stream.disposition
        self.copies[stream.index] = copy
        self.subtitles.append(subtitles)

    def _converted(self, stream: Any, target: OutputContainer) -> Any:
        stream.codec_context.open(strict=False)  # only an open decoder knows its styles
        copy: Any = target.add_stream(_CONVERTED[self.format])
        # FFmpeg reads it as a C string; PyAV does not end it as one.
        copy.codec_context.subtitle_header = (stream.codec_context.subtitle_header or b"") + b"\0"
        copy.codec_context.time_base = Fraction(1, 1000)
        self.converted.add(stream.index)
        return copy

    def _add_cover(self, stream: Any, target: OutputContainer) -> None:
        codec = stream.codec_context.codec.canonical_name if stream.codec_context else ""
        if not self.add or codec not in _COVERS or self.format in ("webm", "mov"):
            self._lose("cover picture", is_in_matroska=codec in _COVERS)
        elif self.format == "mp4":
            copy: Any = target.add_stream_from_template(stream, opaque=True)
            copy.disposition = Disposition.attached_pic
            self.num_covers += 1
            self.copies[stream.index] = copy
        else:
            with open_input(self.path) as source:
                packet = next(iter(source.demux(source.streams[stream.index])), None)
            if packet is not None and packet.size:
                target.add_attachment(*_COVERS[codec], bytes(packet))

    def _add_attachment(self, stream: Any, target: OutputContainer) -> None:
        name = stream.metadata.get("filename", "") or "attachment"
        if self.add and self.format == "matroska" and stream.mimetype:
            target.add_attachment(name, stream.mimetype, stream.data)
        else:
            self._lose(f"attached file {name}", is_in_matroska=bool(stream.mimetype))


def _moved_up(packet: Packet[Any], last: int) -> bool:
    """Let a packet begin at `last` if it would before; False: nothing of it is left then."""
    late = last - (packet.dts or 0)
    if late <= 0:
        return True
    duration = packet.duration or 0
    if duration <= late and (duration or late * (packet.time_base or 0) > _MAX_STEP_BACK_S):
        return False
    packet.pts = packet.dts = last
    packet.duration = max(0, duration - late)
    return True
