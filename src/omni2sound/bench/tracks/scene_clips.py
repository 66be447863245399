"""The clips that the stage table is made of: what a system is shown, and what is true.

In:   the stage corpus, a track, a seed.
Out:  `StageClip`s of one length, made one by one and forgotten by the caller.

Two tracks, both from test material: "main", where all that sounds is seen, and "offscreen",
where one thing is seen and another is only heard and told of in the caption.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.metrics.onset import is_impulsive
from omni2sound.bench.metrics.scene_v1 import TrueEvent, true_events
from omni2sound.scenes.captions import captions
from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import Split
from omni2sound.scenes.material.levels import LEVEL_RATE_HZ, level_of
from omni2sound.scenes.render.render import render_audio, render_frames
from omni2sound.scenes.scene import Scene

__all__ = ["MOTION_FPS", "TRACKS", "ScenePictures", "StageClip", "Track", "draw_clips"]

Track = Literal["main", "offscreen"]
TRACKS: tuple[Track, ...] = get_args(Track)

MOTION_FPS = 25
MOTION_PX = 56
LOOK_PX = 224
CAPTION_SEED = 0x57A6E


@dataclass(frozen=True, kw_only=True, eq=False)
class StageClip:
    """One clip. Pictures are rendered when first asked for."""

    index: int
    """In its track."""
    scene: Scene
    assets: SceneAssets
    caption: str

    @cached_property
    def events(self) -> tuple[TrueEvent, ...]:
        """What ought to be heard."""
        return true_events(self.scene, self.assets)

    @cached_property
    def seen_caption(self) -> str:
        """The caption without what is only heard, in the style of the whole one."""
        seen = replace(self.scene, events=tuple(e for e in self.scene.events if e.on_screen))
        return _caption(seen, self.assets)

    @cached_property
    def seen_impulsive(self) -> tuple[bool, ...]:
        """For each on-screen event, in order: does its recording begin at once?"""
        levels = [level_of(self.assets, e.recording_id) for e in self.scene.events if e.on_screen]
        return tuple(is_impulsive(level.curve, LEVEL_RATE_HZ) for level in levels)

    @cached_property
    def sound_N(self) -> NDArray[np.float32]:
        """The scene's own sound."""
        return render_audio(self.scene, self.assets)

    @cached_property
    def motion_frames_THWK(self) -> NDArray[np.uint8]:
        """Small pictures at `MOTION_FPS`."""
        return self.frames(MOTION_FPS, MOTION_PX)

    @cached_property
    def look_frames_THWK(self) -> NDArray[np.uint8]:
        """One large picture a second."""
        return self.frames(1, LOOK_PX)

    def frames(self, fps: int, size_px: int) -> NDArray[np.uint8]:
        """Pictures at any rate and size."""
        return render_frames(self.scene, self.assets, fps=fps, size_px=size_px)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScenePictures:
    """What a model sees of a batch of scenes of one length."""

    first_index: int
    """Index of the first scene, for seeds."""
    vision_frames_BTHWK: NDArray[np.uint8]
    """At the rate and size of the "what" encoder."""
    sync_frames_BTHWK: NDArray[np.uint8]
    """At the rate and size of the "when" encoder."""
    duration_s: float


def draw_clips(
    assets: SceneAssets,
    track: Track,
    *,
    split: Split,
    seed: int,
    num_clips: int,
    duration_s: float,
    first: int = 0,
) -> Iterator[StageClip]:
    """Clips `first` to `first + num_clips - 1` of a track.

    Args:
        assets: The stage corpus.
        track: "main" or "offscreen".
        split: Whose material; captions of test clips are in held-out wordings.
        seed: Of the scenes.
        num_clips: How many.
        duration_s: Length of each.
        first: Index of the first.

    Raises:
        UserError: If a number is out of range.
        ConfigError: If the split has no class that the track needs.
    """
    for index in range(first, first + num_clips):
        scene = draw_scene(
            assets, split=split, seed=seed, index=index, kind=track, duration_s=duration_s
        )
        yield StageClip(index=index, scene=scene, assets=assets, caption=_caption(scene, assets))


def _caption(scene: Scene, assets: SceneAssets) -> str:
    kind = [str(track) for track in TRACKS].index(scene.kind)
    rng = np.random.default_rng([scene.seed, scene.index, kind, CAPTION_SEED])
    return captions(scene, assets.catalogue, rng=rng, held_out=scene.split == "test")[0]
