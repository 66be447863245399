"""What the containers of copies hold, decided before any work.

In:   a video, the path of its copy.
Out:  refusals, whether its pictures have to be encoded, the container of a copy without a name.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path

import av

from omni2sound.errors import MediaError, UserError
from omni2sound.media.copy.own_sound import read_own_sound
from omni2sound.media.copy.reencode import has_alpha_channel, is_transparent
from omni2sound.media.copy.side_tracks import loses_shown
from omni2sound.media.copy.sound_tracks import group_tracks, list_tracks
from omni2sound.media.encode import AAC, OPUS, PCM_24, AudioCodec, check_layout
from omni2sound.media.files import open_input, shown_name
from omni2sound.media.info import MediaInfo, VideoStreamInfo, probe
from omni2sound.media.layouts import mixed_layout
from omni2sound.media.video import iter_pictures

logger = logging.getLogger(__name__)

FORMATS: Mapping[str, tuple[str, AudioCodec]] = {
    ".mp4": ("mp4", AAC),
    ".mov": ("mov", PCM_24),
    ".mkv": ("matroska", OPUS),
    ".webm": ("webm", OPUS),
}
"""FFmpeg's muxer and the sound's codec by suffix. A .mov goes into an editor: nothing is lost."""

# Listed as supported by FFmpeg's muxers, refused by them when the header is written.
# Raw pictures are written with another order of colours or rows than they are read back with.
_REFUSED: Mapping[str, tuple[str, ...]] = {
    "mov": ("vp8", "vp9", "av1", "rawvideo"),
    "mp4": ("vp8",),
    "matroska": ("rawvideo",),
}
_ANIMATIONS = ("gif", "apng")
"""Codecs of picture files, which hardly a player shows in a video file."""


def probe_moving(path: Path) -> tuple[MediaInfo, VideoStreamInfo]:
    """Describe a video, and its picture.

    Raises:
        MediaError: It can't be read or has no moving picture.
    """
    info = probe(path)
    if info.video is None or info.video.is_still:
        what = "has no picture" if info.video is None else "is a still picture"
        raise MediaError(f"{shown_name(path)}: {what}; give a video, or write the sound to .wav")
    return info, info.video


def has_to_be_encoded(
    video: VideoStreamInfo, num_past: int, output_path: Path, *, reencode: bool
) -> bool:
    """Decide whether a copy would not show the same; refuse or warn where it has to do."""
    stays_on = _stays_on(num_past, output_path)
    if not reencode:
        check_copy(video, output_path)
        if stays_on:
            logger.warning("%s", stays_on)
        return False
    return not holds(video.codec, output_path) or bool(
        _shows_hidden(video, output_path) or stays_on
    )


def check_copy(video: VideoStreamInfo, output_path: Path) -> None:
    """Refuse, before any work, a copy of a picture that would not show the same.

    Args:
        video: The picture.
        output_path: Ends in a suffix of `VIDEO_SUFFIXES`.

    Raises:
        UserError: The container can't hold the codec, or can't hide what an edit list hides.
    """
    if not holds(video.codec, output_path):
        raise UserError(unsupported(video.codec, output_path))
    if refusal := _shows_hidden(video, output_path):
        raise UserError(refusal)


def holds(codec: str, output_path: Path) -> bool:
    """Whether the container of a path holds a copy of pictures of a codec."""
    container_format, _ = FORMATS[output_path.suffix.lower()]
    if codec in _REFUSED.get(container_format, ()):
        return False
    with av.open(io.BytesIO(), "w", format=container_format) as trial:
        return codec in trial.supported_codecs


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
    codec, name = FORMATS[output_path.suffix.lower()][1], shown_name(output_path)
    tracks = list_tracks(info.path)
    groups = group_tracks(tracks)
    layouts = [group.layout for group in groups if group.layout]
    layout = mixed_layout(*layouts, "stereo") if len(layouts) == len(groups) else None
    try:
        check_layout(codec, layout, max(group.num_channels for group in groups), name=name)
    except UserError:
        if len(tracks) < 2:
            raise
        # Not all of them may be heard; which ones, only their sound tells.
        own = read_own_sound(info.path, duration_s=info.duration_s, quiet=True).sound
        layout = own.assumed_layout and mixed_layout(own.assumed_layout, "stereo")
        check_layout(codec, layout, own.num_channels, name=name)


def _shows_hidden(video: VideoStreamInfo, output_path: Path) -> str:
    """Say what a copy would show that the video's edit list hides; empty if nothing."""
    hidden, suffix = video.hidden, output_path.suffix
    what = f"{shown_name(output_path)}: the video's edit list hides pictures, and a copy"
    if hidden.num_between:
        return f"{what} would show them between others; use `reencode`"
    if (hidden.num_before or hidden.num_after) and suffix.lower() not in (".mp4", ".mov"):
        return f"{what} to {suffix} would show them; use .mp4 or .mov, or `reencode`"
    return ""


def _stays_on(num_past: int, output_path: Path) -> str:
    """Say which pictures a copy shows after its end; empty if none."""
    if not num_past or output_path.suffix.lower() in (".mp4", ".mov"):
        return ""
    pictures = "1 picture" if num_past == 1 else f"{num_past} pictures"
    return (
        f"{shown_name(output_path)}: shows {pictures} after its end, upon which others are built; "
        "`reencode`, .mp4 and .mov end exactly"
    )


def default_suffix(video_path: str | os.PathLike[str], *, reencode: bool = False) -> str:
    """Choose the suffix for a copy of a video: its own, or the first that loses nothing shown.

    Alpha and subtitles are shown; after the video's own, .mp4 is tried before others. Where it is
    allowed, animated pictures (GIF, APNG) are encoded, since hardly a player shows a copy.

    Args:
        video_path: The video.
        reencode: Whether pictures may be encoded again.

    Raises:
        MediaError: The video can't be read or has no moving picture.
    """
    path = Path(video_path)
    _, video = probe_moving(path)
    is_animation = video.codec in _ANIMATIONS
    suffixes = list(dict.fromkeys((path.suffix.lower(), ".mp4", ".mov", ".mkv", ".webm")))
    holding = [s for s in suffixes if s in FORMATS and holds(video.codec, Path(f"copy{s}"))]
    if reencode and (is_animation or not holding):
        return ".webm" if _shows_through(path) else ".mp4"
    if not holding:
        return ".mp4"
    if is_animation:
        logger.warning(
            "%s: hardly a player shows %s pictures in %s; `reencode` makes a video of them",
            shown_name(path),
            video.codec,
            holding[0],
        )
    with open_input(path) as source:
        for suffix in holding:
            if not loses_shown(source, video.index, FORMATS[suffix][0]):
                return suffix
    return holding[0]


def unsupported(codec: str, output_path: Path) -> str:
    """Say that a container can't hold a codec, and which ones can."""
    others = (suffix for suffix in FORMATS if suffix != output_path.suffix.lower())
    fitting = [suffix for suffix in others if holds(codec, Path(f"copy{suffix}"))]
    advice = f"use {' '.join(fitting)}, or `reencode`" if fitting else "use `reencode`"
    return (
        f"{shown_name(output_path)}: {output_path.suffix} cannot hold {codec} video, "
        f"and the picture is copied, not encoded again; {advice}"
    )


def _shows_through(path: Path) -> bool:
    """Whether any picture is transparent anywhere."""
    frames = (frame for _, frame in iter_pictures(path))
    with_alpha = takewhile(lambda frame: has_alpha_channel(frame.format.name), frames)
    return any(map(is_transparent, with_alpha))
