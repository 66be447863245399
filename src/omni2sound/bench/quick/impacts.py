"""Impacts: test scenes with one impact among silent moving objects, and the onset of each sound.

In:   recordings and pictures, and a function that generates sound for frames.
Out:  `ImpactResult`: strongest onsets of generated sound and of the baselines.

Scenes come from the test split: none of its recordings, pictures or wordings was trained on. They
are made batch by batch, so memory does not grow with their number.

Shape suffixes: B scenes, T frames, H W picture, K colours, N samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.metrics.onset import strongest_onset_s
from omni2sound.bench.quick.score import ImpactResult
from omni2sound.bench.tracks.scene_clips import ScenePictures
from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.scenes.render.render import render_audio, render_frames
from omni2sound.scenes.scene import Scene

SoundForPictures = Callable[[ScenePictures], Sequence[NDArray[np.float32]]]
"""One mono waveform per scene, at 16 kHz."""


def run_impacts(
    assets: SceneAssets,
    generate: SoundForPictures,
    *,
    num_scenes: int,
    seed: int,
    duration_s: float,
    sync_px: int,
    vision_fps: int = 8,
    vision_px: int = 224,
    sync_fps: int = 25,
    batch_size: int = 8,
    on_scenes: Callable[[int, int], None] | None = None,
) -> ImpactResult:
    """Generate sound for test scenes and find the strongest onset of each.

    Args:
        assets: Recordings and pictures.
        generate: The model.
        num_scenes: Number of scenes.
        seed: Random seed of the scenes.
        duration_s: Duration of each scene in seconds.
        sync_px: Height and width of the sync encoder's frames.
        vision_fps: Frame rate of the vision encoder.
        vision_px: Height and width of its frames.
        sync_fps: Frame rate of the sync encoder.
        batch_size: Number of scenes per batch.
        on_scenes: Called with (scenes done, number of scenes).

    Raises:
        ConfigError: If the test split has no impulsive class with a picture.
        UserError: If a number is out of range.
    """
    truths_s: list[float] = []
    onsets_s: dict[str, list[float | None]] = {
        "generated": [],
        "oracle": [],
        "motion-energy": [],
        "silence": [],
    }
    for first in range(0, num_scenes, batch_size):
        scenes = [
            draw_scene(
                assets, split="test", seed=seed, index=i, kind="strike", duration_s=duration_s
            )
            for i in range(first, min(first + batch_size, num_scenes))
        ]
        pictures = ScenePictures(
            first_index=first,
            vision_frames_BTHWK=_frames(scenes, assets, vision_fps, vision_px),
            sync_frames_BTHWK=_frames(scenes, assets, sync_fps, sync_px),
            duration_s=duration_s,
        )
        truths_s += [scene.events[0].onset_s for scene in scenes]
        onsets_s["generated"] += _onsets(generate(pictures))
        onsets_s["oracle"] += _onsets(render_audio(scene, assets) for scene in scenes)
        onsets_s["motion-energy"] += [
            motion_peak_s(frames, sync_fps) for frames in pictures.sync_frames_BTHWK
        ]
        onsets_s["silence"] += [None] * len(scenes)
        if on_scenes is not None:
            on_scenes(first + len(scenes), num_scenes)
    return ImpactResult(truths_s=truths_s, onsets_s=onsets_s)


def motion_peak_s(frames_THWK: NDArray[np.uint8], fps: int) -> float | None:
    """Time of the largest change between frames: a baseline without learning.

    Frame i stands for the time (i + 0.5) / fps, so the change from i - 1 to i lies at i / fps.

    Args:
        frames_THWK: Frames of one scene.
        fps: Frame rate.

    Returns:
        Seconds, or None if nothing changes.
    """
    change_T = np.abs(np.diff(frames_THWK.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    if len(change_T) == 0 or change_T.max() == 0:
        return None
    return (int(change_T.argmax()) + 1) / fps


def _frames(
    scenes: Sequence[Scene], assets: SceneAssets, fps: int, size_px: int
) -> NDArray[np.uint8]:
    return np.stack([render_frames(scene, assets, fps=fps, size_px=size_px) for scene in scenes])


def _onsets(waveforms: Iterable[NDArray[np.float32]]) -> list[float | None]:
    return [strongest_onset_s(waveform, SAMPLE_RATE_HZ) for waveform in waveforms]
