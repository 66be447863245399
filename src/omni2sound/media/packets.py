"""Copies of video packets, with timestamps that every container accepts.

In:   an open source and its video stream.
Out:  its packets in stored order, untouched except for missing or impossible timestamps;
      those that are needed up to an earlier end.

Muxers want a decoding time on every packet, strictly rising and never after presentation.
Matroska stores none, avi stores only those, damaged files store anything. What is there
and possible is kept to the tick; only the rest is made up.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from omni2sound.errors import MediaError, UserError
from omni2sound.media.files import open_input, read_packets, shown_name
from omni2sound.media.info import MediaInfo, VideoStreamInfo, probe
from omni2sound.media.samples import round_half_up
from omni2sound.media.timing.timeline import Hidden

logger = logging.getLogger(__name__)

_MIN_SHOWN_S = Fraction(1, 10**6)
"""A picture that would be seen for less is past the end: 0.4 as a float is more than 2/5."""
_MAX_REORDER = 32
"""Pictures that a codec may hold back; H.264 and HEVC allow 16."""


def end_early(info: MediaInfo, duration_s: Fraction) -> tuple[MediaInfo, int]:
    """Return a file's description as if it ended earlier, for a copy of its beginning.

    Args:
        info: From `probe`, with a moving picture.
        duration_s: From second 0.

    Returns:
        The description, and the number of pictures after the end that are copied with the
        others because some before it are built upon them. `hidden` does not count them.

    Raises:
        UserError: No picture is shown before the end.
    """
    video = info.video
    assert video is not None
    if duration_s >= info.duration_s:
        return info, 0
    end_s = info.timeline.start_s + duration_s
    pictures = _list_pictures(info, video)
    last_s = end_s - _MIN_SHOWN_S
    shown = [n for n, (time_s, hidden) in enumerate(pictures) if time_s < last_s and not hidden]
    if not shown:
        raise UserError(
            f"{shown_name(info.path)}: its first picture is shown after "
            f"{float(video.start_s - info.timeline.start_s):.3f} s; give more than that",
            field="duration_s",
        )
    last_s = max(pictures[n][0] for n in shown)
    left_out = video.hidden.left_out | frozenset(range(shown[-1] + 1, len(pictures)))
    stored = [picture for n, picture in enumerate(pictures) if n not in left_out]
    hidden_s = [time_s for time_s, hidden in stored if hidden]
    num_before = sum(time_s < video.start_s for time_s in hidden_s)
    num_after = sum(time_s > last_s for time_s in hidden_s)
    video = replace(
        video,
        num_frames=len(shown),
        duration_s=min(video.duration_s, end_s - video.start_s),
        last_s=last_s,
        hidden=Hidden(
            num_before=num_before,
            num_between=len(hidden_s) - num_before - num_after,
            num_after=num_after,
            left_out=left_out,
        ),
    )
    num_past = len(stored) - len(hidden_s) - len(shown)
    timeline = replace(info.timeline, duration_s=duration_s)
    return replace(info, video=video, timeline=timeline), num_past


def ends_early(info: MediaInfo) -> bool:
    """Whether a description is one of `end_early`."""
    return info.duration_s < probe(info.path).duration_s


def _list_pictures(info: MediaInfo, video: VideoStreamInfo) -> list[tuple[Fraction, bool]]:
    """When each packet's picture is seen, on the container's clock; whether it is hidden."""
    if not video.has_pts:
        positions = _display_positions(info.path, video)
        return [(video.start_s + position / video.average_fps, False) for position in positions]
    with open_input(info.path) as source:
        stream = _video_stream(source, video)
        base = Fraction(stream.time_base or 1)
        return [
            ((packet.pts or 0) * base, bool(packet.is_discard))
            for packet in info.timeline.read_packets(source, stream)
        ]


def copy_packets(
    source: InputContainer, info: MediaInfo, video: VideoStreamInfo, *, shift_s: Fraction
) -> Iterator[Packet[VideoStream]]:
    """Yield the packets of a video stream, ready for a muxer.

    Packets that no picture on screen needs are left out, and the last picture is as long as it
    stands.

    Args:
        source: At its beginning.
        info: From `probe`.
        video: Its picture.
        shift_s: Added to all timestamps.

    Raises:
        MediaError: Presentation times are missing and cannot be worked out.
    """
    path = info.path
    stream = _video_stream(source, video)
    assert stream.time_base is not None
    time_base = Fraction(stream.time_base)
    frame_ticks = max(1, round_half_up(1 / (video.average_fps * time_base)))
    shift = round_half_up(shift_s / time_base)
    packets = _needed(info.timeline.read_packets(source, stream), video)
    if video.has_pts:
        timed = _with_decoding_times(packets, frame_ticks)
        last = round_half_up(video.last_s / time_base)
    else:
        start = round_half_up(video.start_s / time_base)
        timed = _count_times(packets, _display_positions(path, video), start, frame_ticks)
        last = start + (video.num_frames - 1) * frame_ticks
    early = ends_early(info)
    last_ticks = _last_ticks(info, video, time_base, early=early)
    stands = round_half_up((video.start_s + video.duration_s - video.last_s) / time_base)
    if last_ticks:
        timed = _lengthened(timed, last + last_ticks)
    last_dts: int | None = None
    num_moved = 0
    for packet in timed:
        if packet.pts is None or packet.dts is None:
            continue
        if packet.pts == last:
            told = 0 if early else packet.duration or frame_ticks
            if video.has_pts and told - stands > 1:  # the rest was trimmed away
                told = stands
            packet.duration = max(told, last_ticks)
        elif video.has_pts and packet.pts < last and packet.duration:
            # mp4 tells steps of decoding time, which can be longer than the picture stands.
            packet.duration = min(packet.duration, last + max(stands, last_ticks) - packet.pts)
        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
        if last_dts is not None and packet.dts <= last_dts:
            packet.dts = last_dts + 1
            num_moved += 1
        packet.pts = max(packet.pts, packet.dts)
        last_dts = packet.dts
        yield packet
    if num_moved:
        logger.warning("%s: %d decoding times were out of order", shown_name(path), num_moved)


def _needed(
    packets: Iterator[Packet[VideoStream]], video: VideoStreamInfo
) -> Iterator[Packet[VideoStream]]:
    left_out = video.hidden.left_out
    return (packet for number, packet in enumerate(packets) if number not in left_out)


def _lengthened(packets: Iterator[Packet[VideoStream]], end: int) -> Iterator[Packet[VideoStream]]:
    """Let the last packet in stored order last to `end`: mp4 counts a track's length in that."""
    held: Packet[VideoStream] | None = None
    for packet in packets:
        if held is not None:
            yield held
        held = packet
    if held is not None:
        held.duration = end - (held.pts or 0)
        yield held


