"""Synchformer's visual encoder: 8 motion vectors of 768 for each 16 pictures.

In:   uint8 RGB pictures (T, H, W, 3) of a video at 25 per second, found by timestamps.
Out:  (S, 8, 768), one row for each segment of 16 pictures that starts every 8; or those rows
      in order, (8 S, 768), about 24 vectors a second.

A video transformer (Motionformer, divided attention): each block attends along time, then over
space. Reimplemented with the names of the published file. What not to get wrong: segments overlap
by half and vectors are not averaged, so vector i is not at i / 24 s; windows of a long video are
encoded separately, never cut out of its features.

Shape suffixes: T pictures, H W pixels, K colours, S segments, B batch, P tokens, D features,
N heads, Z moments of a segment, R places of a moment.
Source: Iashin et al. 2024, arXiv:2401.16423; Patrick et al. 2021, arXiv:2106.05392;
v-iashin/Synchformer, hkchengrex/MMAudio (the checkpoint).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from omni2sound.encoders.pictures import crop_centre, resize_short_side, rgb_tensor
from omni2sound.encoders.published import SYNCHFORMER, PublishedNetwork
from omni2sound.encoders.vit import Attention, Mlp, Named
from omni2sound.errors import ConfigError, ShapeError

SEGMENT_FRAMES = 16
SEGMENT_HOP = 8
_TUBE_FRAMES = 2
_CHUNK_FRAMES = 32
_PATCH = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class MotionConfig:
    """Shape of the network; the published one by default."""

    width: int = 768
    depth: int = 12
    num_heads: int = 12
    frame_px: int = 224

    def __post_init__(self) -> None:
        if self.frame_px % _PATCH:
            raise ConfigError(f"frame_px must be a multiple of {_PATCH}, got {self.frame_px}")

    @property
    def places(self) -> int:
        """Patches of one picture."""
        return (self.frame_px // _PATCH) ** 2


class _DividedAttention(Attention):
    """The class token attends to everything, every other token to its own group."""

    def along(self, x_BPD: Tensor, *, moments: int, over: str) -> Tensor:
        """Attend along time (groups of one place) or over space (groups of one moment)."""
        query, key, value = self.heads(x_BPD)  # B N 1+ZR H
        first = F.scaled_dot_product_attention(query[:, :, :1], key, value)
        swap = over == "time"
        grouped = [_group(t[:, :, 1:], moments, swap=swap) for t in (query, key, value)]
        # Each group also attends to the class token.
        num_groups = grouped[0].shape[2]
        keys, values = (
            torch.cat([t[:, :, None, :1].expand(-1, -1, num_groups, -1, -1), g], dim=3)
            for t, g in zip((key, value), grouped[1:], strict=True)
        )
        rest = F.scaled_dot_product_attention(grouped[0], keys, values)
        rest = (rest.transpose(2, 3) if swap else rest).flatten(2, 3)
        return self.merge(torch.cat([first, rest], dim=2))


def _group(x_BNPH: Tensor, moments: int, *, swap: bool) -> Tensor:
    """Group tokens, (B, N, groups, tokens per group, H): by moment, or swapped, by place."""
    batch, num_heads, num_tokens, size = x_BNPH.shape
    by_moment = x_BNPH.view(batch, num_heads, moments, num_tokens // moments, size)
    return by_moment.transpose(2, 3) if swap else by_moment


class _DividedBlock(nn.Module):
    """Attention along time, attention over space, MLP; each residual."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _DividedAttention(width, num_heads)
        self.timeattn = _DividedAttention(width, num_heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)
        self.norm3 = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x_BPD: Tensor, moments: int) -> Tensor:
        x_BPD = x_BPD + self.timeattn.along(self.norm3(x_BPD), moments=moments, over="time")
        x_BPD = x_BPD + self.attn.along(self.norm1(x_BPD), moments=moments, over="space")
        out: Tensor = x_BPD + self.mlp(self.norm2(x_BPD))
        return out


