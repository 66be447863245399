"""The name of a sample entry (codec tag): that of the source, where the new container knows it.

In:   a picture of a source, an open output.
Out:  the tag that the copy's sample entry should have.

Tags say more than the codec does: which ProRes it is (apco, ap4h), which XDCAM, where H.264 has
its parameter sets (avc1, avc3). FFmpeg's muxers write one tag for each codec unless told another.
"""

from __future__ import annotations

import io

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from omni2sound.media.files import TAGS


def kept_codec_tag(stream: VideoStream, target: OutputContainer) -> str:
    """Return the source's tag; empty if it has none, or one that the container does not know.

    Of all tags, Matroska stores that of ProRes only; others in it are those of AVI.
    """
    container_format, tag = target.format.name, stream.codec_context.codec_tag
    is_prores = stream.codec_context.codec.canonical_name == "prores"
    is_kept = is_prores if container_format == "matroska" else container_format in ("mp4", "mov")
    is_quicktime = is_prores or "mp4" in stream.container.format.name
    if not is_kept or not is_quicktime or not tag.strip("\0"):
        return ""
    if tag.startswith("ai") and (stream.codec_context.extradata or b"").startswith(b"\1"):
        return ""  # FFmpeg writes no avcC beside a tag of AVC-Intra, where the file needs it
    try:
        with av.open(io.BytesIO(), "w", format=container_format, **TAGS) as trial:
            copy = trial.add_stream_from_template(stream, opaque=True)
            copy.codec_context.codec_tag = tag
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return ""
    return tag
