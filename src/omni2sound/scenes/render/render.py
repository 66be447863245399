"""Renders a scene as arrays: sound, stems, frames.

In:   a scene, and the recordings and pictures it was drawn from.
Out:  float32 at 16 kHz; uint8 frames of any size and rate.

Frame i shows the scene at (i + 0.5) / fps, sample n is heard at n / 16000, and both follow the same
onsets: nothing here may shift one against the other. Geometry is in picture heights, so every size
shows the same scene; only sensor noise depends on the size.

Shape suffixes: E events, N samples, T frames, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from omni2sound.errors import UserError
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.scenes.material.levels import level_of
from omni2sound.scenes.render.backdrop import paint_background
from omni2sound.scenes.render.motion import Poses, path_of, shot_index, view_of
from omni2sound.scenes.render.sprites import Sprite, Window, draw_effect
from omni2sound.scenes.scene import Ambience, Scene, SceneEvent
from omni2sound.timebase import TimeBase

PEAK = 0.95
"""Largest sample of a mix; a louder mix is scaled as a whole."""

_FADE_S = 0.03
_STEADY_S = 0.3
_LOOP_AFTER_S = 0.05
"""An event that outlasts its recording by more is a bed."""
_CROSSFADE_S = 0.25
_CANVAS_MARGIN = 0.25
"""How far the background reaches beyond the picture, in picture heights."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sound:
    """Sound of a scene: mix = stems + ambience."""

    mix_N: NDArray[np.float32]
    stems_EN: NDArray[np.float32]
    """One row an event, in the order of `scene.events`."""
    ambience_N: NDArray[np.float32]


def render_sound(scene: Scene, assets: SceneAssets) -> Sound:
    """Render mix, stems and ambience."""
    num_samples = TimeBase().num_samples(scene.duration_s)
    stems = np.zeros((len(scene.events), num_samples), dtype=np.float32)
    for row, event in zip(stems, scene.events, strict=True):
        _play(row, scene, event, assets)
    ambience = np.zeros(num_samples, dtype=np.float32)
    if scene.ambience is not None:
        ambience = _room_tone(scene.ambience, num_samples)
    mix = stems.sum(axis=0, dtype=np.float32) + ambience
    factor = np.float32(min(1.0, PEAK / max(float(np.abs(mix).max()), 1e-9)))
    return Sound(mix_N=mix * factor, stems_EN=stems * factor, ambience_N=ambience * factor)


def render_audio(scene: Scene, assets: SceneAssets) -> NDArray[np.float32]:
    """Render the mix: (N,) at 16 kHz, at most `PEAK`."""
    return render_sound(scene, assets).mix_N


def render_stems(scene: Scene, assets: SceneAssets) -> NDArray[np.float32]:
    """Render each event alone, as loud as in the mix: (E, N)."""
    return render_sound(scene, assets).stems_EN


def render_frames(
    scene: Scene,
    assets: SceneAssets,
    *,
    fps: int | Fraction,
    size_px: int,
    width_px: int | None = None,
) -> NDArray[np.uint8]:
    """Render all frames: (T, H, W, 3) with T = ceil(duration * fps).

    Args:
        scene: A scene of any kind but "audio".
        assets: Recordings and pictures it was drawn from.
        fps: Frames per second.
        size_px: Height.
        width_px: Width. Default: square, into which wide scenes are squeezed, as encoders do.

    Raises:
        UserError: If the scene has no picture.
    """
    width_px = size_px if width_px is None else width_px
    num_frames = math.ceil(Fraction(scene.duration_s) * fps)
    frames = np.empty((num_frames, size_px, width_px, 3), dtype=np.uint8)
    for i, frame in enumerate(
        iter_frames(scene, assets, fps=fps, height_px=size_px, width_px=width_px)
    ):
        frames[i] = frame
    return frames


def iter_frames(
    scene: Scene, assets: SceneAssets, *, fps: int | Fraction, height_px: int, width_px: int
) -> Iterator[NDArray[np.uint8]]:
    """Render frames one by one: (H, W, 3).

    Raises:
        UserError: If the scene has no picture.
    """
    num_frames = math.ceil(Fraction(scene.duration_s) * fps)
    times: NDArray[np.float64] = (np.arange(num_frames, dtype=np.float64) + 0.5) / float(fps)
    yield from iter_frames_at(scene, assets, times, height_px=height_px, width_px=width_px)


