"""What the sync encoder is asked for, frame by frame.

In:   exact onsets in seconds, the waveform of the on-screen sound.
Out:  soft onset targets and scaled levels, one per picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["SyncBatch", "SyncExample", "level_target", "onset_target", "stack_examples"]

LEVEL_FLOOR_DB = -60.0
"""Level that counts as silence; levels are scaled so that it is 0 and full scale is 1."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SyncExample:
    """One rendered scene.

    Attributes:
        frames_THWK: uint8 pictures, 25 a second.
        onset_T: Soft onset targets in [0, 1].
        level_T: Scaled level of the on-screen sound in [0, 1].
    """

    frames_THWK: NDArray[np.uint8]
    onset_T: NDArray[np.float32]
    level_T: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SyncBatch:
    """Examples of one length as tensors, which cross processes through shared memory."""

    frames_BTHWK: Tensor
    onset_BT: Tensor
    level_BT: Tensor


def stack_examples(examples: Sequence[SyncExample]) -> SyncBatch:
    """One batch of examples of one length."""
    return SyncBatch(
        frames_BTHWK=torch.from_numpy(np.stack([e.frames_THWK for e in examples])),
        onset_BT=torch.from_numpy(np.stack([e.onset_T for e in examples])),
        level_BT=torch.from_numpy(np.stack([e.level_T for e in examples])),
    )


def onset_target(onsets_s: Iterable[float], num_frames: int, fps: int) -> NDArray[np.float32]:
    """1 in the frame whose centre is the onset, falling to 0 two frames away."""
    centres_s = (np.arange(num_frames) + 0.5) / fps
    target = np.zeros(num_frames, np.float32)
    for onset_s in onsets_s:
        target = np.maximum(target, 1 - np.abs(centres_s - onset_s) * fps / 2)
    return target.astype(np.float32)


def level_target(sound_N: NDArray[np.float32], num_frames: int) -> NDArray[np.float32]:
    """Root mean square per frame in dB, scaled so that the floor is 0 and full scale 1."""
    hop = len(sound_N) // num_frames
    frames = sound_N[: hop * num_frames].reshape(num_frames, hop)
    level_db = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-12)
    scaled = np.clip(1 - level_db / LEVEL_FLOOR_DB, 0, 1)
    return np.asarray(scaled, np.float32)
