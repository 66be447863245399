"""What retrieval compares, without networks; importable by name, for workers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.systems.baselines import Embed
from omni2sound.bench.tracks.scene_clips import SceneClip


def words_embed() -> Embed:
    """Letter counts: near captions share words."""
    return Embed("words", _words)


def colours_embed() -> Embed:
    """Mean colours."""
    return Embed("colours", _colours)


def _words(clip: SceneClip) -> NDArray[np.float32]:
    letters = [ord(c) - ord("a") for c in clip.caption.lower() if "a" <= c <= "z"]
    return np.bincount(letters, minlength=26).astype(np.float32)


def _colours(clip: SceneClip) -> NDArray[np.float32]:
    colours: NDArray[np.float32] = clip.motion_frames_THWK.mean(axis=(0, 1, 2)).astype(np.float32)
    return colours
