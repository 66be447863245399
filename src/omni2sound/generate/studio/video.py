"""Videos that are no file yet: spans of one, file-like objects, arrays.

In:   a path with a start and an end; an open file; frames (T, H, W, 3) and their rate.
Out:  a video file, for requests, which know files only.

A span is a copy of the packets: nothing is encoded again, and what lies before the start is hidden
by an edit list. Pictures that neither mp4 nor mov hold are stored once more without loss (FFV1).

Shape suffixes: T frames, H W picture.
"""

from __future__ import annotations

import heapq
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from numpy.typing import NDArray

from omni2sound.config import checked_number
from omni2sound.errors import MediaError, UserError
from omni2sound.media.audio import read_audio
from omni2sound.media.copy.containers import FORMATS, holds
from omni2sound.media.encode import FLAC_24, PCM_32, add_audio_stream, encode_audio, fit_sound
from omni2sound.media.files import create_output, open_input, shown_name
from omni2sound.media.info import MediaInfo, VideoStreamInfo, probe
from omni2sound.media.limits.budgets import MAX_DURATION_S
from omni2sound.media.packets import decoding_time
from omni2sound.media.samples import round_half_up
from omni2sound.media.streams import is_sound
from omni2sound.media.video import iter_frames
from omni2sound.stages import going_on
from omni2sound.staging import scratch

_MAX_FPS = Fraction(120)


def cut(
    path: Path, folder: Path, *, start_s: float | Fraction, end_s: float | Fraction | None = None
) -> Path:
    """Write the span of a video as a file of the same name; it may go on after the end.

    Args:
        path: A video.
        folder: Where the span is written.
        start_s: Where it begins, seconds after the video's second 0.
        end_s: Where it ends. Default: with the video.

    Raises:
        MediaError: The video can't be read or has no moving picture.
        UserError: The span is empty or begins after the video's end.
    """
    info, video = check_start(path, start_s)
    end = info.duration_s if end_s is None else min(Fraction(end_s), info.duration_s)
    own = path.suffix.lower()
    for suffix in dict.fromkeys((own if own == ".mp4" else ".mov", ".mp4", ".mov")):
        if holds(video.codec, Path(f"x{suffix}")) and video.has_pts:
            target = folder / f"{path.stem}{suffix}"
            _copy_span(info, video, target, Fraction(start_s), end)
            return target
    target = folder / f"{path.stem}.mkv"
    duration_s = end - Fraction(start_s)
    fps = min(video.average_fps, _MAX_FPS)
    frames = iter_frames(path, fps=fps, start_s=Fraction(start_s), duration_s=duration_s)
    sound = None if info.audio is None else (path, Fraction(start_s), duration_s)
    write_frames(target, frames, fps=fps, sound=sound)
    return target


def check_start(path: Path, start_s: float | Fraction) -> tuple[MediaInfo, VideoStreamInfo]:
    """Refuse a span that is none of the video.

    Raises:
        MediaError: The video can't be read or has no moving picture.
        UserError: The span begins after the video's end.
    """
    info, name = probe(path), shown_name(path)
    video = info.video
    if video is None or video.is_still:
        raise MediaError(f"{name}: has no moving picture; give a video, or leave out `start_s`")
    if start_s >= info.duration_s:
        raise UserError(
            f"{float(start_s):g} s is not before the end of {name} at "
            f"{float(info.duration_s):.3f} s",
            field="start_s",
        )
    return info, video


def duration_of_span(
    start_s: float | None, end_s: float | None, duration_s: float | None
) -> float | None:
    """Return the seconds of a span, None up to the end of the video.

    Raises:
        UserError: It ends before it begins, or its length is given twice.
    """
    for name, value in (("start_s", start_s), ("end_s", end_s)):
        if value is not None:
            checked_number(
                value, name, whole=False, least=0, most=MAX_DURATION_S, unit=" of seconds"
            )
    if end_s is None:
        return duration_s
    if duration_s is not None:
        raise UserError("says where the sound ends, and so does `duration_s`", field="end_s")
    if not (start_s or 0) < end_s:
        raise UserError(
            f"expected a time after the start at {start_s or 0:g} s, got {end_s:g} s", field="end_s"
        )
    return end_s - (start_s or 0)


@contextmanager
def spanned(
    video: Path | None, *, start_s: float | Fraction | None, end_s: float | Fraction | None
) -> Iterator[Path | None]:
    """Give the file of a span of a video, which is there as long as the block.

    Raises:
        MediaError: The video can't be read or has no moving picture.
        UserError: There is none, or the span begins after its end.
    """
    if (start_s is not None or end_s is not None) and video is None:
        name = "end_s" if start_s is None else "start_s"
        raise UserError("is a time in a video; give one, or a `duration_s`", field=name)
    if video is None or not start_s:
        yield video
        return
    with scratch() as folder:
        yield cut(video, folder, start_s=start_s, end_s=end_s)


