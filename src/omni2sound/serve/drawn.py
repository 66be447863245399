"""Pictures and numbers of a file, for the page: strip of frames, peaks, spectrogram.

In:   a media file.
Out:  bytes; drawn once and kept beside the file.

Threads are few, and all other calls need them: who waits for a drawing waits without one.
"""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image
from starlette.concurrency import run_in_threadpool

from omni2sound.errors import UserError
from omni2sound.media.audio import read_audio
from omni2sound.media.encode import AAC, add_audio_stream, encode_audio, fit_sound
from omni2sound.media.files import create_output
from omni2sound.media.info import probe
from omni2sound.media.spectrogram import colours_of, full_scale_spectrogram_FT
from omni2sound.media.video import iter_frames
from omni2sound.serve.errors import NotFoundError, NotPossibleError
from omni2sound.serve.limits import DRAWINGS, MAX_PEAKS
from omni2sound.serve.store import write_bytes

_SEEK_FROM_S = 30
"""A longer film is not decoded whole for its strip."""
_JPEG_QUALITY = 70
_PROXY_HEIGHT_PX, _PROXY_FPS = 360, Fraction(30)
_AT_ONCE, _FILMS_AT_ONCE = 2, 1
"""Drawings: the device's thread needs the processors more. Films take minutes."""
_locks = [threading.Lock() for _ in range(16)]
"""One drawing of a file at a time; two files rarely share a lock."""


Draw = Callable[[Path], bytes | None]
"""Returns the bytes of a file, or writes it and returns None."""


class Drawings:
    """Who draws and who waits for it, in one event loop."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._film_turn = asyncio.Semaphore(_FILMS_AT_ONCE)
        self._waiting = 0

    async def once(self, target: Path, draw: Draw, *, is_film: bool = False) -> None:
        """Write a file unless it is there.

        Args:
            target: The file.
            draw: How.
            is_film: Whether it takes long, and waits for its like alone.

        Raises:
            NotFoundError: The folder was deleted meanwhile.
            NotPossibleError: Too many drawings wait already.
        """
        if target.is_file():
            return
        if self._waiting >= DRAWINGS:
            raise NotPossibleError(503, "too many drawings wait; try again later")
        self._waiting += 1
        try:
            async with self._film_turn if is_film else self._turn:
                await run_in_threadpool(_once, target, draw)
        finally:
            self._waiting -= 1


def _once(target: Path, draw: Draw) -> None:
    if target.is_file():
        return
    with _locks[hash(target) % len(_locks)]:
        if target.is_file():
            return
        data = draw(target)
        if not target.parent.is_dir():
            raise NotFoundError("file")
        if data is not None:
            write_bytes(target, data)


def strip(video: Path, count: int, height_px: int) -> bytes:
    """Draw frames side by side, evenly spaced over the length, as JPEG.

    Raises:
        MediaError: The file has no picture.
    """
    info = probe(video)
    picture = info.video
    if picture is None:
        raise UserError("has no picture")
    width_px = min(max(1, round(picture.width_px * height_px / picture.height_px)), 4 * height_px)
    size, duration_s = (height_px, width_px), info.duration_s
    if picture.is_still:
        frames = list(iter_frames(video, fps=1, size_px=size, duration_s=1)) * count
    elif duration_s <= _SEEK_FROM_S:
        frames = list(
            iter_frames(video, fps=count / duration_s, size_px=size, duration_s=duration_s)
        )
    else:
        frames = [
            next(
                iter_frames(
                    video,
                    fps=1000,
                    size_px=size,
                    start_s=(index + Fraction(1, 2)) * duration_s / count,
                    duration_s=Fraction(1, 1000),
                )
            )
            for index in range(count)
        ]
    sheet = Image.fromarray(np.concatenate(frames[:count], axis=1))
    data = io.BytesIO()
    sheet.save(data, format="jpeg", quality=_JPEG_QUALITY)
    return data.getvalue()


def proxy(video: Path, target: Path) -> None:
    """Write a video small, as H.264 and AAC in mp4, which every browser plays.

    A sound of more than two channels becomes mono.

    Raises:
        MediaError: The file has no picture.
    """
    info = probe(video)
    picture, is_mono = info.video, info.audio is not None and info.audio.channels > 2
    if picture is None:
        raise UserError("has no picture")
    sound = None
    if info.audio is not None:
        sound = fit_sound(read_audio(video, mono=is_mono), AAC, name=target.name)
    fps = min(picture.average_fps, _PROXY_FPS).limit_denominator(1001)
    scale = min(1.0, _PROXY_HEIGHT_PX / picture.height_px)
    height, width = (
        max(2, round(side * scale / 2) * 2) for side in (picture.height_px, picture.width_px)
    )
    with create_output(
        target,
        container_format="mp4",
        sample_rate_hz=48_000 if sound is None else sound.sample_rate_hz,
        options={"movflags": "+faststart"},
    ) as container:
        options = {"crf": "26", "preset": "veryfast", "bf": "0"}
        stream: Any = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1  # the device needs the processors more
        packets: Iterator[Any] = iter(())
        if sound is not None:
            packets = encode_audio(add_audio_stream(container, AAC, sound), sound)
        ahead = next(packets, None)
        for number, frame_HWC in enumerate(iter_frames(video, fps=fps, size_px=(height, width))):
            frame = av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")
            frame.pts, frame.time_base = number, 1 / fps
            container.mux(stream.encode(frame))
            while ahead is not None and ahead.pts * ahead.time_base <= number / fps:
                container.mux(ahead)
                ahead = next(packets, None)
        container.mux(stream.encode(None))
        while ahead is not None:
            container.mux(ahead)
            ahead = next(packets, None)


def peaks(sound: Path, per_second: int) -> bytes:
    """Compute the lowest and highest sample of each part of a sound, over all channels, as JSON.

    Raises:
        MediaError: The file has no sound.
        UserError: The sound is too long for so many a second.
    """
    if probe(sound).audio is None:
        raise UserError("has no sound")
    audio = read_audio(sound)
    num_parts = max(1, -(-audio.num_samples * per_second // audio.sample_rate_hz))
    if num_parts > MAX_PEAKS:
        raise UserError("the sound is too long for so many; ask for fewer", field="per_second")
    starts = np.arange(num_parts) * audio.sample_rate_hz // per_second
    if audio.num_samples == 0:
        low_P = high_P = np.zeros(num_parts)
    else:
        low_P = np.minimum.reduceat(audio.samples_CN.min(axis=0), starts)
        high_P = np.maximum.reduceat(audio.samples_CN.max(axis=0), starts)
    pairs = np.stack([low_P, high_P], axis=1).astype(float).round(3)
    return json.dumps({"per_second": per_second, "peaks": pairs.tolist()}).encode()


def spectrogram(sound: Path, width_px: int, height_px: int) -> bytes:
    """Draw levels over time and frequency on an absolute scale, as PNG."""
    audio = read_audio(sound)
    mono_N = audio.samples_CN.mean(axis=0)
    level_FT = full_scale_spectrogram_FT(mono_N, audio.sample_rate_hz, height_px, width_px)
    data = io.BytesIO()
    Image.fromarray(colours_of(level_FT)).save(data, format="png")
    return data.getvalue()
