"""ImageBind huge: sounds and pictures as vectors in one space.

In:   a waveform at 16 kHz; uint8 pictures, one every two seconds.
Out:  (1024,) for either, the mean of the unit vectors of several cuts; the cosine of two of them
      is the IB score.

Only the halves for sound and pictures are built, with the names of the published file; its other
modalities are skipped. What not to get wrong: the weights may not be used commercially
(CC BY-NC-SA). The published audio vectors are 20 times as long, which does not affect cosines.

Shape suffixes: N samples, T pictures, H W pixels, K colours, C cuts, F frames, M mel bands
(128), P tokens, D features.
Source: Girdhar et al. 2023, arXiv:2305.05665; facebookresearch/ImageBind, as av-benchmark
cuts and crops for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from omni2sound.encoders.metric.spectra import mel_matrix
from omni2sound.encoders.pictures import CLIP_MEAN, CLIP_STD, resize_short_side, rgb_tensor
from omni2sound.encoders.published import IMAGEBIND, PublishedNetwork
from omni2sound.encoders.vit import Mlp, Named
from omni2sound.errors import ShapeError

_RATE_HZ = 16_000
_CUT_SAMPLES = 2 * _RATE_HZ
_NUM_CUTS = 3
_FRAMES, _NUM_MELS = 204, 128
_AUDIO_MEAN, _AUDIO_STD = -4.268, 9.138
NOT_NEEDED = (
    "modality_postprocessors.audio.",  # the factor of 20
    *(
        f"modality_{part}.{kind}."
        for part in ("preprocessors", "trunks", "heads", "postprocessors")
        for kind in ("text", "depth", "thermal", "imu")
    ),
)
"""Prefixes of stored names that sound and pictures do not need."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageBindShape:
    """Shape of both halves; the published ones by default."""

    vision_width: int = 1280
    vision_depth: int = 32
    vision_heads: int = 16
    audio_width: int = 768
    audio_depth: int = 12
    audio_heads: int = 12
    dim: int = 1024
    """Features D of one cut."""


class _Block(nn.Module):
    def __init__(self, width: int, num_heads: int, *, extra_key: bool) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, num_heads, add_bias_kv=extra_key, batch_first=True)
        self.norm_1 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)
        self.norm_2 = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x_CPD: Tensor) -> Tensor:
        x = self.norm_1(x_CPD)
        x_CPD = x_CPD + self.attn(x, x, x, need_weights=False)[0]
        out: Tensor = x_CPD + self.mlp(self.norm_2(x_CPD))
        return out


class _Stem(nn.Module):
    """Patches, a class token, learned positions."""

    def __init__(self, proj: nn.Module, width: int, patches: int, *, norm: bool) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        positions = nn.Parameter(torch.zeros(1, patches + 1, width))
        self.pos_embedding_helper = Named(pos_embed=positions)
        norm_layer = nn.LayerNorm(width) if norm else nn.Identity()
        self.rgbt_stem = Named(proj=proj, norm_layer=norm_layer)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.rgbt_stem.norm_layer(self.rgbt_stem.proj(x).flatten(2).mT)
        tokens = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        out: Tensor = tokens + self.pos_embedding_helper.pos_embed
        return out


class _Trunk(nn.Module):
    def __init__(self, width: int, depth: int, num_heads: int, *, extra_key: bool) -> None:
        super().__init__()
        before = nn.Identity() if extra_key else nn.LayerNorm(width, eps=1e-6)
        self.pre_transformer_layer = nn.Sequential(before)
        self.blocks = nn.Sequential(
            *(_Block(width, num_heads, extra_key=extra_key) for _ in range(depth))
        )

    def forward(self, x_CPD: Tensor) -> Tensor:
        out: Tensor = self.blocks(self.pre_transformer_layer(x_CPD))
        return out


class _First(nn.Module):
    """Selects the class token."""

    def forward(self, x_CPD: Tensor) -> Tensor:
        return x_CPD[:, 0]


class ImageBindNetwork(nn.Module):
    """The halves for sound and for pictures."""

    def __init__(self, shape: ImageBindShape) -> None:
        super().__init__()
        tube = (2, 14, 14)
        vision = nn.Conv3d(3, shape.vision_width, tube, tube, bias=False)
        audio = nn.Conv2d(1, shape.audio_width, 16, 10, bias=False)
        widths = {"vision": shape.vision_width, "audio": shape.audio_width}
        self.modality_preprocessors = nn.ModuleDict(
            {
                "vision": _Stem(
                    nn.Sequential(nn.Identity(), vision), shape.vision_width, 16 * 16, norm=False
                ),
                "audio": _Stem(audio, shape.audio_width, 12 * 19, norm=True),
            }
        )
        self.modality_trunks = nn.ModuleDict(
            {
                "vision": _Trunk(
                    shape.vision_width, shape.vision_depth, shape.vision_heads, extra_key=False
                ),
                "audio": _Trunk(
                    shape.audio_width, shape.audio_depth, shape.audio_heads, extra_key=True
                ),
            }
        )
        self.modality_heads = nn.ModuleDict(
            {
                kind: nn.Sequential(
                    nn.LayerNorm(width, eps=1e-6),
                    _First(),
                    nn.Linear(width, shape.dim, bias=False),
                )
                for kind, width in widths.items()
            }
        )

    def embed(self, cuts: Tensor, kind: str) -> Tensor:
        """Mean (D,) of the unit vectors of cuts (C, 3, 2, H, W) or (C, 1, 128, 204)."""
        tokens = self.modality_trunks[kind](self.modality_preprocessors[kind](cuts))
        return F.normalize(self.modality_heads[kind](tokens), dim=-1).mean(dim=0)


