"""Encodes one clip with the frozen encoders of a model, for a row of a feature store.

In:   texts, pictures, a waveform; the model folder whose card names the encoders.
Out:  `TextFeatures`, picture and sync features, latents; all float16.

The card may name the bundled encoders, or those of the full-size model in the user's folder of
published weights. Encoders are loaded when first needed, once in each worker process. The texts of
a clip are encoded together and without those of other clips, so a row does not depend on how clips
are put into shards.

Shape suffixes: T frames or tokens, H W picture, K colours, N samples, L latent frames,
C latent channels, E V S features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from omni2sound.config import from_json
from omni2sound.data.store.rows import TextFeatures
from omni2sound.encoders.registry import (
    SynchformerPart,
    TextPart,
    VisionPart,
    at_latent_rate,
    load_synchformer,
)
from omni2sound.encoders.sync import SyncConfig, SyncEncoder
from omni2sound.errors import ConfigError, UserError
from omni2sound.models.autoencoder import AudioVAE
from omni2sound.models.registry import AnyAutoencoderConfig, build_autoencoder
from omni2sound.timebase import TimeBase
from omni2sound.weights import check_component, load_card, load_part, part_sha256

_SYNCHFORMER_PX = 256
"""Side of rendered pictures for Synchformer, which crops the central 224."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderSource:
    """Origin of encoders, as plain data for worker processes.

    Attributes:
        model: Model folder; its card names the encoders, and it may hold some of them.
        published: Folder of published encoders. Default: the one in the cache.
        device: Device of the encoders.
    """

    model: Path
    published: Path | None = None
    device: str = "cpu"

    def describe(self, *, pictures: bool, latents: bool) -> dict[str, Any]:
        """Describe what changes a byte of a row, for a store with or without pictures, latents."""
        card = load_card(self.model)
        parts = _Parts.of(card.parts)
        # Here, since otherwise every clip would fail by itself.
        needed = {"sync": pictures, "autoencoder": latents}
        for name in (name for name, is_needed in needed.items() if is_needed):
            purpose = f"encodes no {'pictures' if name == 'sync' else 'latents'}"
            check_component(card, name, field="parts", purpose=purpose)
        described: dict[str, Any] = {
            "text": parts.text.encoder,
            "vision": parts.vision.encoder if pictures else None,
            "sync_sha256": part_sha256(card, "sync") or None if pictures else None,
            "autoencoder_sha256": part_sha256(card, "autoencoder") if latents else None,
        }
        if pictures and isinstance(parts.sync, SynchformerPart):
            described["sync"] = parts.sync.kind
        if self.device != "cpu":
            described["device"] = self.device
        return described


@dataclass(frozen=True, kw_only=True, slots=True)
class _Parts:
    """Components of a card that encode clips. Folders of trained components may lack some."""

    timebase: TimeBase = field(default_factory=TimeBase)
    text: TextPart = field(default_factory=TextPart)
    vision: VisionPart = field(default_factory=VisionPart)
    sync: SyncConfig | SynchformerPart | None = None
    autoencoder: AnyAutoencoderConfig | None = None

    @classmethod
    def of(cls, parts: Mapping[str, Any]) -> _Parts:
        mine = {name: parts[name] for name in cls.__dataclass_fields__ if name in parts}
        return from_json(cls, mine, where="card.parts")


@lru_cache(maxsize=1)
def load_encoders(source: EncoderSource) -> ClipEncoders:
    """Return the encoders of this process; the latest source stays loaded."""
    return ClipEncoders(source)


