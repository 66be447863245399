"""Opening and creating media files: limits, allowed formats, one kind of error.

In:   paths from users.
Out:  open PyAV containers; `MediaError` for input and `UserError` for output that fails.

Files are untrusted. Only formats that hold their own bytes may be opened: a playlist or
a concat script would make FFmpeg open other files and hosts on the author's behalf. Sizes
in headers are never used to allocate memory.
"""

from __future__ import annotations

import codecs
import errno
import os
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from omni2sound.errors import MediaError, UserError
from omni2sound.files import atomic_path
from omni2sound.media.limits.budgets import MAX_FILE_BYTES, MAX_PIXELS, MAX_STREAMS
from omni2sound.media.limits.claims import check_claims
from omni2sound.media.timing.block_times import with_block_times
from omni2sound.stages import going_on

_StreamT = TypeVar("_StreamT", bound=Stream)

_FILE = "file:"
"""This prefix keeps a name like "a:b.mp4" from naming a protocol."""
_LONG_LOOK_US = "200000000"
"""Time of a stream within which FFmpeg looks for a first picture, where its 5 s hold none; it
never reads more than 5 MB for that."""
_BITEXACT = 0x0400
"""AVFMT_FLAG_BITEXACT of FFmpeg's avformat.h."""

TAGS: dict[str, Any] = (
    {"metadata_errors": "surrogateescape"} if int(av.__version__.split(".")[0]) < 19 else {}
)
"""For `av.open`: tags that are not UTF-8 stay the bytes that they are. PyAV 19 does that itself
and knows no such argument."""

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".opus", ".ogg", ".m4a")
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm")

# Demuxers by FFmpeg's names. Left out on purpose: hls, dash, concat, sdp, image2 (patterns),
# tty and everything else that opens further files or takes any text for media.
_DEMUXERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,nut,ivf,h264,hevc,obu,m4v,dv,rm,"
    "yuv4mpegpipe,mjpeg,gif,apng,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe,"
    "wav,w64,mp3,flac,aac,aiff,au,caf,ac3,eac3,amr,ape,wv,tta"
)


