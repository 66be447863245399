"""Captions and pictures as vectors, for the baselines that retrieve.

In:   frozen encoders.
Out:  functions from a clip to one vector.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.systems.baselines import Embed
from omni2sound.bench.tracks.scene_clips import StageClip
from omni2sound.encoders.text import TextEncoder
from omni2sound.encoders.vision import VisionEncoder

__all__ = ["caption_embedding", "look_embedding"]


def caption_embedding(encoder: TextEncoder) -> Embed:
    """The mean of the token states of a clip's caption."""

    def embed(clip: StageClip) -> NDArray[np.float32]:
        tokens = encoder([clip.caption])
        mean: NDArray[np.float32] = tokens.states_BTD[0][tokens.mask_BT[0]].mean(dim=0).numpy()
        return mean

    return embed


def look_embedding(encoder: VisionEncoder) -> Embed:
    """The mean of the features of one picture a second."""

    def embed(clip: StageClip) -> NDArray[np.float32]:
        mean: NDArray[np.float32] = encoder.embed(clip.look_frames_THWK).mean(dim=0).numpy()
        return mean

    return embed