class ClassPooling(nn.TransformerEncoderLayer):
    """Pooling of a set of tokens by a class token that attends to them."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__(
            width,
            num_heads,
            4 * width,
            dropout=0.0,
            activation=F.gelu,
            layer_norm_eps=1e-6,
            batch_first=True,
            norm_first=True,
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))

    def pool(self, x_BPD: Tensor) -> Tensor:
        """Pool (B, P, D) to (B, D)."""
        tokens = torch.cat([self.cls_token.expand(len(x_BPD), -1, -1), x_BPD], dim=1)
        pooled: Tensor = self.forward(tokens)[:, 0]
        return pooled


class MotionTransformer(nn.Module):
    """Segments of 16 pictures to 8 vectors each; `vfeat_extractor` in the published file."""

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        self.config = config
        width, moments = config.width, SEGMENT_FRAMES // _TUBE_FRAMES
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.places + 1, width))
        self.temp_embed = nn.Parameter(torch.zeros(1, moments, width))
        # The published file also has the patch embedding of the image network that it was
        # initialised from, which is never used.
        self.patch_embed = Named(proj=nn.Conv2d(3, width, _PATCH, _PATCH))
        tube = (_TUBE_FRAMES, _PATCH, _PATCH)
        self.patch_embed_3d = Named(proj=nn.Conv3d(3, width, tube, tube))
        self.blocks = nn.ModuleList(
            _DividedBlock(width, config.num_heads) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.spatial_attn_agg = ClassPooling(width, config.num_heads)

    def forward(self, segments_SKTHW: Tensor) -> Tensor:
        """Features (S, 8, D) of pictures (S, 3, 16, H, W) in [-1, 1]."""
        tubes: Tensor = self.patch_embed_3d.proj(segments_SKTHW)  # S D Z h w
        num_segments, moments = len(tubes), tubes.shape[2]
        patches = tubes.flatten(2).mT  # S ZR D
        at_place = self.pos_embed[:, 1:].repeat(1, moments, 1)
        at_moment = self.temp_embed.repeat_interleave(self.config.places, dim=1)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(num_segments, -1, -1)
        x = torch.cat([first, patches + at_place + at_moment], dim=1)
        for block in self.blocks:
            x = block(x, moments)
        by_moment = self.norm(x[:, 1:]).unflatten(1, (moments, -1)).flatten(0, 1)
        pooled = self.spatial_attn_agg.pool(by_moment)
        return pooled.view(num_segments, moments, -1)


def segments(x_T: Tensor, *, length: int, hop: int) -> Tensor:
    """Cut overlapping segments along the first axis, (S, length, ...); the rest is dropped.

    Raises:
        ShapeError: If not even one fits.
    """
    if len(x_T) < length:
        raise ShapeError(f"a segment needs {length} along time, got {len(x_T)}")
    return x_T.unfold(0, length, hop).movedim(-1, 1)


class SynchformerVisual(PublishedNetwork[MotionTransformer]):
    """The frozen visual encoder (136 M parameters). Build it with `SynchformerVisual.load`."""

    release = SYNCHFORMER
    not_needed = ("afeat_extractor.", "vproj.", "aproj.", "transformer.")
    fps = 25
    """Pictures per second."""

    def __init__(
        self,
        network: MotionTransformer,
        device: torch.device | str = "cpu",
        *,
        chunk_segments: int = 4,
    ) -> None:
        super().__init__(network, device)
        self._chunk = chunk_segments

    @staticmethod
    def build() -> MotionTransformer:
        """Build the network with random weights."""
        return MotionTransformer(MotionConfig())

    @staticmethod
    def adapt(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename the tensors of the visual half."""
        return {name.removeprefix("vfeat_extractor."): value for name, value in tensors.items()}

    @torch.no_grad()
    def segment_features(self, frames_THWK: NDArray[np.uint8] | Tensor) -> Tensor:
        """Features (S, 8, D), float32 on the encoder's device, S = (T - 16) // 8 + 1.

        Args:
            frames_THWK: uint8 RGB at 25 pictures per second, of any size; the short side is
                resized to 224 and the middle cropped.

        Raises:
            ShapeError: If shape or dtype differ, or for fewer than 16 pictures.
        """
        frames = rgb_tensor(frames_THWK)
        side = self._network.config.frame_px
        cropped = [
            crop_centre(resize_short_side(chunk.to(self.device), side), side)
            for chunk in torch.split(frames, _CHUNK_FRAMES)
        ]
        cuts = segments(torch.cat(cropped), length=SEGMENT_FRAMES, hop=SEGMENT_HOP)
        parts = [
            self._network(chunk.permute(0, 4, 1, 2, 3).float() / 127.5 - 1)
            for chunk in torch.split(cuts, self._chunk)
        ]
        return torch.cat(parts)

    def embed(self, frames_THWK: NDArray[np.uint8] | Tensor) -> Tensor:
        """Features in order, (8 S, D), as the transformer takes them."""
        return self.segment_features(frames_THWK).flatten(0, 1)
