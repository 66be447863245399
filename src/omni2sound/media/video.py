"""Pictures of a video, by the time at which they are on screen.

In:   a video or still picture, a frame rate that need not be the file's own.
Out:  RGB arrays (H, W, 3), uint8, one at a time: memory does not grow with the length.

Frame i is what a viewer sees ``start_s + (i + 0.5) / fps`` seconds into the file, found by
timestamps (`media.timing` says what second 0 is). Counting frames instead, as most research
code does, drifts at 29.97 and at variable rates until sound and picture part.
"""

from __future__ import annotations

import heapq
import logging
import math
import os
from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import chain, tee
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from omni2sound.errors import MediaError, UserError
from omni2sound.media.files import (
    open_input,
    shown_name,
)
from omni2sound.media.info import MediaInfo, VideoStreamInfo, probe
from omni2sound.media.limits.budgets import MAX_DURATION_S, MAX_PIXELS
from omni2sound.media.streams import Orientation
from omni2sound.stages import advance

logger = logging.getLogger(__name__)

_MAX_FPS = 1000
_SEEK_MARGIN_S = 1
"""Containers index decoding times, which run ahead of presentation by a few pictures."""

Sampling = tuple[Fraction | int, tuple[int, int]]
"""Pictures per second, and their (height, width) in pixels."""
Kept = Mapping[Sampling, list[NDArray[np.uint8]]]
"""Pictures of a video by how they were sampled."""


