"""A pipeline as the functions that evaluations ask for: sound for pictures, prompts, or both.

In:   a loaded pipeline, settings, a seed.
Out:  waveforms. Clip i is generated from seed `seed + i`, whatever the batch size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from omni2sound.bench.stage_table.tasks import SEEN_ONLY, Task
from omni2sound.bench.tracks.scene_clips import ScenePictures, StageClip
from omni2sound.encoders.sync import SyncConfig
from omni2sound.errors import UserError
from omni2sound.generate.pipeline import Omni2SoundPipeline
from omni2sound.models.conditioning import Conditions

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
    text_guidance: float | None = None
    """Of captions beside pictures; None: the same."""

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
        self, clips: Sequence[StageClip], tasks: Sequence[Task]
    ) -> dict[Task, Sequence[NDArray[np.float32]]]:
        """Several tasks for a batch of clips of one length; pictures are looked at once.

        Args:
            clips: What the model may look at or read.
            tasks: Which.

        Raises:
            UserError: If the model does not look at pictures as arrays.
        """
        duration_s = clips[0].scene.duration_s
        seen = None
        if any(task != "T2A" for task in tasks):
            seen = self._look(clips)
        made: dict[Task, Sequence[NDArray[np.float32]]] = {}
        for task in tasks:
            conditions = seen
            if task != "V2A":
                told = [c.seen_caption if task == SEEN_ONLY else c.caption for c in clips]
                conditions = self.pipeline.encoder.encode_arrays(
                    None, None, told, duration_s=duration_s
                )
                if task != "T2A" and seen is not None:
                    conditions = replace(
                        seen, text_BTE=conditions.text_BTE, text_mask_BT=conditions.text_mask_BT
                    )
            assert conditions is not None  # some task looks, or this one reads
            made[task] = self._sounds(conditions, duration_s, clips[0].index)
        return made

    def reconstruct(self, sound_N: NDArray[np.float32]) -> NDArray[np.float32]:
        """A sound through the model's own autoencoder and back: the best that it can sound."""
        autoencoder = self.pipeline.model.autoencoder
        with self.pipeline.residency.use("autoencoder"), torch.inference_mode():
            waveform_BN = torch.from_numpy(sound_N)[None].to(self.pipeline.device)
            back_BN = autoencoder.decode(autoencoder.encode(waveform_BN)).float().cpu()
        samples_N: NDArray[np.float32] = back_BN[0, : len(sound_N)].numpy()
        return samples_N

    def _look(self, clips: Sequence[StageClip]) -> Conditions:
        parts = self.pipeline.model.config
        if not isinstance(parts.sync, SyncConfig):
            raise UserError(
                "scenes are rendered for the embedded encoders; a model with Synchformer "
                "needs them as files: omni2sound scenes build"
            )
        vision_fps, sync_fps = parts.timebase.vision_fps, parts.timebase.sync_fps
        return self.pipeline.encoder.encode_arrays(
            np.stack([c.frames(vision_fps, VISION_PX) for c in clips]),
            np.stack([c.frames(sync_fps, parts.sync.frame_px) for c in clips]),
            None,
            duration_s=clips[0].scene.duration_s,
        )

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