def _last_ticks(
    info: MediaInfo, video: VideoStreamInfo, time_base: Fraction, *, early: bool
) -> int:
    """Least ticks of the last picture; 0: as long as it says."""
    end_s = info.timeline.start_s + info.duration_s
    if early:
        return max(1, round_half_up((end_s - video.last_s) / time_base))
    if end_s <= video.start_s + video.duration_s or video.hidden.num_after:
        return 0
    return round_half_up((end_s - video.last_s) / time_base)


def _video_stream(source: InputContainer, video: VideoStreamInfo) -> VideoStream:
    stream = source.streams[video.index]
    assert isinstance(stream, VideoStream)
    return stream


def _with_decoding_times(
    packets: Iterator[Packet[VideoStream]], frame_ticks: int
) -> Iterator[Packet[VideoStream]]:
    """Fill in missing decoding times: backwards from the first known one, then onwards."""
    held: list[Packet[VideoStream]] = []
    for packet in packets:
        held.append(packet)
        if packet.dts is not None or len(held) == _MAX_REORDER:
            break
    if not held:
        return
    latest = held[-1].dts
    if latest is None:
        latest = min((p.pts for p in held if p.pts is not None), default=0)
    due = latest + frame_ticks
    for packet in reversed(held):
        due -= frame_ticks
        if packet.dts is None:  # never after it is shown: slides may stand for minutes
            packet.dts = due = due if packet.pts is None else min(due, packet.pts)
    yield from held
    for packet in packets:
        if packet.dts is None:
            due = latest + frame_ticks
            packet.dts = due if packet.pts is None else min(due, packet.pts)
        latest = packet.dts
        yield packet


def _count_times(
    packets: Iterator[Packet[VideoStream]], positions: list[int], start: int, frame_ticks: int
) -> Iterator[Packet[VideoStream]]:
    """Constant-rate times from each packet's place in display order."""
    delay = max((index - position for index, position in enumerate(positions)), default=0)
    for index, (packet, position) in enumerate(zip(packets, positions, strict=False)):
        packet.pts = start + position * frame_ticks
        packet.dts = start + (index - delay) * frame_ticks
        yield packet


def _display_positions(path: Path, video: VideoStreamInfo) -> list[int]:
    """Decode to find each packet's place in display order.

    Each packet is stamped with its index; pictures come out in display order with the
    stamp of the packet that held them.
    """
    stamps: list[int] = []
    num_packets = 0
    with open_input(path) as source:
        stream = _video_stream(source, video)
        reordered = stream.codec_context.has_b_frames
        for packet in read_packets(source, stream):
            if reordered:
                packet.pts = packet.dts = num_packets
                stamps.extend(f.pts for f in packet.decode() if f.pts is not None)
            num_packets += 1
        if not reordered:
            return list(range(num_packets))
        stamps.extend(f.pts for f in stream.decode(None) if f.pts is not None)
    if sorted(stamps) != list(range(num_packets)):
        raise MediaError(
            f"{shown_name(path)}: stores no times for its pictures, and they cannot be worked "
            "out; convert it to mp4 first (ffmpeg -i IN -c:v libx264 OUT.mp4)"
        )
    positions = [0] * num_packets
    for position, stamp in enumerate(stamps):
        positions[stamp] = position
    return positions


def decoding_time(packet: Packet[Any]) -> Fraction:
    """Second at which a packet is decoded, by its own clock."""
    return (packet.dts or 0) * Fraction(packet.time_base or 1)
