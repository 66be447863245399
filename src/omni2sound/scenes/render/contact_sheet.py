"""Contact sheets: frames, spectrogram and events of a scene in one picture.

In:   a scene, its frames at 25 fps, its mix.
Out:  a Pillow image: frames over the whole scene, frames around the first seen onset, the
      spectrogram, and a bar for every event.

Frames and spectrogram share the time axis; a line at each onset goes through both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.signal import stft

from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ
from omni2sound.scenes.scene import Scene

SHEET_FPS = 25
_NUM_FRAMES = 10
_AROUND = (-6, -4, -2, -1, 0, 1, 2, 3, 5, 8)
"""Frames of the second row, counted from the one that holds the onset."""
_SPECTROGRAM_PX = 120
_ROW_PX = 15
_RANGE_DB = 70.0
_INK, _PAPER = (20, 20, 20), (250, 250, 248)
_SEEN, _UNSEEN = (46, 125, 50), (198, 40, 40)


def draw_sheet(
    scene: Scene, frames_THWC: NDArray[np.uint8] | None, mix_N: NDArray[np.float32]
) -> Image.Image:
    """Draw the contact sheet of one scene.

    Args:
        scene: The scene.
        frames_THWC: Frames at `SHEET_FPS`; None for a scene without picture.
        mix_N: Mix at 16 kHz.
    """
    strips: list[Image.Image] = []
    width = 1120
    if frames_THWC is not None:
        last = len(frames_THWC) - 1
        even = ((np.arange(_NUM_FRAMES) + 0.5) / _NUM_FRAMES * len(frames_THWC)).astype(int)
        strips.append(_row(frames_THWC, even.tolist(), width))
        seen = [e.onset_s for e in scene.events if e.on_screen]
        if seen:
            at = int(seen[0] * SHEET_FPS)
            around = [min(max(at + k, 0), last) for k in _AROUND]
            strips.append(_row(frames_THWC, around, width, marked=_AROUND.index(0)))
    strips += [_spectrogram(scene, mix_N, width), _bars(scene, width), _title(scene, width)]
    return stack_sheets(strips)


def stack_sheets(images: Sequence[Image.Image]) -> Image.Image:
    """Stack images vertically."""
    sheet = Image.new(
        "RGB", (max(i.width for i in images), sum(i.height + 2 for i in images)), _PAPER
    )
    top = 0
    for image in images:
        sheet.paste(image, (0, top))
        top += image.height + 2
    return sheet


def _row(
    frames: NDArray[np.uint8], indices: Sequence[int], width: int, *, marked: int | None = None
) -> Image.Image:
    step = width // len(indices)
    height = round((step - 2) * frames.shape[1] / frames.shape[2])
    row = Image.new("RGB", (width, height), _PAPER)
    for k, index in enumerate(indices):
        frame = Image.fromarray(frames[index]).resize((step - 2, height))
        if k == marked:
            ImageDraw.Draw(frame).rectangle((0, 0, step - 3, height - 1), outline=_SEEN, width=3)
        row.paste(frame, (k * step, 0))
    return row


def _spectrogram(scene: Scene, mix: NDArray[np.float32], width: int) -> Image.Image:
    _, _, bins = stft(mix, SAMPLE_RATE_HZ, nperseg=512, noverlap=512 - 128)
    level = 20 * np.log10(np.abs(bins) + 1e-9)
    shade = np.clip((level - level.max()) / _RANGE_DB + 1, 0, 1)[::-1]
    colour = np.stack([shade**0.8, shade**1.6, 0.35 * shade + 0.3 * (1 - shade) * shade], axis=2)
    image = Image.fromarray((255 * colour).astype(np.uint8)).resize((width, _SPECTROGRAM_PX))
    draw = ImageDraw.Draw(image)
    for event in scene.events:
        x = event.onset_s / scene.duration_s * width
        draw.line((x, 0, x, _SPECTROGRAM_PX), fill=(120, 255, 120) if event.on_screen else _UNSEEN)
    return image


def _bars(scene: Scene, width: int) -> Image.Image:
    image = Image.new("RGB", (width, _ROW_PX * max(1, len(scene.events))), _PAPER)
    draw = ImageDraw.Draw(image)
    for row, event in enumerate(scene.events):
        left, right = (t / scene.duration_s * width for t in (event.onset_s, event.offset_s))
        top = row * _ROW_PX
        colour = _SEEN if event.on_screen else _UNSEEN
        draw.rectangle((left, top + 2, max(right, left + 2), top + _ROW_PX - 2), fill=colour)
        words = f"{event.class_id}, {event.onset_s:.2f} s, {event.motion or 'unseen'}"
        anchor_left = left < 0.7 * width
        at = right + 4 if anchor_left and right < 0.8 * width else max(0.0, left - 6 * len(words))
        draw.text((at, top + 1), words, fill=_INK)
    return image


def _title(scene: Scene, width: int) -> Image.Image:
    image = Image.new("RGB", (width, _ROW_PX), _PAPER)
    cuts = ", ".join(f"{t:.2f}" for t in scene.cuts_s) or "none"
    words = f"{scene.scene_id}   {scene.duration_s:g} s   {scene.fps} fps   cuts: {cuts}"
    ImageDraw.Draw(image).text((0, 1), words, fill=_INK)
    return image
