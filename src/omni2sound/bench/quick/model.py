"""A pipeline as functions that generate sound for rendered frames or for prompts.

In:   a loaded pipeline, settings, a seed.
Out:  waveforms. Clip i is generated from seed `seed + i`, whatever the batch size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.tracks.scene_clips import ScenePictures
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.models.conditioning import Conditions


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelineSounds:
    """A model under test, with its sampling settings."""

    pipeline: TorchPipeline
    seed: int
    duration_s: float
    """Duration of sounds for prompts without video, in seconds."""
    num_steps: int | None = None
    """Default: the model's."""
    guidance: float | None = None
    """Default: the model's."""
    text_guidance: float | None = None
    """Guidance scale of captions beside video. Default: `guidance`."""

    def for_pictures(
        self, pictures: ScenePictures, captions: Sequence[str] | None = None
    ) -> Sequence[NDArray[np.float32]]:
        """Generate sound for a batch of scenes, with captions or without."""
        conditions = self.pipeline.encoder.encode_arrays(
            pictures.vision_frames_BTHWK,
            pictures.sync_frames_BTHWK,
            captions,
            duration_s=pictures.duration_s,
        )
        return self._sounds(conditions, pictures.duration_s, pictures.first_index)

    def for_prompts(
        self, prompts: Sequence[str], first_index: int
    ) -> Sequence[NDArray[np.float32]]:
        """Generate sound for a batch of prompts."""
        conditions = self.pipeline.encoder.encode_arrays(
            None, None, prompts, duration_s=self.duration_s
        )
        return self._sounds(conditions, self.duration_s, first_index)

    def _sounds(
        self, conditions: Conditions, duration_s: float, first_index: int
    ) -> Sequence[NDArray[np.float32]]:
        both = conditions.text_BTE is not None and conditions.vision_BTV is not None
        samples_BN = self.pipeline.generate_batch(
            conditions,
            duration_s=duration_s,
            seeds=[self.seed + first_index + i for i in range(conditions.batch_size)],
            num_steps=self.num_steps,
            guidance=self.guidance,
            text_guidance=self.text_guidance if both else None,
        )
        return list(samples_BN.numpy())
