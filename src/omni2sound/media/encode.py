"""Audio encoding: the codecs, and samples into packets of a track.

In:   a `Sound` and an open output.
Out:  packets, a few at a time, so that pictures can be written between them.

An encoder takes some rates and channel counts only; the sound is brought to the next rate
that it takes, never silently to other channels.

Shape suffixes: C channels, N samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from numpy.typing import NDArray

from omni2sound.errors import UserError
from omni2sound.media.files import shown_name
from omni2sound.media.layouts import layout_held
from omni2sound.media.long_sound import in_blocks, resampled, to_layout
from omni2sound.media.loudness.limiter import TRUE_PEAK_CEILING
from omni2sound.media.samples import Sound

_CHUNK_SAMPLES = 1024

_MAX_CHANNELS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioCodec:
    """One way to store sound, with what its encoder accepts."""

    name: str
    sample_format: str
    rates_hz: tuple[int, ...] | None = None
    """None: any."""
    layouts: tuple[str, ...] | None = None
    """Channel layouts that come back as they were, by name and order. None: any of 1 to 8."""
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
    layouts=("mono", "stereo", "2.1", "3.0", "3.0(back)", "4.0", "quad", "5.0", "5.1", "7.1"),
    bit_rate_per_channel=96_000,
)
OPUS = AudioCodec(
    name="libopus",
    sample_format="flt",
    rates_hz=(48000,),
    layouts=("mono", "stereo", "3.0", "quad", "5.1", "7.1"),  # 5.0 and 6.1 come back permuted
    bit_rate_per_channel=96_000,
)
MP3 = AudioCodec(
    name="libmp3lame",
    sample_format="fltp",
    rates_hz=(8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    layouts=("mono", "stereo"),
    bit_rate_per_channel=96_000,
)
PCM_16 = AudioCodec(name="pcm_s16le", sample_format="s16")
PCM_24 = AudioCodec(name="pcm_s24le", sample_format="s32")
PCM_32 = AudioCodec(name="pcm_f32le", sample_format="flt")
FLAC = AudioCodec(name="flac", sample_format="s16")
FLAC_24 = AudioCodec(name="flac", sample_format="s32")
"""FFmpeg's encoders of 24 bits take the upper ones of 32."""

BITS: Mapping[str, Mapping[int, AudioCodec]] = {
    ".mov": {16: PCM_16, 24: PCM_24, 32: PCM_32},
    ".wav": {16: PCM_16, 24: PCM_24, 32: PCM_32},
    ".flac": {16: FLAC, 24: FLAC_24},
}
"""Formats whose bits a sample can be chosen; 32 are floating point."""


def sound_codec(path: Path, default: AudioCodec, bits: int | None) -> AudioCodec:
    """Choose the codec of an output's sound.

    Args:
        path: The output.
        default: The codec of its suffix.
        bits: Bits a sample. Default: those of `default`.

    Raises:
        UserError: The format has no such choice.
    """
    if bits is None:
        return default
    choice = BITS.get(path.suffix.lower(), {})
    if bits in choice:
        return choice[bits]
    offered = ", ".join(f"{suffix} {'/'.join(map(str, kinds))}" for suffix, kinds in BITS.items())
    raise UserError(
        f"{shown_name(path)} can't be written with {bits}; use one of {offered}, or leave it out",
        field="bits",
    )


def check_layout(codec: AudioCodec, layout: str | None, num_channels: int, *, name: str) -> str:
    """Choose the channel layout in which a codec stores a sound without loss.

    Args:
        codec: The codec.
        layout: The sound's, as stated or assumed; None: unknown.
        num_channels: Number of channels of the sound.
        name: The file, for the message.

    Returns:
        The layout; it may call channels by another name or have silent ones in addition.

    Raises:
        UserError: The codec can't hold it.
    """
    held = None
    if layout is not None and num_channels <= _MAX_CHANNELS:
        held = layout_held(layout, codec.layouts)
    if held is None:
        what = f"channel layout {layout}" if layout else "unknown layout"
        raise UserError(
            f"{name}: {num_channels} channels ({what}), {codec.name} holds "
            f"{', '.join(codec.layouts or ('any known layout of up to 8',))}; "
            "mix them down to stereo, or choose another suffix"
        )
    return held


def fit_sound(sound: Sound, codec: AudioCodec, *, name: str) -> Sound:
    """Bring a sound to a sample rate and a channel layout of a codec.

    What is measured on the result is what a meter finds in the file.

    Raises:
        UserError: The codec can't hold its channel layout.
    """
    layout = check_layout(codec, sound.assumed_layout, sound.num_channels, name=name)
    sound = to_layout(sound, layout)
    if codec.rates_hz is not None and sound.sample_rate_hz not in codec.rates_hz:
        higher = [rate for rate in codec.rates_hz if rate >= sound.sample_rate_hz]
        sound = resampled(sound, min(higher, default=max(codec.rates_hz)))
    return sound


def add_audio_stream(container: OutputContainer, codec: AudioCodec, sound: Sound) -> AudioStream:
    """Add a track to an open output, for a sound from `fit_sound`."""
    rate = sound.sample_rate_hz
    stream = container.add_stream(codec.name, rate=rate)
    assert isinstance(stream, AudioStream)
    context = stream.codec_context
    assert sound.layout is not None
    context.layout = sound.layout
    context.format = codec.sample_format
    context.time_base = Fraction(1, rate)
    if codec.bit_rate_per_channel is not None:
        # 4 bits a sample: at 16 kHz and below nothing is gained beyond that.
        context.bit_rate = min(codec.bit_rate_per_channel, 4 * rate) * sound.num_channels
    return stream


def encode_audio(
    stream: AudioStream, sound: Sound, *, first_sample: int = 0
) -> Iterator[Packet[AudioStream]]:
    """Encode a sound packet by packet, so that a caller can interleave it with pictures.

    Args:
        stream: From `add_audio_stream`.
        sound: The sound, from `fit_sound`.
        first_sample: Timestamp of the first sample, in samples.
    """
    context = stream.codec_context
    at = first_sample
    for block_CN in in_blocks(sound.read(), _CHUNK_SAMPLES):
        packed: NDArray[Any] = np.ascontiguousarray(block_CN.T).reshape(1, -1)
        if context.format.name == "s16":
            packed = np.floor(packed.astype(np.float64) * 2**15 + 0.5)
            packed = np.clip(packed, -(2**15), 2**15 - 1).astype(np.int16)
        elif context.format.name == "s32":
            packed = np.floor(packed.astype(np.float64) * 2**23 + 0.5)
            packed = np.clip(packed, -(2**23), 2**23 - 1).astype(np.int32) << 8
        # Interleaved even for planar codecs: PyAV converts, and cannot fill 8 planes itself.
        frame = AudioFrame.from_ndarray(
            packed,
            format=context.format.name if packed.dtype.kind == "i" else "flt",
            layout=context.layout.name,
        )
        frame.sample_rate = sound.sample_rate_hz
        frame.pts = at
        frame.time_base = Fraction(1, sound.sample_rate_hz)
        at += block_CN.shape[1]
        yield from stream.encode(frame)
    yield from stream.encode(None)
