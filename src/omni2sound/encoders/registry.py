"""Frozen encoders of a model: entries of its card, loading, alignment of sync features.

In:   `TextPart`, `VisionPart`, `SynchformerPart`: entries of a model's card.
Out:  the encoder, from a bundled package or from the user's folder of published weights
      (`docs/guides/full-size.md`); sync features on the grid of the latents.

What not to get wrong: a latent frame takes the sync feature at the middle of its interval, and
zeros after the last feature.

Shape suffixes: B batch, T features in order, L latent frames, S features.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from omni2sound.encoders.text import TextEncoder
from omni2sound.encoders.vision import VisionEncoder
from omni2sound.files import cache_dir

if TYPE_CHECKING:
    from omni2sound.encoders.clip import ClipVision
    from omni2sound.encoders.synchformer import SynchformerVisual
    from omni2sound.encoders.t5 import T5TextEncoder

__all__ = [
    "SynchformerPart",
    "TextPart",
    "VisionPart",
    "at_latent_rate",
    "load_synchformer",
    "load_text",
    "load_vision",
    "published_folder",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPart:
    """The text encoder of a model."""

    encoder: Literal["minilm", "flan-t5-base"] = "minilm"
    """The bundled one, or the full-size model's, whose weights the user provides."""

    @property
    def dim(self) -> int:
        """Features of one token."""
        return {"minilm": TextEncoder.dim, "flan-t5-base": 768}[self.encoder]


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionPart:
    """The picture encoder of a model."""

    encoder: Literal["mobilenetv2", "dfn5b-clip-vit-h-14-384"] = "mobilenetv2"
    """The bundled one, or the full-size model's, whose weights the user provides."""

    @property
    def dim(self) -> int:
        """Features of one picture."""
        return {"mobilenetv2": VisionEncoder.dim, "dfn5b-clip-vit-h-14-384": 1024}[self.encoder]

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of its input pictures."""
        return {"mobilenetv2": VisionEncoder.size_px, "dfn5b-clip-vit-h-14-384": (384, 384)}[
            self.encoder
        ]

    @property
    def resizes(self) -> bool:
        """Whether it takes pictures of any size and resizes them itself."""
        return self.encoder != "mobilenetv2"


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


def published_folder(folder: Path | None) -> Path:
    """Folder of published encoders, one subfolder each: as given, or in the cache."""
    return folder or cache_dir() / "published"


def load_text(
    part: TextPart, device: torch.device | str, *, published: Path | None = None
) -> TextEncoder | T5TextEncoder:
    """Load the text encoder.

    Raises:
        MissingPartError: Its files are missing.
    """
    if part.encoder == "minilm":
        return TextEncoder.load(device)
    from omni2sound.encoders.t5 import T5TextEncoder

    return T5TextEncoder.load(published_folder(published) / "flan-t5-base", device)


def load_vision(
    part: VisionPart,
    device: torch.device | str,
    *,
    published: Path | None = None,
    dtype: torch.dtype = torch.float32,
) -> VisionEncoder | ClipVision:
    """Load the picture encoder.

    Args:
        part: Entry of the card.
        device: Device to run on.
        published: Folder of published encoders; None: in the cache.
        dtype: Precision of the bundled one; a published one keeps its own.

    Raises:
        MissingPartError: Its files are missing.
    """
    if part.encoder == "mobilenetv2":
        return VisionEncoder.load(device, dtype=dtype)
    from omni2sound.encoders.clip import ClipVision

    return ClipVision.load(published_folder(published) / "dfn5b-clip", device)


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
    rate = features_per_s / latent_rate_hz
    index = [int((i + Fraction(1, 2)) * rate) for i in range(num_frames)]
    known = [i for i in index if i < sync_BTS.shape[1]]
    missing = num_frames - len(known)
    return torch.nn.functional.pad(sync_BTS[:, known], (0, 0, 0, missing))
