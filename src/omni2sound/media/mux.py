"""Sound into a video: the picture is copied packet by packet.

In:   a video, an `Audio`.
Out:  mp4, mov, mkv or webm with the same video packets and sound as long as the longest track.

Times are those of `media.timing`, and the sound begins at its second 0. A file that starts up
to `KEPT_START_S` late keeps its timestamps; anything else (transport streams start hours late,
some files before zero) is moved by one constant so that it starts at zero. mp4 and mov keep
timestamps exactly; Matroska rounds them to its 1 ms. Pictures that an edit list hides stay
hidden, or the copy is refused, or encoded again on request (`copy.reencode`).
Subtitles, chapters, tags and what else lies beside the packets (`media.copy`) are kept where the
container holds them; the finished file is compared with its source, and one warning names what
is not in it.
"""

from __future__ import annotations

import heapq
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from omni2sound.errors import UserError
from omni2sound.media.copy.beside import Loss, complete, find_losses, read_beside
from omni2sound.media.copy.containers import (
    FORMATS,
    has_to_be_encoded,
    holds,
    probe_moving,
    unsupported,
)
from omni2sound.media.copy.editlist import begin_picture, end_picture
from omni2sound.media.copy.own_sound import read_own_sound
from omni2sound.media.copy.reencode import Encoder
from omni2sound.media.copy.shown import UnfaithfulCopyError, check_encoded, check_shown
from omni2sound.media.copy.side_tracks import SideTracks
from omni2sound.media.copy.tags import (
    kept_tags,
    language_tag,
    only_as_keys,
    track_tags,
    without_own,
)
from omni2sound.media.copy.track import copy_track
from omni2sound.media.encode import (
    AudioCodec,
    add_audio_stream,
    encode_audio,
    fit_sound,
    sound_codec,
)
from omni2sound.media.files import (
    VIDEO_SUFFIXES,
    check_output,
    create_output,
    open_input,
    shown_name,
)
from omni2sound.media.info import MediaInfo, VideoStreamInfo
from omni2sound.media.long_sound import fitted, mix
from omni2sound.media.loudness.level import Leveling, level
from omni2sound.media.packets import copy_packets, decoding_time, end_early, ends_early
from omni2sound.media.samples import Audio, Sound, round_half_up
from omni2sound.media.video import iter_pictures

logger = logging.getLogger(__name__)

KEPT_START_S = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class MuxReport:
    """What was done for one copy."""

    leveling: Leveling
    """What was done to the level of its sound."""
    is_encoded: bool
    """Whether its pictures were encoded again."""
    lost: tuple[str, ...]
    """What of the source is not in it, a few words each."""


def mux(
    video_path: str | os.PathLike[str],
    audio: Audio,
    output_path: str | os.PathLike[str],
    *,
    keep_audio: bool = False,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
    loudness_lufs: float | None = None,
    reencode: bool = False,
    duration_s: float | Fraction | None = None,
    bits: int | None = None,
) -> MuxReport:
    """Write a copy of a video with new sound.

    Args:
        video_path: The video; its first moving picture is copied.
        audio: The new sound; cut or padded to the video's length, its own sound included.
        output_path: Ends in .mp4 (AAC), .mov (PCM), .mkv or .webm (both Opus).
        keep_audio: Mix the video's own sound under the new one, each at its own level (at
            the higher of the two sample rates); without one, only the new sound is written.
        metadata: Tags added to the video's own; ``title`` and ``comment`` survive everywhere.
        overwrite: Replace an existing file (never the input).
        loudness_lufs: Target loudness of the written sound, after mixing. Default: unchanged.
        reencode: Encode the picture again where a copy would not show the same; a copy that
            would is still a copy.
        duration_s: The copy ends here. Default: with the video. Where the container can't end
            the picture early (.mkv, .webm), pictures after the end that others are built upon
            stay, which is said; with `reencode`, none does.
        bits: Bits a sample of the sound in a .mov: 16, 24, or 32 for floats. Default: 24.

    Returns:
        What was done to the level, and what the copy lost.

    Raises:
        MediaError: The video cannot be read or has no moving picture.
        UserError: The output is refused, its container cannot hold the video's codec, or no
            picture is shown before `duration_s`.
    """
    video_path, output_path = Path(video_path), Path(output_path)
    name = shown_name(output_path)
    check_output(output_path, overwrite=overwrite)
    if output_path.suffix.lower() not in FORMATS:
        raise UserError(f"{name}: not a video file; use {' '.join(VIDEO_SUFFIXES)}")
    info, video = probe_moving(video_path)
    if output_path.exists() and output_path.samefile(video_path):
        raise UserError(f"{name}: is the input itself; choose another name")
    num_past = 0
    if duration_s is not None:
        info, num_past = end_early(info, Fraction(duration_s))
        video = info.video or video
    codec = sound_codec(output_path, FORMATS[output_path.suffix.lower()][1], bits)
    sound: Sound = audio
    language = ""
    silenced: tuple[str, ...] = ()
    if keep_audio and info.audio is None:
        logger.warning("%s: has no sound of its own to keep", shown_name(video_path))
    elif keep_audio:
        own = read_own_sound(video_path, duration_s=info.duration_s)
        sound, language, silenced = mix(own.sound, audio), own.language, own.lost
    sound = fit_sound(sound, codec, name=name)
    num_samples = round_half_up(info.duration_s * sound.sample_rate_hz)
    sound, leveling = level(
        fitted(sound, num_samples),
        target_lufs=loudness_lufs,
        ceiling=codec.ceiling,
        between_samples=codec.lossy,
        name=name,
    )
    encoded = has_to_be_encoded(video, num_past, output_path, reencode=reencode)
    write = partial(_write_copy, info, video, sound, codec, output_path, metadata or {}, language)
    try:
        lost = _with_side_tracks(write, encoded=encoded)
    except UnfaithfulCopyError:
        if not reencode or encoded:
            raise
        lost = _with_side_tracks(write, encoded=(encoded := True))
    _report(output_path, lost, mkv_helps=holds(video.codec, output_path.with_suffix(".mkv")))
    words = dict.fromkeys((*silenced, *(loss.words for loss in lost)))
    return MuxReport(leveling=leveling, is_encoded=encoded, lost=tuple(words))


