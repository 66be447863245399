"""Conditioning of the transformer, and the meaning of an absent modality.

In:   features of frozen encoders (text tokens, picture tokens, sync features), seconds.
Out:  the cross-attention sequence with its mask, the prepended vector, the per-frame modulation.

*What* (semantic branch): picture tokens, text tokens, seconds_start and seconds_total, in
this order along one sequence for cross-attention. An absent modality is left out.
*When* (temporal branch): sync features at the latent rate become per-frame scale, shift
and gate. Without video they are zeros, and zeros give exactly zero modulation.
*Null* (guidance): the whole cross-attention sequence and the sync features are zeros; the
prepended token stays. One draw per sample decides both during training.

Source: Omni2Sound, arXiv:2601.02731, section on the unified model; the behaviour of an
absent modality follows the released code as third parties describe it.
Shape suffixes: B batch, L latent frames, T tokens, D width, E text, V picture, S sync.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from omni2sound.config import added
from omni2sound.errors import ConfigError, ShapeError
from omni2sound.models.layers import ScalarEmbedding, sinusoid


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Conditions:
    """Encoded conditions of one batch; every sample has the same modalities.

    Attributes:
        seconds_start_B: Where the clip starts in its source, seconds.
        seconds_total_B: Length of the clip, seconds.
        text_BTE: Text token states, or None if there is no prompt.
        text_mask_BT: True at real tokens; given together with `text_BTE`.
        vision_BTV: Picture tokens at the model's vision rate, or None without video.
        vision_mask_BT: True at real pictures, or None if all are.
        sync_BLS: Sync features, one per latent frame, or None without video.
    """

    seconds_start_B: Tensor
    seconds_total_B: Tensor
    text_BTE: Tensor | None = None
    text_mask_BT: Tensor | None = None
    vision_BTV: Tensor | None = None
    vision_mask_BT: Tensor | None = None
    sync_BLS: Tensor | None = None

    def __post_init__(self) -> None:
        if (self.text_BTE is None) != (self.text_mask_BT is None):
            raise ShapeError("text_BTE and text_mask_BT go together; got only one of them")
        if (self.vision_BTV is None) != (self.sync_BLS is None):
            raise ShapeError("vision_BTV and sync_BLS come from one video; got only one of them")

    def without_text(self) -> Conditions:
        """Copy without the text."""
        return replace(self, text_BTE=None, text_mask_BT=None)

    @property
    def batch_size(self) -> int:
        """Samples in the batch."""
        return self.seconds_total_B.shape[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConditionerConfig:
    """Sizes of the features that condition the model."""

    text_dim: int = 384
    """Features of one text token (MiniLM: 384; Flan-T5-base: 768)."""
    vision_dim: int = 1280
    """Features of one picture (MobileNetV2: 1280; CLIP ViT-H: 1024)."""
    vision_fps: int = 8
    """Pictures per second; places each picture token in time."""
    sync_dim: int = 64
    """Features of one sync frame."""
    normalised: bool = True
    """Whether each token's features are first normalised to zero mean and unit variance.
    Features of unit length are otherwise some thirty times too small at the start. The
    released full-size model does not normalise."""
    masked: bool = True
    """Whether padding is masked out. The released full-size model instead attends to zeros."""
    sentence: bool = added(False)
    """Whether the mean of a text's states is an additional token. Sentence encoders such as
    MiniLM are trained for it, and it generalises better to unseen paraphrases than single
    tokens do (docs/decisions/0047)."""

    def __post_init__(self) -> None:
        for name in ("text_dim", "vision_dim", "vision_fps", "sync_dim"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")


class Conditioner(nn.Module):
    """Projects conditions to the transformer's width."""

    def __init__(self, config: ConditionerConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.width = width
        self.text = _projection(config.text_dim, width, normalised=config.normalised)
        self.vision = _projection(config.vision_dim, width, normalised=config.normalised)
        self.seconds_start = ScalarEmbedding(width, scale=10.0)
        self.seconds_total = ScalarEmbedding(width, scale=10.0)
        # No bias anywhere on this path: zero features must give zero modulation.
        to_modulation = nn.Linear(width, 6 * width, bias=False)
        if not to_modulation.weight.is_meta:  # see `init_linear`
            nn.init.normal_(to_modulation.weight, std=1e-3)  # starts near the unmodulated block
        self.sync = nn.Sequential(
            nn.Linear(config.sync_dim, width, bias=False), nn.SiLU(), to_modulation
        )

    def context(
        self, conditions: Conditions, drop_B: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The cross-attention sequence (B, T, D) and its mask (B, T), or None if all is real.

        Args:
            conditions: Conditions of the batch.
            drop_B: True where a sample takes the null branch (guidance dropout).
        """
        batch = conditions.batch_size
        parts: list[Tensor] = []
        masks: list[Tensor] = []

        def add(tokens_BTD: Tensor, mask_BT: Tensor | None) -> None:
            parts.append(tokens_BTD)
            if mask_BT is None:
                mask_BT = tokens_BTD.new_ones(batch, tokens_BTD.shape[1], dtype=torch.bool)
            masks.append(mask_BT)

        if conditions.vision_BTV is not None:
            vision_BTV = conditions.vision_BTV.to(self.dtype)
            seconds_T = torch.arange(vision_BTV.shape[1], device=vision_BTV.device) + 0.5
            position_TD = sinusoid(seconds_T * (10.0 / self.config.vision_fps), self.width)
            add(self.vision(vision_BTV) + position_TD.to(self.dtype), conditions.vision_mask_BT)
        if conditions.text_BTE is not None:
            text_BTE = conditions.text_BTE.to(self.dtype)
            if self.config.sentence:
                assert conditions.text_mask_BT is not None  # `Conditions` has checked it
                # A sample of a batch may have no text at all: then it has no mean either.
                has_text_B1 = conditions.text_mask_BT.any(dim=1, keepdim=True)
                add(self.text(_masked_mean(text_BTE, conditions.text_mask_BT)), has_text_B1)
            add(self.text(text_BTE), conditions.text_mask_BT)
        add(self.seconds_start(conditions.seconds_start_B)[:, None], None)
        add(self.seconds_total(conditions.seconds_total_B)[:, None], None)

        context_BTD, mask_BT = torch.cat(parts, dim=1), torch.cat(masks, dim=1)
        context_BTD = context_BTD * mask_BT[..., None]  # padding is zero tokens, masked or not
        if drop_B is not None:
            context_BTD = context_BTD * ~drop_B[:, None, None]
        return context_BTD, mask_BT if self.config.masked else None

    def modulation(
        self, conditions: Conditions, num_frames: int, drop_B: Tensor | None = None
    ) -> Tensor | None:
        """Per-frame modulation (B, L, 6 D); None without video, which stands for zeros.

        Raises:
            ShapeError: If there is not one sync feature per latent frame.
        """
        if conditions.sync_BLS is None:
            return None
        sync_BLS = conditions.sync_BLS.to(self.dtype)
        if sync_BLS.shape[1] != num_frames:
            raise ShapeError(
                f"sync features must be one per latent frame ({num_frames}), "
                f"got {sync_BLS.shape[1]}; resample them to the latent rate"
            )
        if drop_B is not None:
            sync_BLS = sync_BLS * ~drop_B[:, None, None]
        return self.sync(sync_BLS)  # type: ignore[no-any-return]

    def null_modulation(self) -> Tensor | None:
        """Modulation of the prepended token and the null branch; None stands for zeros."""
        return None

    def prepended(self, conditions: Conditions) -> Tensor:
        """The duration part of the prepended token (B, D); noise time is added per step."""
        start_BD = self.seconds_start(conditions.seconds_start_B)
        total_BD = self.seconds_total(conditions.seconds_total_B)
        return start_BD + total_BD  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, to which conditions are cast."""
        return self.seconds_start.dtype


def _masked_mean(x_BTE: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over positions where the mask is True, (B, 1, E)."""
    weight_BT1 = mask_BT[..., None].to(x_BTE.dtype)
    total_B1E = (x_BTE * weight_BT1).sum(dim=1, keepdim=True)
    mean_B1E: Tensor = total_B1E / weight_BT1.sum(dim=1, keepdim=True).clamp_min(1)
    return mean_B1E


def _projection(features: int, width: int, *, normalised: bool) -> nn.Sequential:
    layers = [nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width)]
    if normalised:
        return nn.Sequential(nn.LayerNorm(features, elementwise_affine=False), *layers)
    return nn.Sequential(*layers)
