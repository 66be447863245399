"""What the frozen encoders say about one clip, as rows of a feature store hold it.

In:   words, pictures, a waveform; the model folder that the encoders are parts of.
Out:  `TextFeatures`, picture and sync features, latents; all float16.

Encoders are loaded when first needed, once in each worker process. A clip's texts are
encoded together and without other clips' texts, so what stands in a row does not depend
on how clips are put into shards.

Shape suffixes: T frames or tokens, H W picture, K colours, N samples, L latent frames,
C latent channels, E V S features.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from omni2sound.config import from_json
from omni2sound.data.features import TextFeatures
from omni2sound.encoders.sync import SyncConfig, SyncEncoder
from omni2sound.encoders.text import TextEncoder
from omni2sound.encoders.vision import VisionEncoder
from omni2sound.errors import UserError
from omni2sound.models.autoencoder import MelPcaAutoencoder, MelPcaConfig
from omni2sound.timebase import TimeBase
from omni2sound.weights import load_card, load_part

__all__ = ["ClipEncoders", "load_encoders", "part_digests"]


def part_digests(model: Path, part: str) -> list[str]:
    """SHA-256 of the files of one part of a model, for a store's description."""
    files = load_card(model).files
    return [files[n] for n in sorted(files) if n == part or n.rpartition("-")[0] == part]


@lru_cache(maxsize=1)
def load_encoders(model: Path | None) -> ClipEncoders:
    """The encoders that this process holds.

    Args:
        model: Folder of the model whose sync encoder and autoencoder are used; None will do
            for texts.
    """
    return ClipEncoders(model)


class ClipEncoders:
    """See the module's text."""

    def __init__(self, model: Path | None) -> None:
        self.time = TimeBase()
        self._model = model

    @cached_property
    def _text(self) -> TextEncoder:
        return TextEncoder.load()

    @cached_property
    def _vision(self) -> VisionEncoder:
        return VisionEncoder.load()

    @cached_property
    def _sync(self) -> SyncEncoder:
        card = load_card(self._model_folder())
        sync = SyncEncoder(from_json(SyncConfig, card.parts["sync"])).eval()
        load_part(card, "sync", sync)
        return sync

    @cached_property
    def _autoencoder(self) -> MelPcaAutoencoder:
        card = load_card(self._model_folder())
        autoencoder = MelPcaAutoencoder(from_json(MelPcaConfig, card.parts["autoencoder"])).eval()
        load_part(card, "autoencoder", autoencoder)
        return autoencoder

    def _model_folder(self) -> Path:
        if self._model is None:
            raise UserError("pictures and latents need a model folder with their encoders")
        return self._model

    @property
    def vision_size_px(self) -> tuple[int, int]:
        """Height and width of the pictures for "what"."""
        return VisionEncoder.size_px

    @property
    def sync_size_px(self) -> tuple[int, int]:
        """Height and width of the pictures for "when"."""
        return self._sync.config.frame_px, self._sync.config.frame_px

    def texts(self, told: Sequence[tuple[str, str]]) -> tuple[TextFeatures, ...]:
        """Features of (role, text) pairs."""
        words = [text for _, text in told]
        tokens, ids = self._text(words), self._text.token_ids(words)
        return tuple(
            TextFeatures(
                role=role,
                text=text,
                states_TE=states[mask].half().numpy(),
                token_ids_T=np.array(token_ids, dtype=np.int32),
            )
            for (role, text), states, mask, token_ids in zip(
                told, tokens.states_BTD, tokens.mask_BT, ids, strict=True
            )
        )

    def pictures(
        self,
        vision_frames_THWK: NDArray[np.uint8],
        sync_frames_THWK: NDArray[np.uint8],
        *,
        duration_s: float,
    ) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
        """Features (T, V) for "what" and (L, S) for "when"."""
        vision_TV = self._vision.embed(vision_frames_THWK).half().numpy()
        # A length that is no whole number of frames may have one more than it has latents.
        num_frames = self.time.num_latent_frames(duration_s)
        sync_LS = self._sync.embed(sync_frames_THWK)[:num_frames].half().numpy()
        return vision_TV, sync_LS

    @torch.no_grad()
    def latents(self, waveform_N: NDArray[np.float32]) -> NDArray[np.float16]:
        """Latents (L, C) of a waveform as it is."""
        latents_LC = self._autoencoder.encode(torch.from_numpy(waveform_N)[None])[0]
        half: NDArray[Any] = latents_LC.half().numpy()
        return half
