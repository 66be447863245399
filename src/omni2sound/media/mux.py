"""Sound into a video: the picture is copied packet by packet, never encoded again.

In:   a video, an `Audio`.
Out:  mp4, mov, mkv or webm with the same video packets and sound of exactly their length.

Sound starts with the first picture. A picture that starts up to `KEPT_START_S` late keeps
its timestamps and the sound gets the same delay; anything else (transport streams start
hours late, some files before zero) is moved by one constant so that both start at zero.
mp4 and mov keep timestamps exactly; Matroska rounds them to its 1 ms, and has no edit
lists: pictures that an mp4 hides before its start are seen there before the sound begins.
Subtitles, chapters and further tracks are not copied.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from omni2sound.errors import MediaError, UserError
from omni2sound.media.audio import read_audio
from omni2sound.media.encode import (
    AAC,
    OPUS,
    AudioCodec,
    add_audio_stream,
    check_layout,
    encode_audio,
    fit_audio,
)
from omni2sound.media.files import (
    VIDEO_SUFFIXES,
    check_output,
    create_output,
    open_input,
    shown_name,
)
from omni2sound.media.info import MediaInfo, VideoStreamInfo, probe
from omni2sound.media.layouts import ASSUMED, channel_names, mixed_layout
from omni2sound.media.loudness.level import Leveling, level
from omni2sound.media.packets import copy_packets
from omni2sound.media.samples import Audio, fit_length, mix, round_half_up

logger = logging.getLogger(__name__)

KEPT_START_S = 1
_FORMATS: Mapping[str, tuple[str, AudioCodec]] = {
    ".mp4": ("mp4", AAC),
    ".mov": ("mov", AAC),
    ".mkv": ("matroska", OPUS),
    ".webm": ("webm", OPUS),
}
# Listed as supported by FFmpeg's muxers, refused by them when the header is written.
_REFUSED: Mapping[str, tuple[str, ...]] = {"mov": ("vp8", "vp9", "av1"), "mp4": ("vp8",)}
# Describe the old container, not the film; a copy would be wrong in the new one.
_DROPPED_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder", "duration")


def mux(
    video_path: str | os.PathLike[str],
    audio: Audio,
    output_path: str | os.PathLike[str],
    *,
    keep_audio: bool = False,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
    loudness_lufs: float | None = None,
) -> Leveling:
    """Write a copy of a video with new sound.

    Args:
        video_path: The video; its first moving picture is copied.
        audio: The new sound; cut or padded to the video's length.
        output_path: Ends in .mp4, .mov (both AAC), .mkv or .webm (both Opus).
        keep_audio: Mix the video's own sound under the new one, each at its own level (at
            the higher of the two sample rates); without one, only the new sound is written.
        metadata: Tags added to the video's own; ``title`` and ``comment`` survive everywhere.
        overwrite: Replace an existing file (never the input).
        loudness_lufs: Target loudness of the written sound, after mixing. Default: unchanged.

    Returns:
        What was done to the level.

    Raises:
        MediaError: The video cannot be read or has no moving picture.
        UserError: The output is refused, or its container cannot hold the video's codec.
    """
    video_path, output_path = Path(video_path), Path(output_path)
    name = shown_name(output_path)
    check_output(output_path, overwrite=overwrite)
    if output_path.suffix.lower() not in _FORMATS:
        raise UserError(f"{name}: not a video file; use {' '.join(VIDEO_SUFFIXES)}")
    info, video = _probe_moving(video_path)
    if output_path.exists() and output_path.samefile(video_path):
        raise UserError(f"{name}: is the input itself; choose another name")
    container_format, codec = _FORMATS[output_path.suffix.lower()]
    if keep_audio and info.audio is None:
        logger.warning("%s: has no sound of its own to keep", shown_name(video_path))
    elif keep_audio:
        audio = mix(read_audio(info.path, duration_s=info.duration_s), audio)
    audio = fit_audio(audio, codec, name=name)
    num_samples = round_half_up(video.duration_s * audio.sample_rate_hz)
    audio, leveling = level(
        fit_length(audio, num_samples),
        target_lufs=loudness_lufs,
        ceiling=codec.ceiling,
        between_samples=codec.lossy,
        name=name,
    )
    with (
        open_input(video_path) as source,
        create_output(
            output_path,
            container_format=container_format,
            sample_rate_hz=audio.sample_rate_hz,
            verify=probe,
        ) as target,
    ):
        in_stream = source.streams[video.index]
        assert isinstance(in_stream, VideoStream)
        out_stream = _copy_stream(in_stream, target, output_path)
        target.metadata.update(
            {k: v for k, v in source.metadata.items() if k.lower() not in _DROPPED_TAGS}
        )
        target.metadata.update(metadata or {})
        sound_stream = add_audio_stream(target, codec, audio)
        try:
            target.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            if isinstance(error, OSError):  # the folder or the disk, not the codec
                raise
            raise UserError(_unsupported(video.codec, output_path)) from error
        shift_s = _shift(video)
        first_sample = round_half_up((video.start_s + shift_s) * audio.sample_rate_hz)
        pictures = copy_packets(video_path, source, video, shift_s=shift_s)
        sounds = encode_audio(sound_stream, audio, first_sample=first_sample)
        _interleave(target, pictures, out_stream, sounds)
    return leveling


def _probe_moving(path: Path) -> tuple[MediaInfo, VideoStreamInfo]:
    info = probe(path)
    if info.video is None or info.video.is_still:
        what = "has no picture" if info.video is None else "is a still picture"
        raise MediaError(f"{shown_name(path)}: {what}; give a video, or write the sound to .wav")
    return info, info.video


def check_container(codec: str, output_path: Path) -> None:
    """Refuse, before any work, a video output that cannot hold the copied picture.

    Args:
        codec: The codec of the pictures, as in `VideoStreamInfo.codec`.
        output_path: Ends in a suffix of `VIDEO_SUFFIXES`.

    Raises:
        UserError: Its container cannot hold the codec.
    """
    container_format, _ = _FORMATS[output_path.suffix.lower()]
    with av.open(io.BytesIO(), "w", format=container_format) as trial:
        holds = _can_hold(trial, codec)
    if not holds:
        raise UserError(_unsupported(codec, output_path))


def check_kept_sound(info: MediaInfo, output_path: Path) -> None:
    """Refuse, before any work, a video output that can't hold the video's own sound in the mix.

    Args:
        info: The video.
        output_path: Ends in a suffix of `VIDEO_SUFFIXES`.

    Raises:
        UserError: Its codec can't hold the channel layout.
    """
    if info.audio is None:
        return
    own = info.audio.layout or ASSUMED.get(info.audio.channels)
    layout = None if own is None else mixed_layout(own, "stereo")
    num_channels = info.audio.channels if layout is None else len(channel_names(layout))
    _, codec = _FORMATS[output_path.suffix.lower()]
    check_layout(codec, layout, num_channels, name=shown_name(output_path))


def _shift(video: VideoStreamInfo) -> Fraction:
    """Seconds to add to every timestamp; 0 for nearly all files."""
    return Fraction(0) if 0 <= video.start_s <= KEPT_START_S else -video.start_s


def _copy_stream(in_stream: VideoStream, target: OutputContainer, output_path: Path) -> VideoStream:
    check_container(in_stream.codec_context.codec.canonical_name, output_path)
    out_stream = target.add_stream_from_template(in_stream, opaque=True)
    if in_stream.sample_aspect_ratio:  # Matroska keeps it beside the codec, not in it
        out_stream.codec_context.sample_aspect_ratio = in_stream.sample_aspect_ratio
    if in_stream.codec_context.codec_tag == "hvc1" and target.format.name in ("mp4", "mov"):
        out_stream.codec_context.codec_tag = "hvc1"  # Apple's players refuse "hev1"
    out_stream.metadata.update(
        {k: v for k, v in in_stream.metadata.items() if k.lower() not in _DROPPED_TAGS}
    )
    return out_stream


def _can_hold(target: OutputContainer, codec: str) -> bool:
    return codec in target.supported_codecs and codec not in _REFUSED.get(target.format.name, ())


def _unsupported(codec: str, output_path: Path) -> str:
    fitting = []
    for suffix, (container_format, _) in _FORMATS.items():
        with av.open(io.BytesIO(), "w", format=container_format) as trial:
            if suffix != output_path.suffix.lower() and _can_hold(trial, codec):
                fitting.append(suffix)
    advice = f"use {' '.join(fitting)}" if fitting else "re-encode the video to h264 first"
    return (
        f"{shown_name(output_path)}: {output_path.suffix} cannot hold {codec} video, "
        f"and the picture is copied, not re-encoded; {advice}"
    )


def _interleave(
    target: OutputContainer,
    pictures: Iterator[Packet[VideoStream]],
    out_stream: VideoStream,
    sounds: Iterator[Packet[AudioStream]],
) -> None:
    """Write both in order of decoding time; neither is ever held as a whole."""
    sound = next(sounds, None)
    for picture in pictures:
        while sound is not None and _decoding_time(sound) <= _decoding_time(picture):
            target.mux(sound)
            sound = next(sounds, None)
        picture.stream = out_stream
        target.mux(picture)
    while sound is not None:
        target.mux(sound)
        sound = next(sounds, None)


def _decoding_time(packet: Packet[VideoStream] | Packet[AudioStream]) -> Fraction:
    return (packet.dts or 0) * packet.time_base
