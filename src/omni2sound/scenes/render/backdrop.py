"""Still pictures: backgrounds, and tools drawn in code.

In:   records of `scene`, a size in pixels.
Out:  Pillow images.

All random numbers are drawn before the size is used, so that 112 and 224 pixels show the same
scene.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.scene import Background

_MAX_OCTAVES = 6
_TOOL_PX = 96
_TOOL_COLOURS = ((139, 90, 43), (70, 70, 80), (190, 60, 50), (225, 190, 150), (60, 110, 170))


def paint_background(
    background: Background, assets: SceneAssets, *, width_px: int, height_px: int, blur_px: float
) -> Image.Image:
    """Paint an RGB image of exactly this size."""
    rng = np.random.default_rng(background.seed)
    size = (width_px, height_px)
    colours = np.array(background.colours, dtype=np.float64)
    weight = _weights(rng, background)
    layers = [_resize(field, size, Image.Resampling.BILINEAR) for field in weight]
    low, high, third = colours
    pixels = low + (high - low) * layers[0][..., None] + 0.5 * (third - low) * layers[1][..., None]
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if background.picture_id is not None:
        image = _with_picture(image, assets.rgba(background.picture_id))
    _scatter(image, rng, colours, background.num_clutter)
    return image.filter(ImageFilter.GaussianBlur(blur_px)) if blur_px > 0.3 else image


def _weights(rng: np.random.Generator, background: Background) -> list[NDArray[np.float64]]:
    """Draw two coarse fields between 0 and 1, each a sum of octaves or a ramp."""
    octaves = [[rng.random((2 << k, 2 << k)) for k in range(_MAX_OCTAVES)] for _ in range(2)]
    angle, amount = rng.uniform(0, 2 * np.pi), rng.uniform(0.02, 0.12)
    side = 2 << (_MAX_OCTAVES - 1)
    ramp_y, ramp_x = np.mgrid[0:side, 0:side] / (side - 1) - 0.5
    ramp = 0.5 + 0.7 * (np.cos(angle) * ramp_x + np.sin(angle) * ramp_y)
    fields = []
    for layers in octaves:
        field = np.zeros((side, side))
        for k, layer in enumerate(layers[: background.detail]):
            field += _resize(layer, (side, side), Image.Resampling.BICUBIC) * 0.6**k
        span = max(float(np.ptp(field)), 1e-6)
        fields.append((field - field.min()) / span)
    if background.kind == "gradient":
        return [ramp, amount * fields[1]]
    if background.kind == "flat":
        return [0.15 * ramp, amount * fields[1]]
    return fields


def _resize(
    field: NDArray[np.float64], size: tuple[int, int], how: Image.Resampling
) -> NDArray[np.float64]:
    image = Image.fromarray(field.astype(np.float32)).resize(size, how)
    return np.asarray(image, dtype=np.float64)


def _with_picture(image: Image.Image, rgba: NDArray[np.uint8]) -> Image.Image:
    """Paste the picture, enlarged and out of focus, over the texture."""
    width, height = image.size
    # Shrunk first: what is out of focus needs no detail, and the blur costs less.
    small = Image.fromarray(rgba).resize((24, 24), Image.Resampling.BOX)
    large = small.filter(ImageFilter.GaussianBlur(1)).resize(
        (round(1.2 * width), round(1.2 * height)), Image.Resampling.BICUBIC
    )
    left, top = (large.width - width) // 2, (large.height - height) // 2
    large = large.crop((left, top, left + width, top + height))
    image.paste(large, (0, 0), large.getchannel("A"))
    return image


def _scatter(
    image: Image.Image, rng: np.random.Generator, colours: NDArray[np.float64], count: int
) -> None:
    """Draw plain shapes that never move."""
    draw = ImageDraw.Draw(image)
    width, height = image.size
    for _ in range(count):
        x, y, half_w, half_h, mix = rng.random(5)
        shade = np.clip(colours[0] + (colours[2] - colours[0]) * (2 * mix - 0.5), 0, 255)
        fill = tuple(int(c) for c in shade)
        half_w, half_h = (0.02 + 0.1 * half_w) * height, (0.02 + 0.1 * half_h) * height
        box = (x * width - half_w, y * height - half_h, x * width + half_w, y * height + half_h)
        form = int(rng.integers(3))
        if form == 0:
            draw.ellipse(box, fill=fill)
        elif form == 1:
            draw.rectangle(box, fill=fill)
        else:
            draw.line(box, fill=fill, width=max(1, round(0.012 * height)))


def draw_tool(seed: int) -> NDArray[np.uint8]:
    """Draw a mallet, a stick, a ball or a fist that points to the right: (H, W, 4)."""
    rng = np.random.default_rng(seed)
    px = _TOOL_PX
    image = Image.new("RGBA", (2 * px, px), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    body, grip = (_TOOL_COLOURS[int(i)] for i in rng.integers(len(_TOOL_COLOURS), size=2))
    form = int(rng.integers(4))
    if form == 0:  # mallet
        draw.rectangle((0, 0.42 * px, 1.4 * px, 0.58 * px), fill=grip)
        draw.rounded_rectangle((1.3 * px, 0.1 * px, 1.95 * px, 0.9 * px), 10, fill=body)
    elif form == 1:  # stick
        draw.rounded_rectangle((0, 0.4 * px, 1.95 * px, 0.6 * px), 9, fill=body)
        draw.ellipse((1.7 * px, 0.33 * px, 2 * px - 1, 0.67 * px), fill=grip)
    elif form == 2:  # ball
        image = Image.new("RGBA", (px, px), (0, 0, 0, 0))
        draw = ImageDraw.Draw(image)
        draw.ellipse((2, 2, px - 3, px - 3), fill=body)
        draw.ellipse((0.2 * px, 0.15 * px, 0.5 * px, 0.45 * px), fill=(245, 245, 245, 160))
    else:  # fist on an arm
        draw.rectangle((0, 0.3 * px, 1.3 * px, 0.7 * px), fill=body)
        draw.ellipse((1.15 * px, 0.1 * px, 1.95 * px, 0.9 * px), fill=(225, 185, 150))
    return np.asarray(image)
