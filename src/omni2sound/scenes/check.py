"""Is every scene what it says it is? Each event is looked for in its stem and in its sprite.

In:   assets, and which scenes.
Out:  how far every event is heard and seen from its onset, and those beyond the limits.

A stem is asked twice: by the rule that placed the event (`heard_s`), which finds a recording that
is not where it was put, and by loudness (`beginning`), which would also find a bad rule.

The picture of a source is rendered alone, without camera, cuts and noise: what is checked is
that *it* moves at the right time, not that a model can find it.

Shape suffixes: N samples, T frames, H height, W width, C colours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from omni2sound.errors import UserError
from omni2sound.scenes.audible import Beginning, beginning_of
from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.scenes.material.catalogue import Split
from omni2sound.scenes.material.levels import level_of, onset_of
from omni2sound.scenes.render.render import iter_frames, render_stems
from omni2sound.scenes.scene import Look, Scene, SceneEvent, SceneKind, Shot

__all__ = ["MAX_HEARD_S", "MAX_SEEN_S", "CheckedEvent", "check_scene", "check_scenes"]

MAX_HEARD_S = 0.005
MAX_SEEN_S = 0.040

_FPS = 50
_SIZE_PX = 64
_AROUND_S = 0.15
"""How far a peak of motion is looked for: half of the shortest gap between two events."""
_QUIET_LOOK = Look(noise=0.0, blur=0.0, exposure=1.0, flicker=0.0, blockiness=0.0, seed=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedEvent:
    """One event, as it is heard and seen."""

    scene_id: str
    class_id: str
    onset_s: float
    heard_s: float | None
    """Seconds after the onset at which its stem begins; None if it is silent."""
    beginning: Beginning | None
    """The same, told by loudness."""
    seen_s: float | None
    """Seconds after the onset at which its picture moves most; None off screen."""
    on_screen: bool

    @property
    def good(self) -> bool:
        """Whether it is heard, and seen if it is on screen, where it should be."""
        heard = self.heard_s is not None and abs(self.heard_s) <= MAX_HEARD_S
        heard &= self.beginning is not None and self.beginning.is_at_onset(MAX_HEARD_S)
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
    """Every event of many scenes.

    Args:
        assets: The stage corpus.
        split: Whose material.
        kind: Of the scenes.
        seed: Of the scenes.
        num_scenes: How many, at least one.
        duration_s: Length of each.
        on_scene: Called with (scenes done, scenes in all).

    Raises:
        UserError: If a number is out of range.
    """
    if num_scenes < 1:
        raise UserError(f"number of scenes: expected 1 or more, got {num_scenes}")
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
    """Every event of one scene."""
    stems_EN = render_stems(scene, assets)
    return tuple(
        CheckedEvent(
            scene_id=scene.scene_id,
            class_id=event.class_id,
            onset_s=event.onset_s,
            heard_s=_heard_s(event, stem_N, level_of(assets, event.recording_id).onset_s),
            beginning=beginning_of(stem_N, event.onset_s),
            seen_s=_seen_s(scene, event, assets) if event.on_screen else None,
            on_screen=event.on_screen,
        )
        for event, stem_N in zip(scene.events, stems_EN, strict=True)
    )


def _heard_s(event: SceneEvent, stem_N: NDArray[np.float32], lead_s: float) -> float | None:
    """By the definition of `levels.onset_of`, which looks from where the recording begins."""
    begin = max(0, round((event.onset_s - lead_s) * SAMPLE_RATE_HZ))
    if not np.abs(stem_N[begin:]).max(initial=0.0) > 1e-4 or np.abs(stem_N[:begin]).any():
        return None
    return begin / SAMPLE_RATE_HZ + onset_of(stem_N[begin:]) - event.onset_s


def _seen_s(scene: Scene, event: SceneEvent, assets: SceneAssets) -> float | None:
    """When the source's pixels change most within `_AROUND_S` of the onset."""
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
