"""Frozen encoders of a model: entries of its card, loading, alignment of sync features.

In:   `TextPart`, `VisionPart`, `SynchformerPart`: entries of a model's card.
Out:  the encoder, from a bundled package or from the user's folder of published weights
      (`docs/guides/full-size.md`); sync features on the grid of the latents.

How features are placed on latent frames, also past their end: `generate.conditions`.

Shape suffixes: B batch, T features in order, L latent frames, S features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omni2sound.encoders.base import TextEncoderBase
from omni2sound.encoders.text import BgeTextEncoder, TextEncoder
from omni2sound.encoders.vision import VisionEncoder
from omni2sound.files import cache_dir
from omni2sound.plugins import Registry
from omni2sound.timebase import indices_at

if TYPE_CHECKING:
    from omni2sound.encoders.synchformer import SynchformerVisual


class PictureEncoder(Protocol):
    """An encoder of single pictures."""

    def embed(self, frames_THWC: NDArray[np.uint8] | Tensor) -> Tensor:
        """Features (T, D), float32, of uint8 RGB pictures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextEncoderSpec:
    """A text encoder that models can name in their card.

    Attributes:
        dim: Features of one token.
        load: Called with (device, published=folder or None for the one in the cache); raises
            MissingPartError if its files are missing.
        near: Cosine similarity of mean states from which a prompt is near a kind of sound.
        same: Cosine similarity of mean states from which two phrases name one sound.
    """

    dim: int
    load: Callable[..., TextEncoderBase]
    near: float = 0.4
    same: float = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionEncoderSpec:
    """A picture encoder that models can name in their card.

    Attributes:
        dim: Features of one picture.
        size_px: Height and width of its input pictures.
        load: Called like that of `TextEncoderSpec`, and with dtype=precision, which only the
            bundled encoder follows.
        resizes: Whether it takes pictures of any size and resizes them itself.
    """

    dim: int
    size_px: tuple[int, int]
    load: Callable[..., PictureEncoder]
    resizes: bool = False


def published_folder(folder: Path | None) -> Path:
    """Folder of published encoders, one subfolder each: as given, or in the cache."""
    return folder or cache_dir() / "published"


def _load_t5(device: torch.device | str, *, published: Path | None) -> TextEncoderBase:
    from omni2sound.encoders.t5 import T5TextEncoder

    return T5TextEncoder.load(published_folder(published) / "flan-t5-base", device)


def _load_clip(device: torch.device | str, *, published: Path | None, **_: Any) -> PictureEncoder:
    from omni2sound.encoders.clip import ClipVision

    return ClipVision.load(published_folder(published) / "dfn5b-clip", device)


TEXT_ENCODERS: Registry[TextEncoderSpec] = Registry(
    "text encoder",
    {
        "minilm": TextEncoderSpec(
            dim=TextEncoder.dim, load=lambda device, **_: TextEncoder.load_rounded(device)
        ),
        "bge-small": TextEncoderSpec(
            dim=BgeTextEncoder.dim,
            load=lambda device, **_: BgeTextEncoder.load(device),
            # Its cosines are compressed: unrelated kinds are .52 apart (median), MiniLM's .15.
            near=0.65,
            same=0.72,
        ),
        "flan-t5-base": TextEncoderSpec(dim=768, load=_load_t5),
    },
    kind=TextEncoderSpec,
)
VISION_ENCODERS: Registry[VisionEncoderSpec] = Registry(
    "picture encoder",
    {
        "mobilenetv2": VisionEncoderSpec(
            dim=VisionEncoder.dim,
            size_px=VisionEncoder.size_px,
            load=lambda device, *, dtype, **_: VisionEncoder.load(device, dtype=dtype),
        ),
        "dfn5b-clip-vit-h-14-384": VisionEncoderSpec(
            dim=1024, size_px=(384, 384), load=_load_clip, resizes=True
        ),
    },
    kind=VisionEncoderSpec,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPart:
    """The text encoder of a model."""

    encoder: str = "minilm"
    """Its name in `TEXT_ENCODERS`: the bundled one, the full-size model's, a plugin's."""

    def __post_init__(self) -> None:
        TEXT_ENCODERS.find(self.encoder)

    @property
    def spec(self) -> TextEncoderSpec:
        """Its entry in `TEXT_ENCODERS`."""
        return TEXT_ENCODERS[self.encoder]


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionPart:
    """The picture encoder of a model."""

    encoder: str = "mobilenetv2"
    """Its name in `VISION_ENCODERS`: the bundled one, the full-size model's, a plugin's."""

    def __post_init__(self) -> None:
        VISION_ENCODERS.find(self.encoder)

    @property
    def spec(self) -> VisionEncoderSpec:
        """Its entry in `VISION_ENCODERS`."""
        return VISION_ENCODERS[self.encoder]


@dataclass(frozen=True, kw_only=True, slots=True)
class SynchformerPart:
    """The full-size model's frozen sync encoder, with weights outside the model folder."""

    kind: Literal["synchformer"] = "synchformer"
    """Distinguishes it from `SyncConfig` in a card."""
    feature_dim: int = 768
    """S."""
    fps: int = 25
    """Pictures per second."""

    @property
    def features_per_s(self) -> int:
        """Features per second; 24 according to the sibling release (unverified)."""
        return 24

    @property
    def least_s(self) -> Fraction:
        """Length of the shortest video that it can encode: one segment."""
        return Fraction(16, self.fps)


def load_synchformer(
    device: torch.device | str, *, published: Path | None = None
) -> SynchformerVisual:
    """Load the sync encoder of the full-size model.

    Raises:
        MissingPartError: Its file is missing.
    """
    from omni2sound.encoders.synchformer import SynchformerVisual

    return SynchformerVisual.load(published_folder(published) / "synchformer", device)


def at_latent_rate(
    sync_BTS: Tensor, *, features_per_s: Fraction | int, latent_rate_hz: Fraction, num_frames: int
) -> Tensor:
    """Look up one feature for each latent frame, (B, L, S)."""
    index = indices_at(features_per_s, latent_rate_hz, num_frames)
    known = [i for i in index if i < sync_BTS.shape[1]]
    missing = num_frames - len(known)
    return torch.nn.functional.pad(sync_BTS[:, known], (0, 0, 0, missing))
