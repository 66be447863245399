"""Between ComfyUI's types and those of omni2sound.

In:   IMAGE (T, H, W, C) in 0..1; AUDIO {"waveform" (B, C, N), "sample_rate"}; VIDEO.
Out:  a video file; `Audio`s; AUDIO.

Shape suffixes: T frames, H W picture, B batch, C channels, N samples.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray

from omni2sound import Audio, UserError
from omni2sound.generate.studio.video import from_array, from_file_object

_SAME_S = 0.001
_SAME_FPS = 0.005
_FILM_FPS = tuple(Fraction(whole * 1000, 1001) for whole in (24, 30, 48, 60, 120))


def frames_of(images_THWC: torch.Tensor) -> NDArray[np.uint8]:
    """Frames (T, H, W, 3), uint8 RGB, of an IMAGE batch; transparency is left out."""
    scaled = images_THWC[..., :3].detach().float().cpu().clamp(0, 1) * 255
    frames_THWC: NDArray[np.uint8] = scaled.round().to(torch.uint8).numpy()
    return frames_THWC


def sounds_of(audio: Mapping[str, Any]) -> list[Audio]:
    """The sounds of an AUDIO batch."""
    waveform_BCN = audio["waveform"].detach().float().cpu().numpy()
    rate_hz = int(audio["sample_rate"])
    return [
        Audio(samples_CN=np.ascontiguousarray(x_CN, np.float32), sample_rate_hz=rate_hz)
        for x_CN in waveform_BCN
    ]


def audio_of(sounds: Sequence[Audio]) -> dict[str, Any]:
    """AUDIO of sounds with one rate, length and number of channels."""
    waveform_BCN = torch.from_numpy(np.stack([sound.samples_CN for sound in sounds]))
    return {"waveform": waveform_BCN, "sample_rate": sounds[0].sample_rate_hz}


def exact_fps(fps: float) -> float | Fraction:
    """The rate that people mean: 23.976 and 23.98 stand for 24000/1001."""
    return next((exact for exact in _FILM_FPS if abs(fps - exact) <= _SAME_FPS), fps)


@contextmanager
def video_file(
    video: Any | None, images_THWC: torch.Tensor | None, fps: float
) -> Iterator[Path | None]:
    """Give a VIDEO or an IMAGE batch as a file, there as long as the block; None of neither.

    Raises:
        UserError: Both are given.
    """
    if video is not None and images_THWC is not None:
        raise UserError("is given together with `video`; connect one of them", field="images")
    with tempfile.TemporaryDirectory(prefix="omni2sound-") as name:
        folder = Path(name)
        if images_THWC is not None:
            yield from_array(frames_of(images_THWC), exact_fps(fps), folder)
        elif video is None:
            yield None
        else:
            yield _file_of(video, folder)


def _file_of(video: Any, folder: Path) -> Path:
    """The file of a VIDEO as it is, or a new one where the VIDEO is only a part of it."""
    source = video.get_stream_source()
    if _is_whole(video, source):
        return Path(source) if isinstance(source, str) else from_file_object(source, folder)
    path = folder / "video.mp4"
    video.save_to(str(path))
    return path


def _is_whole(video: Any, source: Any) -> bool:
    """Whether a VIDEO is all of its source: a node before may have trimmed or cropped it."""
    trim = getattr(video, "get_active_trim_window", None)  # not in every version
    if trim is not None and any(trim()):
        return False
    with av.open(source) as container:
        stream = container.streams.video[0]
        size, duration = (stream.width, stream.height), container.duration
    if not isinstance(source, str):
        source.seek(0)
        return True  # made for this call, by `save_to`, or a file in memory
    same_length = duration is None or abs(duration / av.time_base - video.get_duration()) < _SAME_S
    return same_length and tuple(video.get_dimensions()) == size