class ClipEncoders:
    """The frozen encoders of a model, each loaded when first needed."""

    def __init__(self, source: EncoderSource) -> None:
        """Read the card.

        Raises:
            ConfigError: If the card is malformed.
        """
        self._source = source
        self._card = load_card(source.model)
        self._parts = _Parts.of(self._card.parts)
        self.time = self._parts.timebase

    @cached_property
    def _text(self) -> Any:
        source = self._source
        return self._parts.text.spec.load(source.device, published=source.published)

    @cached_property
    def _vision(self) -> Any:
        source, spec = self._source, self._parts.vision.spec
        return spec.load(source.device, published=source.published, dtype=torch.float32)

    @cached_property
    def _sync(self) -> Any:
        source, config = self._source, self._sync_part
        if isinstance(config, SynchformerPart):
            return load_synchformer(source.device, published=source.published)
        sync = SyncEncoder(config).eval()
        load_part(self._card, "sync", sync)
        return sync.to(source.device)

    @property
    def _sync_part(self) -> SyncConfig | SynchformerPart:
        if self._parts.sync is None:
            raise UserError(
                f"model {self._card.name!r} says nothing of a sync encoder, which pictures need; "
                "give a whole model, or components that `train-part sync` wrote"
            )
        return self._parts.sync

    @cached_property
    def _autoencoder(self) -> AudioVAE:
        config = self._parts.autoencoder
        if config is None:
            raise ConfigError(f"model {self._card.name!r} has no autoencoder, which latents need")
        made = build_autoencoder(config)
        load_part(self._card, "autoencoder", made)
        return made.eval().to(self._source.device)

    @property
    def vision_size_px(self) -> tuple[int, int] | None:
        """Height and width of pictures for the vision encoder; None: as in the file."""
        spec = self._parts.vision.spec
        return None if spec.resizes else spec.size_px

    @property
    def sync_size_px(self) -> tuple[int, int] | None:
        """Height and width of pictures for the sync encoder; None: as in the file."""
        part = self._sync_part
        return None if isinstance(part, SynchformerPart) else (part.frame_px, part.frame_px)

    @property
    def rendered_px(self) -> tuple[int, int]:
        """Sides of rendered pictures for the vision and the sync encoder."""
        sync_px = self.sync_size_px
        vision_px = self._parts.vision.spec.size_px[0]
        return vision_px, _SYNCHFORMER_PX if sync_px is None else sync_px[0]

    def check_duration(self, duration_s: float) -> None:
        """Refuse clips with pictures that are too short for the sync encoder.

        Raises:
            UserError: If they are.
        """
        part = self._sync_part
        if isinstance(part, SynchformerPart) and duration_s < part.least_s:
            raise UserError(
                f"clips of {duration_s:g} s: Synchformer needs {float(part.least_s):g} s at least"
            )

    def texts(self, texts: Sequence[tuple[str, str]]) -> tuple[TextFeatures, ...]:
        """Encode (role, text) pairs."""
        words = [text for _, text in texts]
        tokens, ids = self._text(words), self._text.token_ids(words)
        return tuple(
            TextFeatures(
                role=role,
                text=text,
                states_TE=states[mask].half().cpu().numpy(),
                token_ids_T=np.array(token_ids, dtype=np.int32),
            )
            for (role, text), states, mask, token_ids in zip(
                texts, tokens.states_BTD, tokens.mask_BT, ids, strict=True
            )
        )

    def pictures(
        self,
        vision_frames_THWK: NDArray[np.uint8],
        sync_frames_THWK: NDArray[np.uint8],
        *,
        duration_s: float,
    ) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
        """Encode pictures: vision features (T, V) and sync features (L, S)."""
        self.check_duration(duration_s)
        vision_TV = self._vision.embed(vision_frames_THWK)
        sync_BLS = at_latent_rate(
            self._sync.embed(sync_frames_THWK)[None],
            features_per_s=self._sync_part.features_per_s,
            latent_rate_hz=self.time.latent_rate_hz,
            num_frames=self.time.num_latent_frames(duration_s),
        )
        return vision_TV.half().cpu().numpy(), sync_BLS[0].half().cpu().numpy()

    @torch.no_grad()
    def latents(self, waveform_N: NDArray[np.float32]) -> NDArray[np.float16]:
        """Encode a waveform as it is: latents (L, C)."""
        waveform_BN = torch.from_numpy(waveform_N)[None].to(self._source.device)
        half: NDArray[Any] = self._autoencoder.encode(waveform_BN)[0].half().cpu().numpy()
        return half
