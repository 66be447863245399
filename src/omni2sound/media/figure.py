"""A picture of a video and its sound: frames above a spectrogram, on one time axis.

In:   a few frames, evenly spaced over the sound's length, and the sound.
Out:  a Pillow image.

Column x of both halves is the same instant: a strike in a frame stands above its onset.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from omni2sound.media.spectrogram import LOWEST_HZ, colours_of, log_spectrogram_FT

if TYPE_CHECKING:
    from omni2sound.media.samples import Audio

WIDTH_PX = 1280
SPECTROGRAM_HEIGHT_PX = 240
MARGIN_LEFT_PX = 64
MARGIN_BOTTOM_PX = 28
MARGIN_TOP_PX = 34
GAP_PX = 6


def frames_above_spectrogram(
    frames_HWC: Sequence[NDArray[np.uint8]], audio: Audio, *, title: str
) -> Image.Image:
    """Draw frames side by side above the spectrogram of the sound.

    Args:
        frames_HWC: RGB frames; number i of n shows the instant (i + 0.5) / n of the sound.
        audio: The sound; its channels are averaged.
        title: One line of text on top.
    """
    plot_width_px = WIDTH_PX - MARGIN_LEFT_PX
    frame_width_px = plot_width_px // max(len(frames_HWC), 1)
    thumbnails = [Image.fromarray(frame) for frame in frames_HWC]
    strip_height_px = max(
        (round(t.height * frame_width_px / t.width) for t in thumbnails), default=0
    )
    plot_top_px = MARGIN_TOP_PX + strip_height_px + GAP_PX
    height_px = plot_top_px + SPECTROGRAM_HEIGHT_PX + MARGIN_BOTTOM_PX

    image = Image.new("RGB", (WIDTH_PX, height_px), "white")
    for index, thumbnail in enumerate(thumbnails):
        left_px = MARGIN_LEFT_PX + index * frame_width_px
        resized = thumbnail.resize((frame_width_px - 2, strip_height_px), Image.Resampling.LANCZOS)
        image.paste(resized, (left_px, MARGIN_TOP_PX))
    level_FT = log_spectrogram_FT(
        audio.samples_CN.mean(axis=0), audio.sample_rate_hz, SPECTROGRAM_HEIGHT_PX, plot_width_px
    )
    image.paste(Image.fromarray(colours_of(level_FT)), (MARGIN_LEFT_PX, plot_top_px))
    _draw_axes(image, audio, title=title, plot_top_px=plot_top_px)
    return image


def _draw_axes(image: Image.Image, audio: Audio, *, title: str, plot_top_px: int) -> None:
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=13)
    draw.text((MARGIN_LEFT_PX, 8), title, fill="black", font=ImageFont.load_default(size=16))

    bottom_px = plot_top_px + SPECTROGRAM_HEIGHT_PX
    nyquist_hz = audio.sample_rate_hz / 2
    octaves = np.log2(nyquist_hz / LOWEST_HZ)
    for hz in (100, 250, 500, 1000, 2000, 4000, 8000):
        if hz > nyquist_hz:
            continue
        y_px = plot_top_px + float(np.log2(nyquist_hz / hz) / octaves) * SPECTROGRAM_HEIGHT_PX
        label = f"{hz} Hz" if hz < 1000 else f"{hz // 1000} kHz"
        draw.line((MARGIN_LEFT_PX - 5, y_px, MARGIN_LEFT_PX, y_px), fill="black")
        draw.text((MARGIN_LEFT_PX - 8, y_px), label, fill="black", font=font, anchor="rm")

    duration_s = float(audio.duration_s)
    step_s = next(step for step in (1, 2, 5, 10, 30, 60, 600, 3600) if duration_s / step <= 20)
    for second in range(0, int(duration_s) + 1, step_s):
        x_px = MARGIN_LEFT_PX + second / duration_s * (image.width - MARGIN_LEFT_PX)
        anchor = "rt" if x_px > image.width - 24 else "mt"
        draw.line((x_px, bottom_px, x_px, bottom_px + 4), fill="black")
        draw.text((x_px, bottom_px + 8), f"{second} s", fill="black", font=font, anchor=anchor)
