"""Pairs of views for the sync encoder: one like its first training, one like video files.

In:   the prepared corpus, a split, a seed.
Out:  `SyncPairs`: batches of easy and hard pictures of the same onsets.

The *easy* view is what the encoder knows: a still camera, 25 pictures a second, and an impact that
jolts a thing at rest. The *hard* view has the same onsets as files show them: another frame rate,
sampled by the picture on screen, a camera in a hand that turns and zooms, motion blur, and in half
of the scenes a thing that bounces, swings or falls freely (`render.free`). Things that swing
smoothly have no onset. `draw_cuts` says where clips cut to other scenes.

Pair i depends on (split, seed, i) only. Shape suffixes: B batch, T frames, H W picture, K colours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omni2sound.encoders.sync import SyncConfig, onset_target
from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.export.sync_batches import DURATION_S, render_batches
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import SPLITS, Split
from omni2sound.scenes.material.levels import level_of
from omni2sound.scenes.render.free import (
    FreeMotion,
    draw_camera,
    draw_free_motion,
    draw_hits,
    show_times,
)
from omni2sound.scenes.render.render import iter_frames_at
from omni2sound.scenes.scene import Background, Knot, Look, Response, Scene, SceneKind, Sway

_KINDS: tuple[SceneKind | None, ...] = (
    "main",
    None,
    "strike",
    None,
    "main",
    None,
    "offscreen",
    None,
)
"""Kinds of scenes in turn; None: free motion."""
_RATES_FPS = (12, 15, 24000 / 1001, 24, 25, 25, 30000 / 1001, 30, 30, 50, 60, 60, 120)
_EDGE_S = 0.15
_SWINGING_SHARE = 0.4
"""Share of free scenes in which something else swings smoothly."""
_PLAIN_SHARE = 0.3
_CLEAR_CLASS, _CLEAR_HEIGHT = "drum", 0.5
_CLEAR_RESPONSE = Response(
    strength=1.2, direction=3.1, decay_s=0.3, rate_hz=1.4, flash=0.3, effect="sparks"
)
_CLEAR_BACKGROUND = Background(
    kind="gradient",
    picture_id=None,
    colours=((215, 235, 240), (230, 250, 225), (230, 235, 245)),
    detail=1,
    num_clutter=0,
    seed=0,
)
_EXPOSURE_S = 0.012
_BLURRED_SHARE = 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncPairs:
    """A batch of pairs, as tensors for shared memory between processes.

    Attributes:
        easy_BTHWK: uint8 pictures, 25 a second.
        hard_BTHWK: The same onsets, as files show them.
        onset_BT: Soft onset targets in [0, 1].
    """

    easy_BTHWK: Tensor
    hard_BTHWK: Tensor
    onset_BT: Tensor


def _pair(
    assets: SceneAssets, config: SyncConfig, split: Split, seed: int, index: int
) -> SyncPairs:
    px, fps = config.frame_px, config.fps
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    kind = _KINDS[index % len(_KINDS)]
    scene = _still(
        draw_scene(
            assets,
            split=split,
            seed=seed,
            index=index,
            kind=kind or "strike",
            duration_s=DURATION_S,
        )
    )
    motions: Mapping[int, FreeMotion] = {}
    clear = scene
    if kind is None:
        scene, motions = _set_free(rng, scene)
        clear = _clear(scene, assets)
    grid = (np.arange(round(DURATION_S * fps)) + 0.5) / fps
    easy = np.stack(list(iter_frames_at(clear, assets, grid, height_px=px, width_px=px)))
    shown = show_times(grid, float(rng.choice(_RATES_FPS)))
    camera = draw_camera(rng, DURATION_S)
    exposures = (-1, 0, 1) if rng.random() < _BLURRED_SHARE else (0,)
    hard = np.zeros(easy.shape, np.float32)
    for part in exposures:
        times = shown + part * _EXPOSURE_S / len(exposures)
        frames = iter_frames_at(
            scene,
            assets,
            times,
            height_px=px,
            width_px=px,
            view=camera.view(times, scene.aspect),
            poses={i: motion.poses(times) for i, motion in motions.items()},
        )
        for sum_HWK, frame in zip(hard, frames, strict=True):
            sum_HWK += frame
    onsets = [e.onset_s for e in scene.events if e.on_screen]
    return SyncPairs(
        easy_BTHWK=torch.from_numpy(easy),
        hard_BTHWK=torch.from_numpy((hard / len(exposures)).astype(np.uint8)),
        onset_BT=torch.from_numpy(onset_target(onsets, len(grid), fps)),
    )


def _still(scene: Scene) -> Scene:
    """The scene before a camera that does not move and never cuts."""
    first = scene.shots[0]
    held = replace(first, shake=0.0, to_x=first.from_x, to_y=first.from_y, to_zoom=first.from_zoom)
    return replace(scene, shots=(held,))


def _set_free(rng: np.random.Generator, scene: Scene) -> tuple[Scene, dict[int, FreeMotion]]:
    """Give the source of a scene with one impact many, and the motions of its hard view."""
    hits_s = draw_hits(rng, DURATION_S, edge_s=_EDGE_S)
    event = scene.events[0]
    events = tuple(
        replace(event, onset_s=hit_s, offset_s=min(hit_s + 0.5, DURATION_S), motion="strike")
        for hit_s in hits_s
    )
    objects = tuple(
        replace(thing, visible_from_s=0.0, height=thing.height * float(rng.uniform(0.4, 1.0)))
        for thing in scene.objects
        if thing.role != "striker"
    )
    if rng.random() < _PLAIN_SHARE:  # a ball or a tool, drawn
        seed = int(rng.integers(1 << 31))
        objects = tuple(
            replace(o, picture_id=None, shape_seed=seed) if o.role == "source" else o
            for o in objects
        )
    motions = {}
    for i, thing in enumerate(objects):
        swings = thing.role == "distractor" and rng.random() < _SWINGING_SHARE / 2
        if thing.role == "source" or swings:
            mine = [] if swings else hits_s
            motions[i] = draw_free_motion(rng, mine, aspect=scene.aspect, height=thing.height)
    return replace(scene, events=events, objects=objects), motions


def _clear(scene: Scene, assets: SceneAssets) -> Scene:
    """One drum, large and in the middle, hit at the same onsets so that nobody can miss it.

    Of other things, and of faint impacts, the old encoder foretells soft sounds or none.
    """
    catalogue, split = assets.catalogue, scene.split
    (source,) = (thing for thing in scene.objects if thing.role == "source")
    recording = next(
        r
        for r in catalogue.recordings_of(_CLEAR_CLASS, split)
        if level_of(assets, r.recording_id).single
    )
    thing = replace(
        source,
        picture_id=catalogue.pictures_of(_CLEAR_CLASS, split)[0].picture_id,
        mirrored=False,
        height=_CLEAR_HEIGHT,
        response=_CLEAR_RESPONSE,
        sway=Sway(x=0.0, y=0.0, angle=0.0, rate_hz=1.0, phase=0.0),
        knots=(Knot(time_s=0.0, x=0.5 * scene.aspect, y=0.5),),
    )
    events = tuple(
        replace(event, gain_db=0.0, recording_id=recording.recording_id) for event in scene.events
    )
    return replace(
        scene,
        objects=(thing,),
        events=events,
        background=_CLEAR_BACKGROUND,
        look=Look(noise=5.0, blur=0.0, exposure=1.0, flicker=0.0, blockiness=0.0, seed=0),
    )


def _stack(pairs: Sequence[SyncPairs]) -> SyncPairs:
    return SyncPairs(
        easy_BTHWK=torch.stack([p.easy_BTHWK for p in pairs]),
        hard_BTHWK=torch.stack([p.hard_BTHWK for p in pairs]),
        onset_BT=torch.stack([p.onset_BT for p in pairs]),
    )


def sync_pairs(
    corpus: Path,
    config: SyncConfig,
    *,
    split: Split,
    seed: int,
    num_batches: int,
    num_workers: int = 1,
) -> Iterator[SyncPairs]:
    """Yield batches of `BATCH_SCENES` pairs.

    Args:
        corpus: Folder of recordings and pictures that `fetch` prepared.
        config: Size and rate of frames.
        split: Split whose pictures are used.
        seed: Random seed of the scenes.
        num_batches: Number of batches.
        num_workers: Number of processes that render; 0 renders in this one.
    """
    return render_batches(
        _pair,
        _stack,
        corpus=corpus,
        config=config,
        split=split,
        seed=seed,
        num_batches=num_batches,
        num_workers=num_workers,
    )


def draw_cuts(
    rng: np.random.Generator, batch: int, num_frames: int, *, share: float
) -> NDArray[np.intp]:
    """Draw which scene of the batch each one shows at each frame, (B, T)."""
    scene_BT = np.repeat(np.arange(batch)[:, None], num_frames, axis=1)
    for row in scene_BT:
        if rng.random() < share:
            cuts = np.sort(rng.integers(8, num_frames - 8, int(rng.integers(1, 4))))
            for first, last in zip(cuts, [*cuts[1:], num_frames], strict=True):
                row[first:last] = int(rng.integers(batch))
    return scene_BT
