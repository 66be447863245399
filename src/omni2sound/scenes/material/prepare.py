"""Prepares one file of a package: cuts a waveform, crops a picture.

In:   encoded bytes, or bare `Samples`, and where the cut lies.
Out:  float32 (N,) at 16 kHz or the file's own rate, level-matched; uint8 (H, W, 4), longest
      side <= 256.

The cut begins where the catalogue says, on the onset: no padding and no fade that would move it.
Levels are matched over the loudest 50 ms, not over the whole sound, so that a short hit and a long
ring are equally loud at the onset.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr
from PIL import Image

from omni2sound.errors import MediaError
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from omni2sound.scenes.material.containers import Samples

MAX_SIDE_PX = 256
"""Longest side of a prepared picture."""

TARGET_RMS = 0.2
"""Root mean square of the loudest 50 ms, full scale 1."""
MAX_PEAK = 0.95
FADE_IN_S, FADE_OUT_S = 0.001, 0.02
"""The fade-in only removes the click of the cut and is far below the resolution of onsets."""
MAX_SOURCE_PIXELS = 256 * 1024 * 1024
ALPHA_SEEN = 16
"""Alpha (of 255) below which a border pixel counts as empty when cropping."""


def cut_waveform(source: bytes | Samples, *, start_s: float, end_s: float) -> NDArray[np.float32]:
    """Decode, mix to mono, resample, cut and match the level.

    Args:
        source: An encoded file, or samples of one channel.
        start_s: Start of the cut, seconds from the start of the file.
        end_s: End of the cut, or of the file if that is earlier.

    Returns:
        (N,) at 16 kHz with N >= 1.

    Raises:
        MediaError: If the file cannot be decoded or is silent there.
    """
    samples_N, rate_hz = _decode(source)
    if rate_hz != SAMPLE_RATE_HZ:
        samples_N = soxr.resample(samples_N, rate_hz, SAMPLE_RATE_HZ)
    return _cut(samples_N, SAMPLE_RATE_HZ, start_s=start_s, end_s=end_s)


def cut_at_own_rate(
    source: bytes | Samples, *, start_s: float, end_s: float
) -> tuple[NDArray[np.float32], int]:
    """Cut like `cut_waveform`, without resampling.

    Returns:
        (N,) with N >= 1, and its sample rate in Hz. The level is matched anew, since the loudest
        part of a sound may lie above what 16 kHz can hold.

    Raises:
        MediaError: If the file cannot be decoded or is silent there.
    """
    samples_N, rate_hz = _decode(source)
    return _cut(samples_N, rate_hz, start_s=start_s, end_s=end_s), rate_hz


def _decode(source: bytes | Samples) -> tuple[NDArray[np.float32], int]:
    if not isinstance(source, bytes):
        return source.samples_N, source.sample_rate_hz
    try:
        samples_NC, rate_hz = soundfile.read(io.BytesIO(source), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise MediaError(f"cannot decode a recording: {error}") from error
    return samples_NC.mean(axis=1), rate_hz


def _cut(
    samples_N: NDArray[np.float32], rate_hz: int, *, start_s: float, end_s: float
) -> NDArray[np.float32]:
    start, end = (round(t * rate_hz) for t in (start_s, end_s))
    cut_N = np.array(samples_N[start:end], dtype=np.float32)
    peak = float(np.abs(cut_N).max(initial=0.0))
    if not np.isfinite(peak) or peak < 1e-4:
        raise MediaError(f"a recording is silent or damaged between {start_s} and {end_s} s")
    _fade(cut_N, rate_hz)
    gain = min(TARGET_RMS / _loudest_rms(cut_N, rate_hz), MAX_PEAK / peak)
    return (cut_N * np.float32(gain)).astype(np.float32)


def picture_rgba(content: bytes) -> NDArray[np.uint8]:
    """Decode, crop to what is not transparent and limit the longest side.

    Returns:
        (H, W, 4), straight alpha.

    Raises:
        MediaError: If the picture cannot be decoded, is too large or is empty.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > MAX_SOURCE_PIXELS:
                raise MediaError(f"a picture of {image.width}x{image.height} pixels is too large")
            image.draft("RGB", (4 * MAX_SIDE_PX, 4 * MAX_SIDE_PX))
            picture = image.convert("RGBA")
    except (OSError, Image.DecompressionBombError, SyntaxError) as error:
        raise MediaError(f"cannot decode a picture: {error}") from error
    seen = picture.getchannel("A").point(lambda alpha: 255 if alpha >= ALPHA_SEEN else 0)
    box = seen.getbbox()
    if box is None:
        raise MediaError("a picture is fully transparent")
    picture = picture.crop(box)
    scale = MAX_SIDE_PX / max(picture.size)
    if scale < 1:
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        # Colours under alpha 0 must not bleed into the edge: shrink with alpha multiplied in.
        picture = picture.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    return np.array(picture, dtype=np.uint8)


def _fade(cut_N: NDArray[np.float32], rate_hz: int) -> None:
    fade_in = min(len(cut_N), round(FADE_IN_S * rate_hz))
    fade_out = min(len(cut_N), round(FADE_OUT_S * rate_hz))
    cut_N[:fade_in] *= np.linspace(0, 1, fade_in, dtype=np.float32)
    cut_N[len(cut_N) - fade_out :] *= np.linspace(1, 0, fade_out, dtype=np.float32)


def _loudest_rms(cut_N: NDArray[np.float32], rate_hz: int) -> float:
    window = min(len(cut_N), rate_hz // 20)
    energy = np.concatenate([[0.0], np.cumsum(np.square(cut_N, dtype=np.float64))])
    return float(np.sqrt((energy[window:] - energy[:-window]).max() / window))
