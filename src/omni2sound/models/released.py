"""Conditioner of the released full-size model, in the stable-audio-tools layout.

In:   the same `Conditions` as `conditioning.Conditioner`.
Out:  likewise a cross-attention sequence, the prepended vector and the modulation.

Each modality is projected to `token_dim`, then all tokens pass one network to the width. Picture
tokens are zero-padded to the longest clip and get learned positions; padding is attended to, as
there are no masks. Sync features pass two networks to become modulation.

What not to get wrong: the second of them has biases, so zeros in are *not* zeros out. The
prepended token and the null branch of guidance get its output for zeros (`null_modulation`); a
clip without video gets the output of both for zero features.

Layout: stable-audio-tools (MIT), `DiffusionTransformer` and its conditioners, which parity
rows compare with. UNVERIFIED: the sync path and the picture tokens follow the sibling release
CineDub, which builds on Omni2Sound; the released model itself was not available.

Shape suffixes: B batch, L latent frames, T tokens, D width, K token dimension, E text,
V picture, S sync.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from omni2sound.errors import ConfigError, ShapeError
from omni2sound.models.conditioning import Conditions


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleasedConditionerConfig:
    """Sizes of the released model's conditions."""

    kind: Literal["released"] = "released"
    """Distinguishes it from `ConditionerConfig` in a card."""
    text_dim: int = 768
    """Features of one text token (Flan-T5-base)."""
    vision_dim: int = 1024
    """Features of one picture (CLIP ViT-H); 0 is a model that sees no pictures."""
    vision_fps: int = 8
    """Pictures per second."""
    sync_dim: int = 768
    """Features of one sync frame (Synchformer); 0 is a model without the temporal branch."""
    token_dim: int = 1024
    """Dimension of tokens before the network that they share."""
    max_seconds: float = 512.0
    """Seconds are divided by this and clipped to 1 for the seconds tokens."""
    max_pictures: int = 80
    """Picture tokens of the longest clip; shorter ones are padded with zeros."""
    learned_absence: bool = False
    """Whether zero frames are replaced by a learned vector (the sibling release)."""

    def __post_init__(self) -> None:
        for name in ("text_dim", "vision_fps", "token_dim", "max_pictures"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
        if min(self.vision_dim, self.sync_dim) < 0 or self.max_seconds <= 0:
            raise ConfigError("vision_dim and sync_dim must be >= 0, max_seconds positive")


class NumberEmbedding(nn.Module):
    """Embedding of one number per sample: itself and Fourier features at learned frequencies."""

    NUM_FREQUENCIES = 128

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.frequency = nn.Parameter(torch.randn(self.NUM_FREQUENCIES))
        self.out = nn.Linear(2 * self.NUM_FREQUENCIES + 1, dim)

    def forward(self, value_B: Tensor) -> Tensor:
        """(B,) to (B, dim)."""
        value_B1 = value_B.float()[:, None]
        angle = value_B1 * self.frequency.float() * (2 * math.pi)
        features = torch.cat([value_B1, angle.sin(), angle.cos()], dim=-1)
        return self.out(features.to(self.frequency.dtype))  # type: ignore[no-any-return]


class FourierTime(nn.Module):
    """Embedding of the noise time: Fourier features at learned frequencies, then an MLP."""

    NUM_FREQUENCIES = 128

    def __init__(self, width: int) -> None:
        super().__init__()
        self.frequency = nn.Parameter(torch.randn(self.NUM_FREQUENCIES, 1))
        self.mlp = nn.Sequential(
            nn.Linear(2 * self.NUM_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, t_B: Tensor) -> Tensor:
        """(B,) to (B, D)."""
        angle = 2 * math.pi * t_B.float()[:, None] @ self.frequency.float().T
        features = torch.cat([angle.cos(), angle.sin()], dim=-1)
        return self.mlp(features.to(self.frequency.dtype))  # type: ignore[no-any-return]


class ReleasedConditioner(nn.Module):
    """Projects conditions to the width; has the methods of `conditioning.Conditioner`."""

    def __init__(self, config: ReleasedConditionerConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.width = width
        dim = config.token_dim
        self.text = _to_tokens(config.text_dim, dim)
        self.seconds_start = NumberEmbedding(dim)
        self.seconds_total = NumberEmbedding(dim)
        self.tokens = _two_layers(dim, width)
        self.duration = _two_layers(2 * dim, width)
        self.vision: nn.Module | None = None
        self.sync: nn.Module | None = None
        self.vision_absent: nn.Parameter | None = None
        self.sync_absent: nn.Parameter | None = None
        if config.vision_dim:
            self.vision = _to_tokens(config.vision_dim, dim)
            self.vision_position = nn.Parameter(torch.randn(config.max_pictures, dim))
            if config.learned_absence:
                self.vision_absent = nn.Parameter(0.02 * torch.randn(1, config.vision_dim))
        if config.sync_dim:
            self.sync = _to_tokens(config.sync_dim, dim)
            self.frames = _two_layers(dim, width)
            self.modulate = nn.Sequential(
                nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 6 * width)
            )
            if config.learned_absence:
                self.sync_absent = nn.Parameter(0.02 * torch.randn(1, config.sync_dim))

    def context(
        self, conditions: Conditions, drop_B: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The cross-attention sequence (B, T, D); there is never a mask.

        Raises:
            ShapeError: If there are more pictures than the model has positions for, or
                pictures for a model that sees none.
        """
        parts = []
        if conditions.vision_BTV is not None:
            parts.append(self._pictures(conditions.vision_BTV, conditions.vision_mask_BT))
        if conditions.text_BTE is not None and conditions.text_mask_BT is not None:
            tokens_BTK = self.text(conditions.text_BTE.to(self.dtype))
            parts.append(tokens_BTK * conditions.text_mask_BT[..., None])
        start_BK, total_BK = self._seconds(conditions)
        tokens_BTK = torch.cat([*parts, start_BK[:, None], total_BK[:, None]], dim=1)
        if drop_B is not None:
            tokens_BTK = tokens_BTK * ~drop_B[:, None, None]
        return self.tokens(tokens_BTK), None

    def modulation(
        self, conditions: Conditions, num_frames: int, drop_B: Tensor | None = None
    ) -> Tensor | None:
        """Per-frame modulation (B, L, 6 D); None if the model has no temporal branch.

        Raises:
            ShapeError: If there is not one sync feature per latent frame.
        """
        if self.sync is None:
            return None
        sync_BLS = conditions.sync_BLS
        if sync_BLS is None:  # one frame of zeros, as long as it takes
            sync_BLS = self._zeros(conditions.batch_size, 1, self.config.sync_dim)
        elif sync_BLS.shape[1] != num_frames:
            raise ShapeError(
                f"sync features must be one per latent frame ({num_frames}), "
                f"got {sync_BLS.shape[1]}; resample them to the latent rate"
            )
        frames_BLK = self.sync(_fill_absent(sync_BLS.to(self.dtype), self.sync_absent))
        if drop_B is not None:
            frames_BLK = frames_BLK * ~drop_B[:, None, None]
        modulation_BLM = self.modulate(self.frames(frames_BLK))
        return modulation_BLM.expand(-1, num_frames, -1)  # type: ignore[no-any-return]

    def null_modulation(self) -> Tensor | None:
        """Modulation (6 D) of the prepended token and the null branch."""
        if self.sync is None:
            return None
        return self.modulate(self._zeros(self.width))  # type: ignore[no-any-return]

    def prepended(self, conditions: Conditions) -> Tensor:
        """The duration part of the prepended token (B, D); noise time is added per step."""
        return self.duration(torch.cat(self._seconds(conditions), dim=-1))  # type: ignore[no-any-return]

    def _seconds(self, conditions: Conditions) -> tuple[Tensor, Tensor]:
        longest = self.config.max_seconds
        return (
            self.seconds_start(conditions.seconds_start_B.clamp(0, longest) / longest),
            self.seconds_total(conditions.seconds_total_B.clamp(0, longest) / longest),
        )

    def _pictures(self, vision_BTV: Tensor, mask_BT: Tensor | None) -> Tensor:
        if self.vision is None:
            raise ShapeError("this model sees no pictures; give a text alone")
        missing = self.config.max_pictures - vision_BTV.shape[1]
        if missing < 0:
            raise ShapeError(
                f"this model takes up to {self.config.max_pictures} pictures, "
                f"got {vision_BTV.shape[1]}; cut the clip into windows"
            )
        vision_BTV = _fill_absent(vision_BTV.to(self.dtype), self.vision_absent)
        if mask_BT is not None:
            vision_BTV = vision_BTV * mask_BT[..., None]
        tokens_BTK = self.vision(nn.functional.pad(vision_BTV, (0, 0, 0, missing)))
        return tokens_BTK + self.vision_position * self.config.token_dim**-0.5  # type: ignore[no-any-return]

    def _zeros(self, *shape: int) -> Tensor:
        return self.seconds_start.frequency.new_zeros(shape)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, to which conditions are cast."""
        return self.seconds_start.frequency.dtype


def _to_tokens(features: int, dim: int) -> nn.Module:
    return nn.Identity() if features == dim else nn.Linear(features, dim)


def _two_layers(features: int, width: int) -> nn.Sequential:
    """Two layers without biases: zeros stay zeros."""
    return nn.Sequential(
        nn.Linear(features, width, bias=False), nn.SiLU(), nn.Linear(width, width, bias=False)
    )


def _fill_absent(features_BTE: Tensor, absent_1E: Tensor | None) -> Tensor:
    """Replace zero frames by the learned vector, if there is one."""
    if absent_1E is None:
        return features_BTE
    is_absent_BT1 = (features_BTE == 0).all(dim=-1, keepdim=True)
    return torch.where(is_absent_BT1, absent_1E, features_BTE)