def _copy_span(
    info: MediaInfo, video: VideoStreamInfo, target: Path, start_s: Fraction, end_s: Fraction
) -> None:
    """Copy the pictures that a span needs, on a clock on which it begins at 0.

    The sound is stored as floats: an encoder's delay means something only at a track's beginning.
    """
    container_format = FORMATS[target.suffix][0]
    origin_s = info.timeline.start_s + start_s
    rate_hz = 48_000 if info.audio is None else info.audio.sample_rate_hz
    with (
        open_input(info.path) as source,
        create_output(
            target, container_format=container_format, sample_rate_hz=rate_hz
        ) as container,
    ):
        picture = source.streams[video.index]
        copied = container.add_stream_from_template(picture, opaque=True)
        tracks = []
        for stream in source.streams.audio:
            if not is_sound(stream):
                continue
            audio = read_audio(
                info.path, start_s=start_s, duration_s=end_s - start_s, track=stream.index
            )
            if audio.num_samples:
                sound = fit_sound(audio, PCM_32, name=target.name)
                track = add_audio_stream(container, PCM_32, sound)
                track.metadata.update(stream.metadata)
                track.disposition = stream.disposition
                tracks.append(encode_audio(track, sound))
        pictures = _pictures(source, picture, copied, origin_s, end_s - start_s)
        for packet in heapq.merge(pictures, *tracks, key=decoding_time):
            container.mux(packet)


def _pictures(
    source: InputContainer, picture: Any, copied: Any, origin_s: Fraction, duration_s: Fraction
) -> Iterator[Packet[Any]]:
    """Packets from the last picture before the span that needs no other, up to its end."""
    base = Fraction(picture.time_base or 1)
    source.seek(math.floor(origin_s / base), stream=picture)
    shift = round_half_up(origin_s / base)
    for packet in source.demux(picture):
        going_on()
        if packet.dts is None or packet.pts is None:
            continue
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        if packet.dts * base > duration_s:
            return
        packet.stream = copied
        yield packet


def write_frames(
    path: Path,
    frames_HWC: Iterator[NDArray[np.uint8]],
    *,
    fps: Fraction,
    sound: tuple[Path, Fraction, Fraction] | None = None,
) -> None:
    """Write frames as a video without loss (FFV1 in Matroska).

    Args:
        path: Ends in .mkv.
        frames_HWC: RGB, all of one size.
        fps: Frames per second.
        sound: File, start and length in seconds of the sound. Default: none.
    """
    with create_output(path, container_format="matroska", sample_rate_hz=48_000) as container:
        stream: Any = container.add_stream("ffv1", rate=fps)
        track = None
        if sound is not None:
            audio = read_audio(sound[0], start_s=sound[1], duration_s=sound[2])
            fitted = fit_sound(audio, FLAC_24, name=path.name)
            track = add_audio_stream(container, FLAC_24, fitted)
        for number, frame_HWC in enumerate(frames_HWC):
            if number == 0:
                stream.height, stream.width = frame_HWC.shape[:2]
                stream.pix_fmt = "bgr0"
            frame = av.VideoFrame.from_ndarray(frame_HWC, format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = number, 1 / fps
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if track is not None:
            for packet in encode_audio(track, fitted):
                container.mux(packet)


def from_array(frames_THWC: object, fps: float | Fraction | None, folder: Path) -> Path:
    """Write frames (T, H, W, 3), uint8 RGB, as a video file.

    Raises:
        UserError: They have another shape or type, or no rate.
    """
    array = np.asarray(frames_THWC)
    if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8 or not array.size:
        raise UserError(
            f"expected frames (T, H, W, 3), uint8, got {array.shape} {array.dtype}", field="video"
        )
    if fps is None or not 0 < fps <= 1000:
        raise UserError(
            f"frames need their rate, above 0 and at most 1000 a second; got {fps}", field="fps"
        )
    path = folder / "frames.mkv"
    rate = Fraction(fps).limit_denominator(1_001_000)
    write_frames(path, iter(np.ascontiguousarray(array)), fps=rate)
    return path


def from_file_object(stream: IO[bytes], folder: Path) -> Path:
    """Write what is left in a binary file object to a file.

    Raises:
        UserError: It yields text.
    """
    name = getattr(stream, "name", None)
    path = folder / (Path(name).name if isinstance(name, str) else "video")
    with path.open("wb") as target:
        try:
            shutil.copyfileobj(stream, target)
        except TypeError:
            raise UserError("expected a file opened in binary mode", field="video") from None
    return path