def iter_frames(
    path: str | os.PathLike[str],
    *,
    fps: Fraction | int,
    size_px: tuple[int, int] | None = None,
    start_s: float | Fraction = 0.0,
    duration_s: float | Fraction | None = None,
    keep: Kept | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """Sample a video at a constant rate.

    The first picture is there from second 0 and the last one stays on screen past the end, so
    that exactly ``ceil(duration_s * fps)`` arrays come out. Rotation and pixel aspect are applied.
    Interlaced and HDR pictures are shown as stored (no deinterlacing, no tone mapping).

    Args:
        path: A video, or a still picture (then `duration_s` must be given).
        fps: Arrays per second.
        size_px: (height, width) of the arrays; the shown picture is squashed to it. None
            keeps the size of the first picture as shown.
        start_s: Seconds after the file's second 0 at which to begin.
        duration_s: Seconds to cover; None means to the end.
        keep: Other samplings of the same seconds, each with the list to which its arrays are
            added while this one is read, so that the video is decoded once. They are whole when
            the iterator has ended; repeated pictures are one array.

    Returns:
        An iterator of arrays (H, W, 3), uint8, RGB, each the caller's own. Arguments and
        the file are checked now, not at the first array.

    Raises:
        MediaError: The file has no picture that can be decoded.
        UserError: A number is out of range.
    """
    path = Path(path)
    info = probe(path)
    name = shown_name(path)
    video = info.video
    if video is None:
        raise MediaError(f"{name}: has sound but no picture; give a video")
    if not 0 < fps <= _MAX_FPS:
        raise UserError(f"expected more than 0 and at most {_MAX_FPS}, got {fps}", field="fps")
    if size_px is not None and not (min(size_px) >= 1 and math.prod(size_px) <= MAX_PIXELS):
        raise UserError(
            f"expected (height, width) within {MAX_PIXELS} pixels, got {size_px}", field="size_px"
        )
    if not 0 <= start_s <= MAX_DURATION_S:
        raise UserError(f"expected 0 to {MAX_DURATION_S} seconds, got {start_s}", field="start_s")
    start = Fraction(start_s)
    if duration_s is None:
        if video.is_still:
            raise UserError(f"{name}: is a still picture and has no duration; give `duration_s`")
        duration = info.duration_s - start
        if duration <= 0:
            raise UserError(
                f"{float(start)} is not before the end of {name} at {float(info.duration_s):.3f} s",
                field="start_s",
            )
    else:
        if not 0 <= duration_s <= MAX_DURATION_S:
            raise UserError(
                f"expected 0 to {MAX_DURATION_S} seconds, got {duration_s}", field="duration_s"
            )
        duration = Fraction(duration_s)
    if size_px is None:
        size_px = (video.height_px, video.width_px)
    samplings: list[Sampling] = [(fps, size_px), *(keep or {})]
    return _frames_of(info, video, samplings, start, duration, list((keep or {}).values()))


def iter_pictures(path: str | os.PathLike[str]) -> Iterator[tuple[Fraction, VideoFrame]]:
    """Yield each picture that is shown, with the second of the file at which it appears.

    Times rise strictly. The last picture stands to the end of the file (`MediaInfo.duration_s`).

    Raises:
        MediaError: The file has no picture that can be decoded.
    """
    info = probe(path)
    if info.video is None:
        raise MediaError(f"{shown_name(info.path)}: has sound but no picture; give a video")
    with open_input(info.path) as container:
        yield from _pictures_from(container, info, info.video, Fraction(0))


def iter_appearing(
    path: str | os.PathLike[str],
    *,
    fps: Fraction | int,
    size_px: tuple[int, int],
    duration_s: float | Fraction,
) -> Iterator[list[tuple[Fraction, NDArray[np.uint8]]]]:
    """Yield, for each array of `iter_frames`, all pictures that appeared since the one before.

    Each comes with the second of the file at which it appears. The last of the latest list that is
    not empty is the array.

    Raises:
        MediaError: The file has no picture that can be decoded.
    """
    info = probe(path)
    if info.video is None:
        raise MediaError(f"{shown_name(info.path)}: has sound but no picture; give a video")
    to_array = _Converter(info.video.orientation, size_px)
    num_frames = math.ceil(duration_s * fps)
    times = ((i + Fraction(1, 2)) / fps for i in range(num_frames))
    appeared: list[tuple[Fraction, NDArray[np.uint8]]] = []
    for picture in _appearing(info, info.video, times, Fraction(0), num_frames):
        if picture is None:
            yield appeared
            appeared = []
        else:
            appeared.append((picture[0], to_array(picture[1])))


def _frames_of(
    info: MediaInfo,
    video: VideoStreamInfo,
    samplings: list[Sampling],
    start: Fraction,
    duration: Fraction,
    kept: list[list[NDArray[np.uint8]]],
) -> Iterator[NDArray[np.uint8]]:
    """Yield arrays of the first sampling; add those of the others to `kept`."""
    readers = [_Sampled(video.orientation, size_px) for _, size_px in samplings]
    marks, places = tee(
        heapq.merge(*(_times(i, fps, start, duration) for i, (fps, _) in enumerate(samplings)))
    )
    total = sum(math.ceil(duration * fps) for fps, _ in samplings)
    shown = _appearing(info, video, (time_s for time_s, _ in marks), start, total)
    current: VideoFrame | None = None
    for picture in shown:
        if picture is not None:
            current = picture[1]
            continue
        assert current is not None
        _, which = next(places)
        array = readers[which](current)
        if which:
            kept[which - 1].append(array)
        else:
            yield array.copy()


def _appearing(
    info: MediaInfo,
    video: VideoStreamInfo,
    times: Iterator[Fraction],
    start: Fraction,
    total: int,
) -> Iterator[tuple[Fraction, VideoFrame] | None]:
    """Pictures as they appear, and None at each of the times; the first picture comes first.

    No picture is held: between two times there can be minutes of film.
    """
    with open_input(info.path) as container:
        shown = _pictures_from(container, info, video, start)
        upcoming = next(shown, None)
        if upcoming is None:
            raise MediaError(f"{shown_name(info.path)}: no picture can be decoded; re-encode it")
        is_first = True
        for number, time in enumerate(times):
            advance(number, total)
            while upcoming is not None and (upcoming[0] <= time or is_first):
                is_first = False
                yield upcoming
                upcoming = next(shown, None)
            yield None


def _times(
    which: int, fps: Fraction | int, start: Fraction, duration: Fraction
) -> Iterator[tuple[Fraction, int]]:
    """Middles of the intervals of a sampling, with its number."""
    step = 1 / Fraction(fps)
    for i in range(math.ceil(duration * fps)):
        yield start + (i + Fraction(1, 2)) * step, which


class _Sampled:
    """Arrays of one size; a picture that stays is converted once."""

    def __init__(self, orientation: Orientation, size_px: tuple[int, int]) -> None:
        self._to_array = _Converter(orientation, size_px)
        self._frame: VideoFrame | None = None
        self._array: NDArray[np.uint8] | None = None

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        if self._array is None or frame is not self._frame:
            self._frame, self._array = frame, self._to_array(frame)
        return self._array


def _pictures_from(
    container: InputContainer, info: MediaInfo, video: VideoStreamInfo, start: Fraction
) -> Iterator[tuple[Fraction, VideoFrame]]:
    """Pictures with their times after second 0, beginning at or before `start`."""
    stream = container.streams[video.index]
    assert isinstance(stream, VideoStream)
    stream.thread_type = "AUTO"
    can_seek = video.has_pts and not video.is_still and info.timeline.can_seek(video.index)
    if start > _SEEK_MARGIN_S and can_seek:
        target_s = info.timeline.start_s + start - _SEEK_MARGIN_S
        if _seek(container, stream, target_s):
            pictures = _iter_timed(container, stream, info, video, sought=True)
            first = next(pictures, None)
            if first is not None and first[0] <= start:
                yield first
                yield from pictures
                return
        # The index is wrong or missing: read from the beginning.
        if not _seek(container, stream, None):
            return
    yield from _iter_timed(container, stream, info, video)


def _seek(container: InputContainer, stream: VideoStream, time_s: Fraction | None) -> bool:
    try:
        if time_s is None:
            container.seek(0 if stream.start_time is None else stream.start_time, stream=stream)
        else:
            container.seek(math.floor(time_s / (stream.time_base or 1)), stream=stream)
    except (av.FFmpegError, OverflowError):
        return False
    return True


def _iter_timed(
    container: InputContainer,
    stream: VideoStream,
    info: MediaInfo,
    video: VideoStreamInfo,
    *,
    sought: bool = False,
) -> Iterator[tuple[Fraction, VideoFrame]]:
    """Decode on, past damaged packets, giving only pictures whose time moves forward."""
    start_s = info.timeline.start_s
    frame_s = 1 / video.average_fps
    time_base = Fraction(stream.time_base or 0)  # flushed frames do not know theirs
    latest: Fraction | None = None
    num_damaged = 0
    packets = info.timeline.read_packets(container, stream, sought=sought)
    for packet in chain(packets, [None]):  # None: flush the decoder
        try:
            frames = stream.decode(packet)
        except (av.FFmpegError, ValueError):
            num_damaged += 1
            continue
        for frame in frames:
            if frame.pts is not None and video.has_pts:
                time = frame.pts * time_base - start_s
            else:
                time = video.start_s - start_s if latest is None else latest + frame_s
            if latest is not None and time <= latest:
                continue
            latest = time
            yield time, frame
    if num_damaged:
        logger.warning(
            "%s: %d damaged packets were skipped; the picture before each stays on",
            shown_name(Path(container.name)),
            num_damaged,
        )


class _Converter:
    """Stored picture to RGB array of one size; keeps FFmpeg's scaler between pictures."""

    def __init__(self, orientation: Orientation, size_px: tuple[int, int]) -> None:
        self.orientation = orientation
        height, width = size_px
        self.stored = (height, width) if orientation.transpose else (width, height)
        self.reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        width, height = self.stored
        scaled = self.reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            # The scaler widens this kernel when it shrinks, so thin things do not flicker.
            interpolation=Interpolation.BICUBIC,
            threads=1,
        )
        array: NDArray[np.uint8] = np.asarray(scaled.to_ndarray(), dtype=np.uint8)
        if self.orientation.transpose:
            array = array.swapaxes(0, 1)
        if self.orientation.flip_rows:
            array = array[::-1]
        if self.orientation.flip_columns:
            array = array[:, ::-1]
        return np.ascontiguousarray(array)