def shown_name(path: Path) -> str:
    """Return the file's name in a form that terminals print on one line."""
    name = path.name.encode("utf-8", "replace").decode("utf-8")
    return "".join(c if c.isprintable() else "?" for c in name) or "."


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn any failure inside the block into a `MediaError` about `path`."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise MediaError(f"{shown_name(path)}: no such file; check the path") from error
    except (av.FFmpegError, OSError, ValueError, OverflowError, MemoryError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise MediaError(
            f"{shown_name(path)}: cannot be read as video, sound or picture ({reason}); "
            + _what_to_do(path)
        ) from error


def _what_to_do(path: Path) -> str:
    head = b""
    with suppress(OSError):
        if path.is_file():  # a pipe would wait
            with path.open("rb") as file:
                head = file.read(1024).removeprefix(codecs.BOM_UTF8).lstrip()
    if head.startswith((b"#EXTM3U", b"[playlist]", b"ffconcat")) or b"<MPD" in head:
        return (
            "it is a playlist, which names other files: give one of them, or join them first "
            "(ffmpeg -i PLAYLIST -c copy OUT.mp4)"
        )
    return "check that it plays, or convert it to mp4 or wav"


@contextmanager
def open_input(path: Path, **demuxer_options: str) -> Iterator[InputContainer]:
    """Open a media file; it is closed when the block ends.

    Args:
        path: The file.
        **demuxer_options: FFmpeg's options of the file's format.

    Raises:
        MediaError: It is missing, not a regular file, empty, over a limit, or not media.
    """
    with reading(path):
        status = path.stat()
        name = shown_name(path)
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device would wait for ever
            raise MediaError(f"{name}: expected a file, got a folder, pipe or device")
        if status.st_size == 0:
            raise MediaError(f"{name}: the file is empty; copy or download it again")
        if status.st_size > MAX_FILE_BYTES:
            raise MediaError(
                f"{name}: {status.st_size} bytes, the limit is {MAX_FILE_BYTES}; cut it in parts"
            )
        check_claims(path, name, demuxers=_DEMUXERS)
        container = _open(path, demuxer_options)
        if container.format.name in ("mpegts", "mpeg") and any(
            _has_no_size(stream) for stream in container.streams.video
        ):
            container.close()
            container = _open(path, {"analyzeduration": _LONG_LOOK_US, **demuxer_options})
        with container:
            if len(container.streams) > MAX_STREAMS:
                raise MediaError(
                    f"{name}: {len(container.streams)} streams, the limit is {MAX_STREAMS}"
                )
            yield container


def _open(path: Path, demuxer_options: Mapping[str, str]) -> InputContainer:
    container: InputContainer = av.open(
        f"{_FILE}{path}",
        options={"max_pixels": str(MAX_PIXELS)},
        container_options={
            "protocol_whitelist": "file",
            "format_whitelist": _DEMUXERS,
            "max_streams": str(MAX_STREAMS),
            **demuxer_options,
        },
        **TAGS,
    )
    return container


def _has_no_size(stream: VideoStream) -> bool:
    """Whether FFmpeg has not come to a picture yet, in slides of a transport stream."""
    # PyAV types codec_context as always present; it is None where FFmpeg has no decoder.
    context = getattr(stream, "codec_context", None)
    return context is not None and context.width == 0


def read_packets(
    container: InputContainer,
    *streams: _StreamT,
    on_new_streams: Callable[[], object] | None = None,
) -> Iterator[Packet[_StreamT]]:
    """Yield packets in stored order, up to the end or to the point where the file breaks off.

    Empty packets are left out: to a decoder they mean "the end", while avi has them for
    "nothing new". Flush a decoder with ``stream.decode(None)``.

    `on_new_streams` is called at the end of a file in which streams appeared on the way; these are
    not read.

    Raises:
        av.FFmpegError: Not even one packet can be read.
    """
    # PyAV's types forget which stream a packet belongs to.
    packets = cast("Iterator[Packet[_StreamT]]", container.demux(*streams))
    packets = _whole_packets(packets, on_new_streams)
    if "matroska" in container.format.name:
        packets = with_block_times(packets, Path(container.name.removeprefix(_FILE)))
    return packets


def _whole_packets(
    packets: Iterator[Packet[_StreamT]], on_new_streams: Callable[[], object] | None
) -> Iterator[Packet[_StreamT]]:
    num_read = 0
    while True:
        try:
            packet = next(packets, None)
        except IndexError:  # PyAV, at the end of a file in which streams appeared on the way
            if on_new_streams is not None:
                on_new_streams()
            return
        except av.FFmpegError:
            if num_read == 0:
                raise
            return
        if packet is None:
            return
        going_on()
        if packet.size:
            num_read += 1
            _restore_end(packet)
            yield packet


def _restore_end(packet: Packet[Any]) -> None:
    """Take back what FFmpeg 9 (PyAV 19) trims too much from a late sound track of an mp4.

    It takes the length of the track for its end. A track that starts a few milliseconds late loses
    as many at its end (findings/ffmpeg9-mp4-late-sound.sh).
    """
    stream = packet.stream
    if not isinstance(stream, AudioStream) or not packet.has_sidedata("skip_samples"):
        return
    late, length = stream.start_time or 0, stream.duration
    if length is None or late <= 0 or packet.pts is None or packet.duration is None:
        return
    late_samples = round(late * (stream.time_base or 0) * stream.codec_context.sample_rate)
    entry = packet.get_sidedata("skip_samples")
    at_start, at_end = struct.unpack_from("<II", entry)
    if at_end >= late_samples and packet.pts + packet.duration == late + length:
        entry.update(struct.pack("<II", at_start, at_end - late_samples) + bytes(entry)[8:])
        packet.set_sidedata(entry)


def check_output(path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Refuse an output path before any work is spent on it.

    Raises:
        UserError: The suffix is unknown, the folder is missing or takes no files, or a file is in
            the way.
    """
    path = Path(path)
    name = shown_name(path)
    known = VIDEO_SUFFIXES + AUDIO_SUFFIXES
    if path.suffix.lower() not in known:
        raise UserError(
            f"{name}: suffix {path.suffix!r} is not one that can be written; use {' '.join(known)}"
        )
    if not path.parent.is_dir():
        raise UserError(f"{name}: folder {path.parent} does not exist; create it first")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{name}: folder {path.parent} cannot be written to; choose another one")
    if path.is_dir():
        raise UserError(f"{name}: is a folder; give a file name")
    if path.exists() and not overwrite:
        raise UserError(f"{name}: exists already; choose another name, or set `overwrite`")


def _verify(path: Path, temporary: Path, verify: Callable[[Path], object]) -> None:
    try:
        verify(temporary)
    except MediaError as error:
        reason = str(error).removeprefix(f"{shown_name(temporary)}: ")
        raise UserError(
            f"{shown_name(path)}: not written, since it could not be read back ({reason}); "
            "the input may be damaged: convert it first, or choose another suffix"
        ) from error


@contextmanager
def create_output(
    path: Path,
    *,
    container_format: str,
    sample_rate_hz: int,
    verify: Callable[[Path], object] | None = None,
    options: Mapping[str, str] | None = None,
    overwrite: bool = True,
) -> Iterator[OutputContainer]:
    """Create a media file under a temporary name; it gets its own name if the block succeeds.

    `verify` is called with the closed file before it is renamed; a `MediaError` from it
    means that no player could open the result, and nothing is left behind. The same packets
    give the same bytes: without `bitexact`, Matroska and Ogg draw random identifiers. `options`
    are those of FFmpeg's muxer. Without `overwrite`, a file that appeared meanwhile stays.

    Raises:
        UserError: The file cannot be written, or the format does not take a stream.
    """
    options = dict(options or {})
    if container_format in ("mp4", "mov", "ipod"):
        # Lengths and delays of tracks, to the sample instead of the default millisecond.
        options["movie_timescale"] = str(sample_rate_hz)
    try:
        with atomic_path(path, replace=overwrite) as temporary:
            with av.open(
                f"{_FILE}{temporary}",
                "w",
                format=container_format,
                container_options=options,
                **TAGS,
            ) as container:
                container.flags |= _BITEXACT
                yield container
            if verify is not None:
                _verify(path, temporary, verify)
    except UserError:
        raise
    except (av.FFmpegError, OSError, ValueError, OverflowError, MemoryError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        is_full = getattr(error, "errno", None) == errno.ENOSPC
        raise UserError(
            f"{shown_name(path)}: cannot be written ({reason}); check space and rights of the "
            f"folder{'' if is_full else ', or choose another suffix'}"
        ) from error
