"""Sprites: cut-outs placed, turned and stretched in a frame, and effects at their onsets.

In:   an object of a scene, its poses, the camera's window.
Out:  pixels in a Pillow frame.

Only the box of a sprite is changed, and its picture is scaled near its final size once, so a frame
costs a fraction of a millisecond.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.render.backdrop import draw_tool
from omni2sound.scenes.render.motion import Poses, events_of, poses_of
from omni2sound.scenes.scene import Scene, SceneObject

_PADDING_PX = 2
_MAX_WIDTH_TO_HEIGHT = 1.6
"""Wider pictures are made lower, so that they do not fill the frame."""
_EFFECT_S = 0.4
_NUM_PARTICLES = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """The camera's view, and its size in pixels."""

    x: float
    y: float
    zoom: float
    aspect: float
    width_px: int
    height_px: int

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        """Convert picture heights to pixels."""
        return (
            ((x - self.x) * self.zoom / self.aspect + 0.5) * self.width_px,
            ((y - self.y) * self.zoom + 0.5) * self.height_px,
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sprite:
    """One object, prepared for pasting."""

    image: Image.Image
    """RGBa (premultiplied, so that turning it mixes no colour of clear pixels in), with
    `_PADDING_PX` clear pixels around."""
    width: float
    """In picture heights at stretch 1."""
    height: float
    poses: Poses
    thing: SceneObject
    onsets_s: tuple[float, ...]
    origins: NDArray[np.float64]
    """(onsets, 2): position at each of its onsets."""

    @classmethod
    def of(
        cls,
        scene: Scene,
        thing: SceneObject,
        times_T: NDArray[np.float64],
        assets: SceneAssets,
        *,
        height_px: int,
        width_px: int,
    ) -> Sprite:
        """Load, crop, flip, resize and blur the picture, and compute all poses."""
        if thing.picture_id is None:
            pixels = draw_tool(thing.shape_seed)
        else:
            pixels = assets.rgba(thing.picture_id)
        picture = Image.fromarray(pixels)
        picture = picture.crop(picture.getchannel("A").getbbox() or (0, 0, *picture.size))
        if thing.mirrored:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        ratio = picture.width / picture.height
        height = thing.height * min(1.0, _MAX_WIDTH_TO_HEIGHT / ratio)
        size = (
            max(2, round(height * ratio * width_px / scene.aspect)),
            max(2, round(height * height_px)),
        )
        picture = picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
        padded = Image.new(
            "RGBA", (size[0] + 2 * _PADDING_PX, size[1] + 2 * _PADDING_PX), (0, 0, 0, 0)
        )
        padded.paste(picture, (_PADDING_PX, _PADDING_PX))
        padded = padded.convert("RGBa")
        blur_px = scene.look.blur * height_px
        if blur_px > 0.3:
            padded = padded.filter(ImageFilter.GaussianBlur(blur_px))
        onsets: tuple[float, ...] = ()
        if thing.role == "source":
            onsets = tuple(e.onset_s for e in events_of(scene, thing.source))
        at_onsets = poses_of(scene, thing, onsets, assets)
        return cls(
            image=padded,
            width=height * ratio,
            height=height,
            poses=poses_of(scene, thing, times_T, assets),
            thing=thing,
            onsets_s=onsets,
            origins=np.column_stack([at_onsets.x, at_onsets.y]),
        )

    def edges(self, window: Window, i: int) -> tuple[float, float, float, float]:
        """Left, top, right and bottom at frame `i`, as shares of the picture.

        The box of the picture's corners, so a turned one is smaller than its box.
        """
        poses = self.poses
        x, y = window.pixel(float(poses.x[i]), float(poses.y[i]))
        cos, sin = abs(math.cos(float(poses.angle[i]))), abs(math.sin(float(poses.angle[i])))
        wide = self.width * float(poses.stretch_x[i])
        high = self.height * float(poses.stretch_y[i])
        half_w = 0.5 * window.zoom * (cos * wide + sin * high) / window.aspect
        half_h = 0.5 * window.zoom * (sin * wide + cos * high)
        x, y = x / window.width_px, y / window.height_px
        return x - half_w, y - half_h, x + half_w, y + half_h

    def paste(self, frame: Image.Image, window: Window, i: int) -> None:
        """Draw the object at frame `i`."""
        poses = self.poses
        alpha = float(poses.alpha[i])
        if alpha < 0.01:
            return
        at_x, at_y = window.pixel(float(poses.x[i]), float(poses.y[i]))
        cos, sin = math.cos(float(poses.angle[i])), math.sin(float(poses.angle[i]))
        # Columns of the matrix from sprite units (-0.5 to 0.5) to pixels of the frame.
        scale_x = window.zoom * window.width_px / window.aspect
        scale_y = window.zoom * window.height_px
        wide = self.width * float(poses.stretch_x[i])
        high = self.height * float(poses.stretch_y[i])
        a, b = scale_x * cos * wide, -scale_x * sin * high
        c, d = scale_y * sin * wide, scale_y * cos * high
        half_w, half_h = 0.5 * (abs(a) + abs(b)) + 1, 0.5 * (abs(c) + abs(d)) + 1
        left, right = max(0, int(at_x - half_w)), min(frame.width, int(at_x + half_w) + 1)
        top, bottom = max(0, int(at_y - half_h)), min(frame.height, int(at_y + half_h) + 1)
        determinant = a * d - b * c
        if right <= left or bottom <= top or abs(determinant) < 1e-6:
            return
        inner_w = self.image.width - 2 * _PADDING_PX
        inner_h = self.image.height - 2 * _PADDING_PX
        ia, ib = d / determinant * inner_w, -b / determinant * inner_w
        ic, id_ = -c / determinant * inner_h, a / determinant * inner_h
        away_x, away_y = left - at_x, top - at_y
        layer = self.image.transform(
            (right - left, bottom - top),
            Image.Transform.AFFINE,
            (
                ia,
                ib,
                ia * away_x + ib * away_y + 0.5 * inner_w + _PADDING_PX,
                ic,
                id_,
                ic * away_x + id_ * away_y + 0.5 * inner_h + _PADDING_PX,
            ),
            Image.Resampling.BILINEAR,
        ).convert("RGBA")
        mask = layer.getchannel("A")
        if alpha < 0.99:
            mask = mask.point(lambda v: v * alpha)
        light = float(poses.light[i])
        if light > 0.01:
            layer = Image.blend(layer, Image.new("RGBA", layer.size, "white"), min(light, 0.8))
        frame.paste(layer.convert("RGB"), (left, top), mask)


def draw_effect(frame: Image.Image, sprite: Sprite, window: Window, time_s: float) -> None:
    """Draw sparks, dust or a halo shortly after each onset."""
    response = sprite.thing.response
    if response is None or response.effect == "none":
        return
    for k, onset_s in enumerate(sprite.onsets_s):
        age = (time_s - onset_s) / _EFFECT_S
        if 0 <= age < 1:
            x, y = (float(v) for v in sprite.origins[k])
            if response.effect == "halo":
                _draw_halo(frame, sprite, window, (x, y), age)
            else:
                rng = np.random.default_rng(round(1000 * onset_s))
                _draw_burst(ImageDraw.Draw(frame), sprite, window, (x, y), age, rng)


def _draw_halo(
    frame: Image.Image, sprite: Sprite, window: Window, origin: tuple[float, float], age: float
) -> None:
    """Draw a halo that fades in place: a growing ring would move for too long."""
    x, y = origin
    reach = 0.55 * sprite.height
    left, top = (int(v) for v in window.pixel(x - reach, y - reach))
    right, bottom = (int(v) + 1 for v in window.pixel(x + reach, y + reach))
    mask = Image.new("L", (max(1, right - left), max(1, bottom - top)), 0)
    shade = round(90 * (1 - age))
    ImageDraw.Draw(mask).ellipse((0, 0, mask.width - 1, mask.height - 1), fill=shade)
    frame.paste((255, 250, 225), (left, top, left + mask.width, top + mask.height), mask)


def _draw_burst(
    draw: ImageDraw.ImageDraw,
    sprite: Sprite,
    window: Window,
    origin: tuple[float, float],
    age: float,
    rng: np.random.Generator,
) -> None:
    response = sprite.thing.response
    assert response is not None
    x, y = origin
    size = sprite.height
    spread = 0.6 * (1 - (1 - age) ** 2) * size
    bright = response.effect == "sparks"
    colour = (255, 225, 120) if bright else (190, 175, 150)
    radius = (0.009 if bright else 0.014) * (1 - 0.7 * age) * window.height_px
    for angle, speed in zip(
        rng.uniform(0, 2 * np.pi, _NUM_PARTICLES),
        rng.uniform(0.5, 1.1, _NUM_PARTICLES),
        strict=True,
    ):
        fall = 0.3 * size * age * age
        at = window.pixel(
            x + (0.3 * size + spread * speed) * math.cos(angle),
            y + (0.3 * size + spread * speed) * math.sin(angle) + fall,
        )
        draw.ellipse((at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius), fill=colour)
