"""What a model is asked for on each track of the stage table.

In:   nothing.
Out:  names of tasks, and what a model must be able to do.

On "main" (all that sounds is seen) the pictures, the caption, or both are given. On "offscreen"
both are, and once more with a caption that leaves out what is only heard: what is heard of it
then was not asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.tracks.scene_clips import StageClip, Track

__all__ = ["MANY_STEPS", "SEEN_ONLY", "TASKS", "StageModel", "Task"]

Task = Literal["V2A", "T2A", "VT2A", "VT2A, seen only"]

SEEN_ONLY: Task = "VT2A, seen only"
"""With what is only heard left out of the caption."""
TASKS: Mapping[Track, tuple[Task, ...]] = {
    "main": ("V2A", "T2A", "VT2A"),
    "offscreen": ("VT2A", SEEN_ONLY),
}
MANY_STEPS = "VT2A, many steps"
"""The row of the same model with more sampling steps, on "main"."""


class StageModel(Protocol):
    """A model under test; `bench.generate.PipelineSounds` is one."""

    def for_clips(
        self, clips: Sequence[StageClip], tasks: Sequence[Task]
    ) -> Mapping[Task, Sequence[NDArray[np.float32]]]:
        """For each task, one mono waveform at 16 kHz for each clip."""

    def reconstruct(self, sound_N: NDArray[np.float32]) -> NDArray[np.float32]:
        """A sound through the model's own autoencoder and back."""
