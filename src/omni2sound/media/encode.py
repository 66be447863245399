"""Audio encoding: the codecs, and samples into packets of a track.

In:   an `Audio` and an open output.
Out:  packets, a few at a time, so that pictures can be written between them.

An encoder takes some rates and channel counts only; the sound is brought to the next rate
that it takes, never silently to other channels.

Shape suffixes: C channels, N samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from numpy.typing import NDArray

from omni2sound.errors import UserError
from omni2sound.media.loudness import TRUE_PEAK_CEILING, limit_peaks
from omni2sound.media.samples import Audio, resample

_CHUNK_SAMPLES = 1024

_LAYOUTS = {
    1: "mono",
    2: "stereo",
    3: "2.1",
    4: "quad",
    5: "5.0",
    6: "5.1",
    7: "6.1",
    8: "7.1",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioCodec:
    """One way to store sound, with what its encoder accepts."""

    name: str
    sample_format: str
    rates_hz: tuple[int, ...] | None = None
    """None: any."""
    channels: tuple[int, ...] = tuple(_LAYOUTS)
    """Counts that it keeps in order."""
    bit_rate_per_channel: int | None = None
    """At 32 kHz and above; less below. None: lossless."""

    @property
    def lossy(self) -> bool:
        """Whether samples come back changed."""
        return self.bit_rate_per_channel is not None

    @property
    def ceiling(self) -> float:
        """The largest value to give to it: a lossy codec needs room for what it changes."""
        return TRUE_PEAK_CEILING if self.lossy else 1.0


AAC = AudioCodec(
    name="aac",
    sample_format="fltp",
    rates_hz=(8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000),
    bit_rate_per_channel=96_000,
)
OPUS = AudioCodec(
    name="libopus",
    sample_format="flt",
    rates_hz=(48000,),
    channels=(1, 2, 4, 6, 8),  # 5 and 7 come back in another order, 3 is refused
    bit_rate_per_channel=96_000,
)
MP3 = AudioCodec(
    name="libmp3lame",
    sample_format="fltp",
    rates_hz=(8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    channels=(1, 2),
    bit_rate_per_channel=96_000,
)
PCM_16 = AudioCodec(name="pcm_s16le", sample_format="s16")
FLAC = AudioCodec(name="flac", sample_format="s16")


def add_audio_stream(
    container: OutputContainer, codec: AudioCodec, audio: Audio, *, name: str
) -> tuple[AudioStream, Audio]:
    """Add a track to an open output.

    Returns:
        The track, and the sound at a rate that the codec accepts.

    Raises:
        UserError: The codec cannot hold that many channels.
    """
    if audio.num_channels not in codec.channels:
        raise UserError(
            f"{name}: {audio.num_channels} channels, {codec.name} holds "
            f"{' or '.join(map(str, codec.channels))}; mix them down or choose another suffix"
        )
    if codec.rates_hz is not None and audio.sample_rate_hz not in codec.rates_hz:
        higher = [rate for rate in codec.rates_hz if rate >= audio.sample_rate_hz]
        # Resampling can overshoot a peak that fitted before.
        resampled = resample(audio, min(higher, default=max(codec.rates_hz)))
        audio = limit_peaks(resampled, ceiling=codec.ceiling)
    rate = audio.sample_rate_hz
    stream = container.add_stream(codec.name, rate=rate)
    assert isinstance(stream, AudioStream)
    context = stream.codec_context
    context.layout = _LAYOUTS[audio.num_channels]
    context.format = codec.sample_format
    context.time_base = Fraction(1, rate)
    if codec.bit_rate_per_channel is not None:
        # 4 bits a sample: at 16 kHz and below nothing is gained beyond that.
        context.bit_rate = min(codec.bit_rate_per_channel, 4 * rate) * audio.num_channels
    return stream, audio


def encode_audio(
    stream: AudioStream, audio: Audio, *, first_sample: int = 0
) -> Iterator[Packet[AudioStream]]:
    """Encode a sound packet by packet, so that a caller can interleave it with pictures.

    Args:
        stream: From `add_audio_stream`, with the sound that it returned.
        audio: The sound.
        first_sample: Timestamp of the first sample, in samples.
    """
    context = stream.codec_context
    rate, num_samples = audio.sample_rate_hz, audio.samples_CN.shape[1]
    chunk = _CHUNK_SAMPLES
    for start in range(0, num_samples, chunk):
        block_CN = audio.samples_CN[:, start : start + chunk]
        packed: NDArray[Any] = np.ascontiguousarray(block_CN.T).reshape(1, -1)
        if context.format.name == "s16":
            packed = np.floor(packed.astype(np.float64) * 32768 + 0.5)
            packed = np.clip(packed, -32768, 32767).astype(np.int16)
        # Interleaved even for planar codecs: PyAV converts, and cannot fill 8 planes itself.
        frame = AudioFrame.from_ndarray(
            packed,
            format="s16" if context.format.name == "s16" else "flt",
            layout=context.layout.name,
        )
        frame.sample_rate = rate
        frame.pts = first_sample + start
        frame.time_base = Fraction(1, rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)
