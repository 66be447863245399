"""A pipeline as the functions that evaluations ask for: sound for pictures, prompts, or both.

In:   a loaded pipeline, settings, a seed.
Out:  waveforms. Clip i is generated from seed `seed + i`, whatever the batch size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.stage_clips import StageClip
from omni2sound.bench.strikes import ScenePictures
from omni2sound.encoders.sync import SyncConfig
from omni2sound.errors import UserError
from omni2sound.models.conditioning import Conditions
from omni2sound.pipeline import Omni2SoundPipeline

__all__ = ["PipelineSounds"]

VISION_PX = 224


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelineSounds:
    """One model under test."""

    pipeline: Omni2SoundPipeline
    seed: int
    duration_s: float
    """Length of sounds that are made from a prompt alone."""
    num_steps: int | None = None
    """None: the model's default."""
    guidance: float | None = None
    """None: the model's default."""

    def for_pictures(self, pictures: ScenePictures) -> Sequence[NDArray[np.float32]]:
        """Video to audio for a batch of scenes."""
        conditions = self.pipeline.encoder.encode_arrays(
            pictures.vision_frames_BTHWK,
            pictures.sync_frames_BTHWK,
            None,
            duration_s=pictures.duration_s,
        )
        return self._sounds(conditions, pictures.duration_s, pictures.first_index)

    def for_prompts(
        self, prompts: Sequence[str], first_index: int
    ) -> Sequence[NDArray[np.float32]]:
        """Text to audio for a batch of prompts."""
        conditions = self.pipeline.encoder.encode_arrays(
            None, None, prompts, duration_s=self.duration_s
        )
        return self._sounds(conditions, self.duration_s, first_index)

    def for_clips(
        self, clips: Sequence[StageClip], *, pictures: bool, prompts: bool
    ) -> Sequence[NDArray[np.float32]]:
        """Any task for a batch of clips of one length.

        Args:
            clips: What the model may look at or read.
            pictures: Give their pictures.
            prompts: Give their captions.

        Raises:
            UserError: If the model does not look at pictures as arrays.
        """
        parts = self.pipeline.model.config
        vision = sync = None
        if pictures:
            if not isinstance(parts.sync, SyncConfig):
                raise UserError(
                    "scenes are rendered for the embedded encoders; a model with Synchformer "
                    "needs them as files: omni2sound data stage build"
                )
            vision = np.stack([c.frames(parts.timebase.vision_fps, VISION_PX) for c in clips])
            if not isinstance(parts.sync, SyncConfig):
                raise UserError("scenes are rendered for the embedded sync encoder; give its model")
            sync_px = parts.sync.frame_px
            sync = np.stack([c.frames(parts.timebase.sync_fps, sync_px) for c in clips])
        duration_s = clips[0].scene.duration_s
        conditions = self.pipeline.encoder.encode_arrays(
            vision, sync, [c.caption for c in clips] if prompts else None, duration_s=duration_s
        )
        return self._sounds(conditions, duration_s, clips[0].index)

    def _sounds(
        self, conditions: Conditions, duration_s: float, first_index: int
    ) -> Sequence[NDArray[np.float32]]:
        samples_BN = self.pipeline.generate_batch(
            conditions,
            duration_s=duration_s,
            seeds=[self.seed + first_index + i for i in range(conditions.batch_size)],
            num_steps=self.num_steps,
            guidance=self.guidance,
        )
        return list(samples_BN.numpy())
