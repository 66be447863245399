"""Small files made in code, whose every picture says which one it is.

Picture number i is a flat grey of `grey(i)`; `number_of` reads it back through any lossy
codec, since neighbouring numbers are 8 levels apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from omni2sound.media import Audio

LEVELS = 28
"""Numbers repeat after this many; enough to tell any two near pictures apart."""


def grey(number: int) -> int:
    return 20 + 8 * (number % LEVELS)


def number_of(picture_HWC: NDArray[np.uint8]) -> int:
    return round((float(picture_HWC.mean()) - 20) / 8)


def write_video(
    path: Path,
    *,
    ticks: Sequence[int],
    time_base: Fraction = Fraction(1, 600),
    rate: Fraction | None = None,
    codec: str = "libx264",
    size: tuple[int, int] = (32, 48),
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    container_format: str | None = None,
    picture: Callable[[int], NDArray[np.uint8]] | None = None,
    prepare: Callable[[VideoStream], None] | None = None,
    sound: Audio | None = None,
    sound_codec: str = "aac",
    sound_first_sample: int = 0,
) -> Path:
    """Write a video with one picture per entry of `ticks` (times in `time_base`).

    `rate` is what the header claims as frames per second; None: one per tick.
    """
    height, width = size
    with av.open(
        str(path), "w", format=container_format, container_options=container_options or {}
    ) as container:
        stream: Any = container.add_stream(codec, rate=rate or 1 / time_base, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = time_base
        stream.codec_context.thread_count = 1
        if prepare is not None:
            prepare(stream)
        track: Any = None
        if sound is not None:
            track = container.add_stream(sound_codec, rate=sound.sample_rate_hz)
            track.codec_context.layout = sound.assumed_layout
        for number, tick in enumerate(ticks):
            rgb = (
                np.full((height, width, 3), grey(number), np.uint8)
                if picture is None
                else picture(number)
            )
            form = "rgb24" if rgb.shape[2] == 3 else "rgba"
            frame = av.VideoFrame.from_ndarray(rgb, format=form)
            frame.pts, frame.time_base = tick, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            write_track(container, track, sound, sound_first_sample)
    return path


def write_track(container: Any, track: AudioStream, sound: Audio, first_sample: int) -> None:
    interleaved = np.ascontiguousarray(sound.samples_CN.T).reshape(1, -1)
    layout = sound.assumed_layout
    assert layout is not None
    frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=layout)
    frame.sample_rate = sound.sample_rate_hz
    frame.pts, frame.time_base = first_sample, Fraction(1, sound.sample_rate_hz)
    container.mux(track.encode(frame))
    container.mux(track.encode(None))


def packets_of(path: Path) -> list[tuple[Fraction, Fraction | None, bool, bytes]]:
    """(pts, dts, key frame, data) of every video packet, times in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        base = stream.time_base
        assert base is not None
        return [
            (
                packet.pts * base,
                None if packet.dts is None else packet.dts * base,
                packet.is_keyframe,
                bytes(packet),
            )
            for packet in container.demux(stream)
            if packet.size and packet.pts is not None
        ]


def clicks(times_s: Iterable[float], *, duration_s: float, sample_rate_hz: int = 16_000) -> Audio:
    """Silence with short bursts of a tone; where each begins survives lossy codecs."""
    samples_N = np.zeros(round(duration_s * sample_rate_hz), np.float32)
    burst_N = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(sample_rate_hz // 20) / sample_rate_hz)
    for time_s in times_s:
        start = round(time_s * sample_rate_hz)
        part_N = samples_N[start : start + len(burst_N)]
        part_N += burst_N[: len(part_N)].astype(np.float32)
    return Audio(samples_CN=samples_N[None], sample_rate_hz=sample_rate_hz)


def onset_s(audio: Audio) -> float:
    """Time of the first sample above a tenth of full scale."""
    loud = np.flatnonzero(np.abs(audio.samples_CN).max(axis=0) > 0.1)
    assert len(loud), "no sound found"
    return float(loud[0]) / audio.sample_rate_hz


def shown_number(ticks: Sequence[int], time_base: Fraction, time_s: Fraction) -> int:
    """The number on screen `time_s` after the first picture: the law that decoding must obey."""
    return max(
        number
        for number, tick in enumerate(ticks)
        if number == 0 or (tick - ticks[0]) * time_base <= time_s
    )