def iter_frames_at(
    scene: Scene,
    assets: SceneAssets,
    times_T: NDArray[np.float64],
    *,
    height_px: int,
    width_px: int,
    view: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None = None,
    poses: Mapping[int, Poses] | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """Render frames of any times one by one: (H, W, 3).

    Args:
        scene: A scene of any kind but "audio".
        assets: Recordings and pictures it was drawn from.
        times_T: What each frame shows, in seconds.
        height_px: Height of a frame.
        width_px: Width of a frame.
        view: Centre (x, y) and zoom of the camera at each time. Default: the scene's.
        poses: Poses of some objects by their index. Default: the scene's.

    Raises:
        UserError: If the scene has no picture.
    """
    if not scene.has_picture:
        raise UserError(f"scene {scene.scene_id} is sound only; draw one of another kind")
    view_x, view_y, zoom = view_of(scene, times_T) if view is None else view
    blur_px = scene.look.blur * height_px
    canvas = _Canvas(scene, assets, height_px, width_px, blur_px)
    sprites = [
        Sprite.of(scene, thing, times_T, assets, height_px=height_px, width_px=width_px)
        for thing in scene.objects
    ]
    for index, other in (poses or {}).items():
        sprites[index] = replace(sprites[index], poses=other, onsets_s=())
    lens = _Lens(scene, times_T, height_px, width_px)
    shots = shot_index(scene, times_T)
    for i, time_s in enumerate(times_T):
        window = Window(
            x=float(view_x[i]),
            y=float(view_y[i]),
            zoom=float(zoom[i]),
            aspect=scene.aspect,
            width_px=width_px,
            height_px=height_px,
        )
        frame = canvas.seen_through(window, mirrored=bool(shots[i] % 2))
        for sprite in sprites:
            sprite.paste(frame, window, i)
        for sprite in sprites:
            draw_effect(frame, sprite, window, float(time_s))
        yield lens.expose(frame, i)


def _play(row_N: NDArray[np.float32], scene: Scene, event: SceneEvent, assets: SceneAssets) -> None:
    """Write one event into its stem, its measured onset exactly at `onset_s`."""
    level = level_of(assets, event.recording_id)
    waveform = assets.waveform(event.recording_id)
    if event.offset_s - event.onset_s > level.duration_s + _LOOP_AFTER_S:
        waveform = _looped(waveform, level.onset_s, event.offset_s - event.onset_s)
    start = round((event.onset_s - level.onset_s) * SAMPLE_RATE_HZ)
    skipped = max(0, -start)
    begin, end = max(0, start), min(len(row_N), round(event.offset_s * SAMPLE_RATE_HZ))
    piece = waveform[skipped : skipped + max(0, end - begin)]
    if not len(piece):
        return
    sound = piece * np.float32(level.scale * 10 ** (event.gain_db / 20))
    if event.motion == "pass_by":
        sound *= _nearness(scene, event, begin, len(sound))
    fade = min(round(_FADE_S * SAMPLE_RATE_HZ), len(sound) // 2)
    if fade:
        sound[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    row_N[begin : begin + len(sound)] = sound


def _looped(
    waveform: NDArray[np.float32], onset_s: float, duration_s: float
) -> NDArray[np.float32]:
    """Repeat a recording from its onset until it lasts, each time fading into its beginning."""
    onset = round(onset_s * SAMPLE_RATE_HZ)
    once = waveform[onset:]
    fade = min(round(_CROSSFADE_S * SAMPLE_RATE_HZ), len(once) // 3)
    rise = np.sin(np.linspace(0, np.pi / 2, fade, dtype=np.float32))
    looped = waveform.copy()
    while len(looped) < onset + duration_s * SAMPLE_RATE_HZ:
        joint = looped[len(looped) - fade :] * rise[::-1] + once[:fade] * rise
        looped = np.concatenate([looped[: len(looped) - fade], joint, once[fade:]])
    return looped


def _nearness(scene: Scene, event: SceneEvent, begin: int, count: int) -> NDArray[np.float32]:
    """Compute the gain of a source that passes by: loudest in the middle of the picture."""
    thing = next(o for o in scene.objects if o.role == "source" and o.source == event.source)
    coarse = np.linspace(0, count, max(2, count // 160 + 1))
    # Constant at first: a gain that rose there would move the measured onset.
    times_s = np.maximum((begin + coarse) / SAMPLE_RATE_HZ, event.onset_s + _STEADY_S)
    x, _, _, _ = path_of(thing, times_s)
    distance = (x - 0.5 * scene.aspect) / (0.5 * scene.aspect)
    gain = 1 / (1 + 1.5 * distance**2)
    return np.interp(np.arange(count), coarse, gain).astype(np.float32)


def _room_tone(ambience: Ambience, num_samples: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(ambience.seed)
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    bins = np.arange(len(spectrum)) + 0.01 * len(spectrum)
    noise = np.fft.irfft(spectrum * bins ** (-ambience.tilt / 2), num_samples)
    noise *= 10 ** (ambience.level_db / 20) / max(float(np.sqrt((noise**2).mean())), 1e-12)
    return noise.astype(np.float32)


class _Canvas:
    """A background larger than the picture, and the part that the camera sees."""

    def __init__(
        self, scene: Scene, assets: SceneAssets, height_px: int, width_px: int, blur_px: float
    ) -> None:
        self.aspect = scene.aspect
        self.scale_x = width_px / scene.aspect
        self.scale_y = float(height_px)
        self.image = paint_background(
            scene.background,
            assets,
            width_px=round((scene.aspect + 2 * _CANVAS_MARGIN) * self.scale_x),
            height_px=round((1 + 2 * _CANVAS_MARGIN) * self.scale_y),
            blur_px=blur_px,
        )
        self.last: tuple[tuple[object, ...], Image.Image] | None = None

    def seen_through(self, window: Window, *, mirrored: bool) -> Image.Image:
        """Crop a new RGB image of the window's size."""
        key = (window.x, window.y, window.zoom, mirrored)
        if self.last is None or self.last[0] != key:
            half_w, half_h = 0.5 * self.aspect / window.zoom, 0.5 / window.zoom
            box = (
                (window.x - half_w + _CANVAS_MARGIN) * self.scale_x,
                (window.y - half_h + _CANVAS_MARGIN) * self.scale_y,
                (window.x + half_w + _CANVAS_MARGIN) * self.scale_x,
                (window.y + half_h + _CANVAS_MARGIN) * self.scale_y,
            )
            image = self.image
            left, top = max(0.0, box[0]), max(0.0, box[1])
            right, bottom = min(float(image.width), box[2]), min(float(image.height), box[3])
            seen = image.resize(
                (window.width_px, window.height_px),
                Image.Resampling.BILINEAR,
                box=(left, top, right, bottom),
            )
            if mirrored:  # after a cut another side of the room is seen
                seen = seen.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            self.last = (key, seen)
        return self.last[1].copy()


class _Lens:
    """Exposure, flicker, sensor noise and blocks."""

    def __init__(self, scene: Scene, times: NDArray[np.float64], height: int, width: int) -> None:
        look = scene.look
        rng = np.random.default_rng(look.seed)
        rates, phases = rng.uniform(0.3, 6, 3), rng.uniform(0, 2 * np.pi, 3)
        waves = np.sin(2 * np.pi * times[:, None] * rates + phases).sum(axis=1) / 3
        self.gain = look.exposure * (1 + look.flicker * waves)
        self.blend = look.blockiness
        self.block = max(2, round(height / 28))
        self.size = (width, height)
        self.margin = 16 if look.noise else 0
        grain = np.full((height + self.margin, width + self.margin, 3), 128.0)
        if look.noise:
            grain += look.noise * rng.standard_normal(grain.shape, dtype=np.float32)
        self.grain = Image.fromarray(np.clip(grain, 0, 255).astype(np.uint8))
        self.shifts = rng.integers(0, self.margin + 1, (len(times), 2))

    def expose(self, frame: Image.Image, i: int) -> NDArray[np.uint8]:
        """Apply exposure, noise and blocks to frame `i`."""
        gain = float(self.gain[i])
        left, top = (int(v) for v in self.shifts[i])
        width, height = self.size
        grain = self.grain.crop((left, top, left + width, top + height))
        frame = ImageChops.add(frame, grain, scale=1 / gain, offset=round(-128 * gain))
        if self.blend:
            blocks = frame.reduce(self.block).resize(self.size, Image.Resampling.NEAREST)
            frame = Image.blend(frame, blocks, self.blend)
        return np.asarray(frame)
