"""Clips of synthetic scenes: what a system is shown, and the ground truth.

In:   recordings and pictures, a part of a track, a seed.
Out:  `SceneClip`s of one length, rendered one by one.

Two parts: "main", where every source is visible, and "offscreen", where one is visible and
another is named in the caption only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.metrics.onset import is_impulsive
from omni2sound.bench.metrics.scene_v1 import TrueEvent, true_events
from omni2sound.bench.tracks.track import PARTS, Part
from omni2sound.scenes.captions import captions
from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import Split
from omni2sound.scenes.material.levels import LEVEL_RATE_HZ, level_of
from omni2sound.scenes.render.render import render_audio, render_frames
from omni2sound.scenes.scene import Scene

MOTION_FPS = 25
MOTION_PX = 56
LOOK_PX = 224
CAPTION_SEED = 0x57A6E


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneClip:
    """One clip. Frames and sound are rendered on first access."""

    index: int
    """Index in its part."""
    scene: Scene
    assets: SceneAssets
    caption: str

    @cached_property
    def events(self) -> tuple[TrueEvent, ...]:
        """True events."""
        return true_events(self.scene, self.assets)

    @cached_property
    def seen_caption(self) -> str:
        """The caption without off-screen sounds, in the style of the whole one."""
        seen = replace(self.scene, events=tuple(e for e in self.scene.events if e.on_screen))
        return _caption(seen, self.assets)

    @cached_property
    def seen_impulsive(self) -> tuple[bool, ...]:
        """For each on-screen event, in order, whether its recording is impulsive."""
        levels = [level_of(self.assets, e.recording_id) for e in self.scene.events if e.on_screen]
        return tuple(is_impulsive(level.curve, LEVEL_RATE_HZ) for level in levels)

    @cached_property
    def sound_N(self) -> NDArray[np.float32]:
        """Ground-truth sound at 16 kHz."""
        return render_audio(self.scene, self.assets)

    @cached_property
    def motion_frames_THWK(self) -> NDArray[np.uint8]:
        """Small frames at `MOTION_FPS`."""
        return self.frames(MOTION_FPS, MOTION_PX)

    @cached_property
    def look_frames_THWK(self) -> NDArray[np.uint8]:
        """One large frame per second."""
        return self.frames(1, LOOK_PX)

    def frames(self, fps: int, size_px: int) -> NDArray[np.uint8]:
        """Frames at any rate and size."""
        return render_frames(self.scene, self.assets, fps=fps, size_px=size_px)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScenePictures:
    """Frames of a batch of scenes of one length."""

    first_index: int
    """Index of the first scene, for seeds."""
    vision_frames_BTHWK: NDArray[np.uint8]
    """At the rate and size of the vision encoder."""
    sync_frames_BTHWK: NDArray[np.uint8]
    """At the rate and size of the sync encoder."""
    duration_s: float


def draw_clips(
    assets: SceneAssets,
    part: Part,
    *,
    split: Split,
    seed: int,
    num_clips: int,
    duration_s: float,
    first: int = 0,
) -> Iterator[SceneClip]:
    """Draw clips `first` to `first + num_clips - 1` of a part.

    Args:
        assets: Recordings and pictures.
        part: "main" or "offscreen".
        split: Split of the material; captions of test clips use held-out wordings.
        seed: Random seed of the scenes.
        num_clips: Number of clips.
        duration_s: Duration of each in seconds.
        first: Index of the first clip.

    Raises:
        UserError: If a number is out of range.
        ConfigError: If the split lacks a class that the part needs.
    """
    for index in range(first, first + num_clips):
        scene = draw_scene(
            assets, split=split, seed=seed, index=index, kind=part, duration_s=duration_s
        )
        yield SceneClip(index=index, scene=scene, assets=assets, caption=_caption(scene, assets))


def _caption(scene: Scene, assets: SceneAssets) -> str:
    kind = [str(part) for part in PARTS].index(scene.kind)
    rng = np.random.default_rng([scene.seed, scene.index, kind, CAPTION_SEED])
    return captions(scene, assets.catalogue, rng=rng, held_out=scene.split == "test")[0]
