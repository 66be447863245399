"""Checks that each event of a scene is heard in its stem and seen in its picture at its onset.

In:   recordings and pictures, and which scenes.
Out:  how far each event is heard and seen from its onset, and which exceed the limits.

A stem is checked twice. `heard_s` uses the rule that placed the event, `levels.onset_of` on the
RMS of the whole band: it finds a misplaced recording but not a bad rule. `attack` therefore uses
loudness, which had no part in placing it: every millisecond a 5 ms Hann window, its power in six
bands, each compressed (power^0.3, Stevens), and their sum. No rule finds the beginning of a
swelling violin to 5 ms, so there are two times between which a sound begins: at a fifth of the
loudest of the next 0.3 s it is audible, and before half of it most of the attack has yet to come.
Both fractions were set on the 120 recordings that 600 test scenes play; in all 120 they bracket the
onset.

The picture of a source is rendered alone, without camera, cuts and noise: the check is that *it*
moves at the right time, not that a model can find it.

Shape suffixes: N samples, F frames of 1 ms, B bands, Q frequencies, E events, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from omni2sound.errors import UserError
from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.scenes.material.catalogue import Split
from omni2sound.scenes.material.levels import level_of, onset_of
from omni2sound.scenes.render.render import iter_frames, render_stems
from omni2sound.scenes.scene import Look, Scene, SceneEvent, SceneKind, Shot

MAX_HEARD_S = 0.005
MAX_SEEN_S = 0.040

_FPS = 50
_SIZE_PX = 64
_AROUND_S = 0.15
"""Search range for a peak of motion: half of the shortest gap between two events."""
_QUIET_LOOK = Look(noise=0.0, blur=0.0, exposure=1.0, flicker=0.0, blockiness=0.0, seed=0)

_BEFORE_S, _AFTER_S = 0.2, 0.3
_HOP = SAMPLE_RATE_HZ // 1000
_WINDOW = 5 * _HOP
_FFT = 128
_BAND_EDGES_HZ = (250, 500, 1000, 2000, 4000)
_LOUDNESS_EXPONENT = 0.3
_SILENT = 1e-4
"""A stem without a larger sample is silent."""
_AUDIBLE, _HALF = 0.2, 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Attack:
    """The attack of one event, in seconds after its onset."""

    audible_s: float
    """When its loudness reaches a fifth of the maximum that follows."""
    half_s: float
    """When its loudness reaches half of it."""

    def is_at_onset(self, tolerance_s: float) -> bool:
        """Whether it is audible in time after the onset, and did not begin long before it."""
        return self.audible_s <= tolerance_s and self.half_s >= -tolerance_s


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedEvent:
    """When one event is heard and seen, relative to its onset."""

    scene_id: str
    class_id: str
    onset_s: float
    heard_s: float | None
    """Seconds after the onset at which its stem begins; None if it is silent."""
    attack: Attack | None
    """Its attack by loudness; None if it is silent."""
    seen_s: float | None
    """Seconds after the onset at which its picture moves most; None off screen."""
    on_screen: bool

    @property
    def good(self) -> bool:
        """Whether it is heard, and seen if on screen, within the limits."""
        heard = self.heard_s is not None and abs(self.heard_s) <= MAX_HEARD_S
        heard &= self.attack is not None and self.attack.is_at_onset(MAX_HEARD_S)
        seen = self.seen_s is not None and abs(self.seen_s) <= MAX_SEEN_S
        return heard and (seen or not self.on_screen)


def check_scenes(
    assets: SceneAssets,
    *,
    split: Split,
    kind: SceneKind,
    seed: int,
    num_scenes: int,
    duration_s: float,
    on_scene: Callable[[int, int], None] | None = None,
) -> tuple[CheckedEvent, ...]:
    """Check the events of scenes 0 to `num_scenes` - 1.

    Args:
        assets: Recordings and pictures.
        split: Split whose material is used.
        kind: Kind of scene.
        seed: Random seed of the scenes.
        num_scenes: Number of scenes, at least one.
        duration_s: Length of each scene.
        on_scene: Called with (scenes done, `num_scenes`) after each.

    Raises:
        UserError: If a number is out of range.
    """
    if num_scenes < 1:
        raise UserError(f"expected 1 or more, got {num_scenes}", field="num_scenes")
    checked: list[CheckedEvent] = []
    for index in range(num_scenes):
        scene = draw_scene(
            assets, split=split, seed=seed, index=index, kind=kind, duration_s=duration_s
        )
        checked += check_scene(scene, assets)
        if on_scene is not None:
            on_scene(index + 1, num_scenes)
    return tuple(checked)


def check_scene(scene: Scene, assets: SceneAssets) -> tuple[CheckedEvent, ...]:
    """Check the events of one scene."""
    stems_EN = render_stems(scene, assets)
    return tuple(
        CheckedEvent(
            scene_id=scene.scene_id,
            class_id=event.class_id,
            onset_s=event.onset_s,
            heard_s=_heard_s(event, stem_N, level_of(assets, event.recording_id).onset_s),
            attack=measure_attack(stem_N, event.onset_s),
            seen_s=_seen_s(scene, event, assets) if event.on_screen else None,
            on_screen=event.on_screen,
        )
        for event, stem_N in zip(scene.events, stems_EN, strict=True)
    )


def _heard_s(event: SceneEvent, stem_N: NDArray[np.float32], lead_s: float) -> float | None:
    """Apply `levels.onset_of` to the stem from where the recording begins."""
    begin = max(0, round((event.onset_s - lead_s) * SAMPLE_RATE_HZ))
    if not np.abs(stem_N[begin:]).max(initial=0.0) > 1e-4 or np.abs(stem_N[:begin]).any():
        return None
    return begin / SAMPLE_RATE_HZ + onset_of(stem_N[begin:]) - event.onset_s


def _seen_s(scene: Scene, event: SceneEvent, assets: SceneAssets) -> float | None:
    """Find when the pixels of the source change most within `_AROUND_S` of the onset."""
    sources = [o for o in scene.objects if o.role == "source" and o.source == event.source]
    first = max(0.0, event.onset_s - _AROUND_S - 1 / _FPS)
    shot = Shot(
        start_s=0.0,
        from_x=0.5 * scene.aspect,
        from_y=0.5,
        from_zoom=1.0,
        to_x=0.5 * scene.aspect,
        to_y=0.5,
        to_zoom=1.0,
        shake=0.0,
        shake_seed=0,
    )
    alone = replace(
        scene,
        objects=tuple(sources),
        shots=(shot,),
        look=_QUIET_LOOK,
        background=replace(scene.background, kind="flat", picture_id=None, num_clutter=0),
    )
    last_s = event.onset_s + _AROUND_S + 1 / _FPS
    motion: list[tuple[float, float]] = []
    previous: NDArray[np.int16] | None = None
    for i, frame in enumerate(
        iter_frames(alone, assets, fps=_FPS, height_px=_SIZE_PX, width_px=_SIZE_PX)
    ):
        time_s = (i + 0.5) / _FPS
        if time_s > last_s:
            break
        if time_s < first:
            continue
        pixels = frame.astype(np.int16)
        if previous is not None:
            motion.append((float(np.abs(pixels - previous).mean()), time_s - 0.5 / _FPS))
        previous = pixels
    if not motion or max(motion)[0] == 0:
        return None
    return max(motion)[1] - event.onset_s


def measure_attack(stem_N: NDArray[np.float32], onset_s: float) -> Attack | None:
    """Measure the attack around `onset_s` by loudness; None if the stem is silent there.

    Args:
        stem_N: Sound of one event alone, 16 kHz.
        onset_s: Expected onset in seconds.
    """
    onset = round(onset_s * SAMPLE_RATE_HZ)
    before, after = round(_BEFORE_S * SAMPLE_RATE_HZ), round(_AFTER_S * SAMPLE_RATE_HZ)
    padded_N = np.pad(stem_N, (before + _WINDOW, after + _WINDOW))
    # Padded time is `before + _WINDOW` late; frame 0 is centred `before` ahead of the onset.
    first = onset + _WINDOW - _WINDOW // 2
    near_N = padded_N[first : first + before + after + _WINDOW]
    if not np.abs(near_N).max(initial=0.0) > _SILENT:
        return None
    loudness_F = _loudness(near_N)
    largest = loudness_F.max()
    audible, half = (int(np.argmax(loudness_F >= part * largest)) for part in (_AUDIBLE, _HALF))
    return Attack(
        audible_s=audible * _HOP / SAMPLE_RATE_HZ - _BEFORE_S,
        half_s=half * _HOP / SAMPLE_RATE_HZ - _BEFORE_S,
    )


def _loudness(sound_N: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sum compressed power over bands: (F,)."""
    frames = np.lib.stride_tricks.sliding_window_view(sound_N, _WINDOW)[::_HOP]
    spectrum_FQ = np.fft.rfft(frames * np.hanning(_WINDOW + 2)[1:-1], _FFT)
    power_FQ = np.abs(spectrum_FQ) ** 2
    starts = np.searchsorted(np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE_HZ), (0, *_BAND_EDGES_HZ))
    loudness: NDArray[np.float64] = (
        np.add.reduceat(power_FQ, starts, axis=1) ** _LOUDNESS_EXPONENT
    ).sum(axis=1)
    return loudness
