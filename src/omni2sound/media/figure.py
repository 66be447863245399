"""A picture of a video and its sound: frames above spectrograms, on one time axis.

In:   a few frames, evenly spaced over the sound's length, and one sound or several takes.
Out:  a Pillow image.

Column x of all parts is the same instant: a strike in a frame stands above its onset. Colours are
levels below a sine of full scale, so two pictures can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from omni2sound.media.spectrogram import (
    FULL_SCALE_RANGE_DB,
    LOWEST_HZ,
    colours_of,
    full_scale_spectrogram_FT,
)

if TYPE_CHECKING:
    from omni2sound.media.samples import Audio

WIDTH_PX = 1280
SPECTROGRAM_HEIGHT_PX = 240
TAKE_HEIGHT_PX = 150
"""Of each spectrogram, where there are several."""
MARGIN_LEFT_PX = 64
MARGIN_RIGHT_PX = 64
MARGIN_BOTTOM_PX = 28
MARGIN_TOP_PX = 34
GAP_PX = 6
_BAR_PX = 10


def frames_above_spectrogram(
    frames_HWC: Sequence[NDArray[np.uint8]], audio: Audio, *, title: str
) -> Image.Image:
    """Draw frames side by side above the spectrogram of the sound.

    Args:
        frames_HWC: RGB frames; number i of n shows the instant (i + 0.5) / n of the sound.
        audio: The sound; its channels are averaged.
        title: One line of text on top.
    """
    return contact_sheet(frames_HWC, [(title, audio)])


def contact_sheet(
    frames_HWC: Sequence[NDArray[np.uint8]], takes: Sequence[tuple[str, Audio]]
) -> Image.Image:
    """Draw frames side by side above the spectrograms of several sounds of one length.

    Args:
        frames_HWC: RGB frames; number i of n shows the instant (i + 0.5) / n of the sounds.
        takes: Title and sound of each; channels are averaged. The first title stands on top.
    """
    plot_width_px = WIDTH_PX - MARGIN_LEFT_PX - MARGIN_RIGHT_PX
    frame_width_px = plot_width_px // max(len(frames_HWC), 1)
    thumbnails = [Image.fromarray(frame) for frame in frames_HWC]
    strip_height_px = max(
        (round(t.height * frame_width_px / t.width) for t in thumbnails), default=0
    )
    height_px = SPECTROGRAM_HEIGHT_PX if len(takes) == 1 else TAKE_HEIGHT_PX
    first_px = MARGIN_TOP_PX + strip_height_px + GAP_PX
    step_px = height_px + MARGIN_TOP_PX
    size_px = first_px + step_px * len(takes) - MARGIN_TOP_PX + MARGIN_BOTTOM_PX
    image = Image.new("RGB", (WIDTH_PX, size_px), "white")
    for index, thumbnail in enumerate(thumbnails):
        left_px = MARGIN_LEFT_PX + index * frame_width_px
        resized = thumbnail.resize((frame_width_px - 2, strip_height_px), Image.Resampling.LANCZOS)
        image.paste(resized, (left_px, MARGIN_TOP_PX))
    for index, (title, audio) in enumerate(takes):
        top_px = first_px + index * step_px
        level_FT = full_scale_spectrogram_FT(
            audio.samples_CN.mean(axis=0), audio.sample_rate_hz, height_px, plot_width_px
        )
        image.paste(Image.fromarray(colours_of(level_FT)), (MARGIN_LEFT_PX, top_px))
        title_px = 8 if index == 0 else top_px - MARGIN_TOP_PX + 8
        draw = ImageDraw.Draw(image)
        font = ImageFont.load_default(size=16)
        draw.text((MARGIN_LEFT_PX, title_px), title, fill="black", font=font)
        _draw_axes(image, audio, top_px=top_px, height_px=height_px)
        _draw_scale(image, top_px=top_px, height_px=height_px)
    _draw_seconds(image, takes[0][1])
    return image


def _draw_axes(image: Image.Image, audio: Audio, *, top_px: int, height_px: int) -> None:
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=13)
    nyquist_hz = audio.sample_rate_hz / 2
    octaves = np.log2(nyquist_hz / LOWEST_HZ)
    shown_hz = (100, 250, 500, 1000, 2000, 4000, 8000, 16_000)
    for hz in shown_hz if height_px > TAKE_HEIGHT_PX else shown_hz[0::2]:
        if hz > nyquist_hz:
            continue
        y_px = top_px + float(np.log2(nyquist_hz / hz) / octaves) * height_px
        label = f"{hz} Hz" if hz < 1000 else f"{hz // 1000} kHz"
        draw.line((MARGIN_LEFT_PX - 5, y_px, MARGIN_LEFT_PX, y_px), fill="black")
        draw.text((MARGIN_LEFT_PX - 8, y_px), label, fill="black", font=font, anchor="rm")


def _draw_scale(image: Image.Image, *, top_px: int, height_px: int) -> None:
    """Draw the colours and what they mean: dB below a sine of full scale."""
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=12)
    left_px = image.width - MARGIN_RIGHT_PX + 8
    levels_F1 = np.linspace(1, 0, height_px)[:, None].repeat(_BAR_PX, axis=1)
    image.paste(Image.fromarray(colours_of(levels_F1)), (left_px, top_px))
    for below_db in range(0, int(FULL_SCALE_RANGE_DB) + 1, 30):
        y_px = top_px + 6 + below_db / FULL_SCALE_RANGE_DB * (height_px - 12)
        label = "0 dBFS" if below_db == 0 else f"-{below_db}"
        draw.text((left_px + _BAR_PX + 2, y_px), label, fill="black", font=font, anchor="lm")


def _draw_seconds(image: Image.Image, audio: Audio) -> None:
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=13)
    bottom_px = image.height - MARGIN_BOTTOM_PX
    right_px = image.width - MARGIN_RIGHT_PX
    duration_s = float(audio.duration_s)
    step_s = next(step for step in (1, 2, 5, 10, 30, 60, 600, 3600) if duration_s / step <= 20)
    for second in range(0, int(duration_s) + 1, step_s):
        x_px = MARGIN_LEFT_PX + second / duration_s * (right_px - MARGIN_LEFT_PX)
        draw.line((x_px, bottom_px, x_px, bottom_px + 4), fill="black")
        draw.text((x_px, bottom_px + 8), f"{second} s", fill="black", font=font, anchor="mt")
