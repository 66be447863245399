"""What an Opus encoder puts before the sound, and FFmpeg leaves in.

In:   a sound track.
Out:  samples to drop from its beginning.

The header of Opus says how many samples its decoder needs before the sound begins (RFC 7845, 5.1);
Matroska says it once more, as "CodecDelay". FFmpeg up to 5.1 writes the latter as if the rate were
48 kHz, so that it is too small for sound of a lower rate, and FFmpeg from 7 on believes it.
"""

from __future__ import annotations

from av.audio.stream import AudioStream
from av.container import InputContainer

OPUS_RATE_HZ = 48_000
"""Of every decoded Opus track."""
_PRE_SKIP = slice(10, 12)


def priming_left(container: InputContainer, stream: AudioStream) -> int:
    """Return how many samples at the beginning of what FFmpeg decodes are no sound.

    Args:
        container: Just opened; the first decoded packet overwrites the delay.
        stream: Its track; 0 for all but Opus in Matroska.
    """
    context = stream.codec_context
    header = context.extradata or b""
    if context.codec.canonical_name != "opus" or "matroska" not in container.format.name:
        return 0
    if not header.startswith(b"OpusHead"):
        return 0
    return max(0, int.from_bytes(header[_PRE_SKIP], "little") - context.delay)
