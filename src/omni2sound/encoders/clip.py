"""DFN5B CLIP ViT-H-14-384: pictures to unit vectors of 1024 numbers.

In:   uint8 RGB pictures (T, H, W, 3), 8 a second.
Out:  (T, 1024), L2-normalised.

The network is transformers' CLIP with the weights of the published open_clip file; this module
maps the names. Pictures are squashed to 384 x 384, but patches of 14 cover only 378: the last 6
rows and columns are dropped, as in open_clip. What not to get wrong: resizing to 378 instead
gives other features. The file's text half is not used: the model reads Flan-T5.

Shape suffixes: T pictures, H W pixels, K colours, D features.
Source: Fang et al. 2023, arXiv:2309.17425; apple/DFN5B-CLIP-ViT-H-14-384.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from omni2sound.encoders.pictures import CLIP_MEAN, CLIP_STD, resize, rgb_tensor
from omni2sound.encoders.published import CLIP, PublishedNetwork
from omni2sound.errors import ConfigError

_NOT_NEEDED = (  # the text half, and the temperature of training
    "transformer.",
    "token_embedding.",
    "positional_embedding",
    "text_projection",
    "ln_final.",
    "logit_scale",
    "attn_mask",
)
_RENAMED = (  # open_clip's name after "visual.", transformers' name
    ("class_embedding", "vision_model.embeddings.class_embedding"),
    ("positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    ("conv1.", "vision_model.embeddings.patch_embedding."),
    ("ln_pre.", "vision_model.pre_layrnorm."),
    ("ln_post.", "vision_model.post_layernorm."),
    ("transformer.resblocks.", "vision_model.encoder.layers."),
)
_IN_BLOCK = (
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
    (".attn.out_proj.", ".self_attn.out_proj."),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipShape:
    """Shape of the picture half; the published one by default."""

    width: int = 1280
    depth: int = 32
    num_heads: int = 16
    patch_px: int = 14
    frame_px: int = 384
    """Side to which pictures are squashed; incomplete patches are dropped."""
    dim: int = 1024
    """Features D of one picture."""

    def __post_init__(self) -> None:
        if self.width % self.num_heads:
            raise ConfigError(
                f"width {self.width} must be a multiple of num_heads {self.num_heads}"
            )

    @property
    def seen_px(self) -> int:
        """Pixels of a side that are covered by patches."""
        return self.frame_px // self.patch_px * self.patch_px


def build_clip(shape: ClipShape) -> nn.Module:
    """Build transformers' vision half of CLIP, with random weights."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=shape.width,
        intermediate_size=4 * shape.width,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.num_heads,
        image_size=shape.seen_px,
        patch_size=shape.patch_px,
        projection_dim=shape.dim,
        hidden_act="quick_gelu",
    )
    network: nn.Module = CLIPVisionModelWithProjection(config)
    return network.eval().requires_grad_(False)


def from_open_clip(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the vision half as in transformers.

    Joint queries, keys and values are split, the projection is transposed. Unknown names are
    kept, so that strict loading reports them.
    """
    mapped: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith(_NOT_NEEDED):
            continue
        short = name.removeprefix("visual.")
        if short == "proj":
            mapped["visual_projection.weight"] = tensor.T
            continue
        for theirs, ours in _RENAMED:
            if short.startswith(theirs):
                short = ours + short.removeprefix(theirs)
                break
        for theirs, ours in _IN_BLOCK:
            short = short.replace(theirs, ours)
        joined = re.fullmatch(r"(.+)\.attn\.in_proj_(weight|bias)", short)
        if joined is None:
            mapped[short] = tensor
            continue
        for part, values in zip("qkv", tensor.chunk(3), strict=True):
            mapped[f"{joined[1]}.self_attn.{part}_proj.{joined[2]}"] = values
    return mapped


class ClipVision(PublishedNetwork[nn.Module]):
    """The frozen vision half (632 M parameters). Build it with `ClipVision.load`."""

    release = CLIP
    adapt = staticmethod(from_open_clip)

    def __init__(
        self,
        network: nn.Module,
        device: torch.device | str = "cpu",
        *,
        shape: ClipShape | None = None,
        chunk_frames: int = 8,
    ) -> None:
        super().__init__(network, device)
        self.shape = shape or ClipShape()
        self.size_px = (self.shape.frame_px, self.shape.frame_px)
        self._chunk = chunk_frames
        std = torch.tensor(CLIP_STD, device=device)
        self._scale_K = 1 / (255 * std)
        self._shift_K = -torch.tensor(CLIP_MEAN, device=device) / std

    @staticmethod
    def build() -> nn.Module:
        """Build the network with random weights."""
        return build_clip(ClipShape())

    @torch.no_grad()
    def embed(self, frames_THWK: NDArray[np.uint8] | Tensor) -> Tensor:
        """Unit vectors (T, 1024) of uint8 RGB pictures, float32 on the encoder's device.

        Pictures of any size are squashed to 384 x 384; T may be 0.

        Raises:
            ShapeError: If shape or dtype differ.
        """
        frames = rgb_tensor(frames_THWK)
        if len(frames) == 0:
            return torch.zeros(0, self.shape.dim, device=self.device)
        return torch.cat([self._embed_chunk(chunk) for chunk in torch.split(frames, self._chunk)])

    def _embed_chunk(self, frames_THWK: Tensor) -> Tensor:
        seen = self.shape.seen_px
        frames = resize(frames_THWK.to(self.device), self.size_px)[:, :seen, :seen]
        pixels = (frames * self._scale_K + self._shift_K).permute(0, 3, 1, 2)
        features: Tensor = self._network(pixel_values=pixels).image_embeds
        return F.normalize(features.float(), dim=-1)