class _SideTracksRefusedError(UserError):
    """The file could not be written, perhaps because of damaged subtitles."""


def _with_side_tracks(write: Callable[..., list[Loss]], *, encoded: bool) -> list[Loss]:
    try:
        return write(encoded=encoded)
    except _SideTracksRefusedError:
        return write(encoded=encoded, with_side_tracks=False)


def _write_copy(
    info: MediaInfo,
    video: VideoStreamInfo,
    sound: Sound,
    codec: AudioCodec,
    output_path: Path,
    metadata: Mapping[str, str],
    language: str,
    *,
    encoded: bool,
    with_side_tracks: bool = True,
) -> list[Loss]:
    """Write the file; return what of the source is not in it."""
    container_format, _ = FORMATS[output_path.suffix.lower()]
    video_path, shift_s = info.path, _shift(info)
    start_s = info.timeline.start_s + shift_s
    with open_input(video_path) as source:
        in_stream = source.streams[video.index]
        assert isinstance(in_stream, VideoStream)
        first = next((f for _, f in iter_pictures(video_path)), None) if encoded else None
        beside = read_beside(video_path, source, in_stream, first)
        tags = _tags(source, metadata, container_format)
        keys, quicktime_keys = only_as_keys(tags, container_format)
        lost: list[Loss] = []
        first_times: tuple[Fraction, Fraction] | None = None

        def finish(path: Path) -> None:
            there = beside.without_codec() if encoded else beside
            complete(path, container_format, there, tags, quicktime_keys)
            _set_edits(path, info, video, shift_s=shift_s, first=first_times)
            goes_on = ends_early(info) and container_format not in ("mp4", "mov")
            if encoder:
                check_encoded(path, output_path.name, encoder.encoded)
                lost.extend(encoder.losses(in_stream, first))
            else:
                check_shown(path, output_path.name, video, shift_s=shift_s, goes_on=goes_on)
            lost.extend(side.lost)
            lost.extend(find_losses(path, beside, tags, encoded=encoded) + side.missing(path))

        with create_output(
            output_path,
            container_format=container_format,
            sample_rate_hz=sound.sample_rate_hz,
            verify=finish,
            options=_muxer_options(container_format, as_keys=bool(keys)),
        ) as target:
            encoder = Encoder(target, in_stream, video) if encoded else None
            out_stream = encoder.stream if encoder else copy_track(in_stream, target, video_path)
            out_stream.metadata.update(track_tags(in_stream.metadata, container_format))
            target.metadata.update(tags)
            sound_stream = add_audio_stream(target, codec, sound)
            if language:
                sound_stream.metadata["language"] = language_tag(language, container_format)
            side = SideTracks(video_path, source, target, video.index, add=with_side_tracks)
            end_s = start_s + info.duration_s
            side.set_chapters(source, target, shift_s=shift_s, end_s=end_s)
            try:
                _start(target, video.codec, output_path)
            except UserError as error:
                if side.copies:
                    raise _SideTracksRefusedError(str(error)) from error
                raise
            if encoder:
                shown = iter_pictures(video_path)
                pictures = encoder.packets(shown, start_s=start_s, end_s=info.duration_s)
            else:
                first_times, pictures = _peek(copy_packets(source, info, video, shift_s=shift_s))
            _interleave(
                target,
                side,
                encode_audio(
                    sound_stream, sound,
                    first_sample=round_half_up(start_s * sound.sample_rate_hz),
                ),
                _on_stream(pictures, out_stream),
                side.packets(info.timeline, shift_s=shift_s, end_s=end_s),
            )  # fmt: skip
    return lost


