"""Videos with several sound tracks and their tags, made in code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from omni2sound.media import Audio
from tests.media.clips import grey

RATE_HZ = 48_000
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A sound track to write."""

    audio: Audio
    codec: str = "aac"
    language: str = ""
    title: str = ""
    disposition: int = 0


def tone(*hz: float, duration_s: float = 1.0, rate: int = RATE_HZ, level: float = 0.2) -> Audio:
    """One channel with one sine per frequency."""
    time_s = np.arange(round(duration_s * rate)) / rate
    sines_N = sum(level * np.sin(2 * np.pi * f * time_s) for f in hz) + np.zeros(len(time_s))
    return Audio(samples_CN=sines_N[None].astype(np.float32), sample_rate_hz=rate)


def stack(*channels: Audio) -> Audio:
    """Several mono sounds as the channels of one."""
    samples_CN = np.concatenate([audio.samples_CN for audio in channels])
    return Audio(samples_CN=samples_CN, sample_rate_hz=channels[0].sample_rate_hz)


def levels(audio: Audio, *hz: float) -> list[list[float]]:
    """Amplitude of each frequency in each channel."""
    num_samples = audio.samples_CN.shape[1]
    window_N = np.hanning(num_samples)
    power_CF = np.abs(np.fft.rfft(audio.samples_CN * window_N, axis=1)) ** 2
    power_CF *= 4 / num_samples / (window_N**2).sum()
    freqs_F = np.fft.rfftfreq(num_samples, 1 / audio.sample_rate_hz)
    return [[float(row_F[np.abs(freqs_F - f) < 10].sum() ** 0.5) for f in hz] for row_F in power_CF]


def write_film(
    path: Path, sounds: Sequence[Sound] = (), *, duration_s: float = 1.0, codec: str = "libx264"
) -> Path:
    """Write pictures at 25 fps and any number of sound tracks."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        video.codec_context.thread_count = 1
        tracks: list[Any] = []
        for sound in sounds:
            track: Any = container.add_stream(sound.codec, rate=sound.audio.sample_rate_hz)
            track.codec_context.layout = _LAYOUTS[sound.audio.num_channels]
            if sound.language:
                track.metadata["language"] = sound.language
            if sound.title:
                track.metadata["title"] = sound.title
            track.disposition = sound.disposition
            tracks.append(track)
        container.start_encoding()
        for number in range(round(duration_s * 25)):
            rgb = np.full((32, 48, 3), grey(number), np.uint8)
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for track, sound in zip(tracks, sounds, strict=True):
            packed = np.ascontiguousarray(sound.audio.samples_CN.T).reshape(1, -1)
            block = av.AudioFrame.from_ndarray(
                packed, format="flt", layout=_LAYOUTS[sound.audio.num_channels]
            )
            block.sample_rate, block.pts = sound.audio.sample_rate_hz, 0
            block.time_base = Fraction(1, block.sample_rate)
            container.mux(track.encode(block))
            container.mux(track.encode(None))
    return path