def imagebind_log_mel(waveform_N: Tensor) -> Tensor:
    """Log-mel input (3, 1, 128, 204) of the audio half: three cuts of 2 s, evenly spread.

    The last one ends with the clip: at 0, 3 and 6 s of 8 s, as at the commit of pytorchvideo
    that ImageBind names (its 0.1.5 on PyPI cuts at 0, 2 and 4 s). As in Kaldi, frames lose their
    mean, are pre-emphasised, and are not centred.
    """
    step_s = Fraction(max(len(waveform_N) / _RATE_HZ - 2, 0)) / (_NUM_CUTS - 1)
    cuts = []
    for index in range(_NUM_CUTS):
        start = int(step_s * index * _RATE_HZ)
        cut = waveform_N[start : start + _CUT_SAMPLES]
        cuts.append(_kaldi_log_mel(cut - cut.mean()))
    return (torch.stack(cuts)[:, None] - _AUDIO_MEAN) / _AUDIO_STD


def _kaldi_log_mel(cut_N: Tensor) -> Tensor:
    frames = cut_N.unfold(0, 400, 160)
    frames = frames - frames.mean(dim=1, keepdim=True)
    before = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
    window_N = torch.hann_window(400, periodic=False, device=cut_N.device)
    power_FK = torch.fft.rfft((frames - 0.97 * before) * window_N, n=512).abs().square()
    bands_KM = mel_matrix(
        sample_rate_hz=_RATE_HZ, fft_samples=512, num_mels=_NUM_MELS, lowest_hz=20, highest_hz=8000
    ).to(cut_N.device)
    log_FM = (power_FK @ bands_KM).clamp(min=torch.finfo(torch.float32).eps).log()
    return F.pad(log_FM.mT, (0, _FRAMES - len(log_FM)))[:, :_FRAMES]


def picture_cuts(frames_THWK: Tensor) -> Tensor:
    """Cuts (3 (T - 1), 3, 2, 224, 224), the input of the picture half.

    Each pair of neighbouring pictures gives three crops along the longer side: beginning, middle
    (rounded up) and end.
    """
    frames = resize_short_side(frames_THWK, 224)
    height, width = frames.shape[1:3]
    top, left = height - 224, width - 224
    if height > width:
        corners = [(place, math.ceil(left / 2)) for place in (0, math.ceil(top / 2), top)]
    else:
        corners = [(math.ceil(top / 2), place) for place in (0, math.ceil(left / 2), left)]
    mean, std = (torch.tensor(x, device=frames.device) for x in (CLIP_MEAN, CLIP_STD))
    values = ((frames / 255 - mean) / std).permute(3, 0, 1, 2)  # K T H W
    return torch.stack(
        [
            values[:, first : first + 2, y : y + 224, x : x + 224]
            for first in range(len(frames) - 1)
            for y, x in corners
        ]
    )


class ImageBind(PublishedNetwork[ImageBindNetwork]):
    """ImageBind huge for sound and pictures, frozen. Build it with `ImageBind.load`."""

    release = IMAGEBIND
    not_needed = NOT_NEEDED
    sample_rate_hz = _RATE_HZ
    seconds_per_picture = 2

    @staticmethod
    def build() -> ImageBindNetwork:
        """Build the network with random weights."""
        return ImageBindNetwork(ImageBindShape())

    @torch.no_grad()
    def embed_audio(self, waveform_N: Tensor) -> Tensor:
        """Embed one channel at 16 kHz, (1024,) on the CPU.

        Raises:
            ShapeError: Not (N,), or less than 25 ms.
        """
        if waveform_N.ndim != 1 or len(waveform_N) < 400:
            raise ShapeError(
                f"waveform must be (N,) with N >= 400 at 16 kHz, got {tuple(waveform_N.shape)}"
            )
        return self._network.embed(imagebind_log_mel(waveform_N.to(self.device)), "audio").cpu()

    @torch.no_grad()
    def embed_pictures(self, frames_THWK: NDArray[np.uint8] | Tensor) -> Tensor:
        """Embed uint8 RGB pictures, one every two seconds, (1024,) on the CPU.

        Raises:
            ShapeError: If shape or dtype differ, or for fewer than two pictures.
        """
        frames = rgb_tensor(frames_THWK, least=2)
        return self._network.embed(picture_cuts(frames.to(self.device)), "vision").cpu()