def _set_edits(
    path: Path,
    info: MediaInfo,
    video: VideoStreamInfo,
    *,
    shift_s: Fraction,
    first: tuple[Fraction, Fraction] | None,
) -> None:
    """Hide in a closed mp4 or mov what the source hides, and nothing else.

    FFmpeg's muxer hides what is shown before the first packet or 0, and shows the rest. `first`
    is the first packet's decoding and presentation time; None: the pictures are encoded again.
    """
    if path.suffix.lower() not in (".mp4", ".mov"):
        return
    begin_s = video.start_s + shift_s
    if first is not None and (video.hidden.num_before or first[1] > begin_s >= 0):
        begin_picture(path, begin_s, first_dts_s=first[0])
    if ends_early(info):
        end_picture(path, info.timeline.start_s + shift_s + info.duration_s)
    elif first is not None and video.hidden.num_after:
        end_picture(path, video.start_s + video.duration_s + shift_s)


def _peek(
    packets: Iterator[Packet[VideoStream]],
) -> tuple[tuple[Fraction, Fraction] | None, Iterator[Packet[VideoStream]]]:
    """Decoding and presentation time of the first packet, and all of them."""
    first = next(packets, None)
    if first is None:
        return None, packets
    shown_s = (first.pts or 0) * Fraction(first.time_base or 1)
    return (decoding_time(first), shown_s), chain([first], packets)


def _tags(
    source: InputContainer, added: Mapping[str, str], container_format: str
) -> dict[str, str]:
    """The source's tags under the added ones."""
    kept = without_own(kept_tags(source.metadata))
    if container_format in ("mp4", "mov") and "matroska" in source.format.name:
        kept = {key.lower(): value for key, value in kept.items()}  # Matroska has capitals only
    replaced = {key.lower() for key in added}
    return {k: v for k, v in kept.items() if k.lower() not in replaced} | dict(added)


def _muxer_options(container_format: str, *, as_keys: bool) -> dict[str, str]:
    if container_format not in ("mp4", "mov"):
        return {}
    # Dolby Vision and 360-degree boxes are no part of the ISO standard itself.
    options = {"strict": "unofficial"}
    return options | {"movflags": "use_metadata_tags"} if as_keys else options


def _start(target: OutputContainer, codec: str, output_path: Path) -> None:
    try:
        target.start_encoding()
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, OSError):  # the folder or the disk, not the codec
            raise
        raise UserError(unsupported(codec, output_path)) from error


def _report(output_path: Path, lost: list[Loss], *, mkv_helps: bool) -> None:
    if not lost:
        return
    advice = ""
    if output_path.suffix.lower() != ".mkv" and mkv_helps:
        only_here = [loss for loss in lost if loss.is_in_matroska]
        more = "more" if len(only_here) < len(lost) else "them" if len(lost) > 1 else "it"
        advice = f"; .mkv keeps {more}" if only_here else ""
    logger.warning(
        "%s: not kept in %s: %s%s",
        shown_name(output_path),
        output_path.suffix.lower(),
        ", ".join(dict.fromkeys(loss.words for loss in lost)),
        advice,
    )


def _shift(info: MediaInfo) -> Fraction:
    """Seconds to add to every timestamp; 0 for nearly all files."""
    start_s = info.timeline.start_s
    return Fraction(0) if 0 <= start_s <= KEPT_START_S else -start_s


def _on_stream(
    packets: Iterator[Packet[VideoStream]], stream: VideoStream
) -> Iterator[Packet[VideoStream]]:
    for packet in packets:
        packet.stream = stream
        yield packet


def _interleave(target: OutputContainer, side: SideTracks, *tracks: Iterator[Packet[Any]]) -> None:
    """Write all in order of decoding time; none is ever held as a whole."""
    try:
        for packet in heapq.merge(*tracks, key=decoding_time):
            target.mux(packet)
    except av.FFmpegError as error:
        if side.copies and not isinstance(error, OSError):
            raise _SideTracksRefusedError(str(error)) from error
        raise
