"""PaSST-S: 527 AudioSet logits and a 768-number embedding of up to 10 s.

In:   mono waveforms (B, N) at 32 kHz, padded with zeros or cut to 10 s.
Out:  logits (B, 527) before the sigmoid, embeddings (B, 768): the mean of the class and the
      distillation token after the last norm.

A vision transformer over 16 x 16 spectrogram patches with stride 10, reimplemented with the names
of the published file. What not to get wrong: `head_dist` is part of the file but never used; it
is loaded, so that loading stays strict.

Shape suffixes: B clips, N samples, F frames, M mel bands (128), T tokens, D features.
Source: Koutini et al. 2021, arXiv:2110.05069; kkoutini/passt_hear21, get_basic_model("all").
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni2sound.encoders.metric.spectra import mel_matrix, power_spectrum
from omni2sound.encoders.published import PASST, PublishedNetwork
from omni2sound.encoders.vit import Block, Named
from omni2sound.errors import ShapeError

_RATE_HZ = 32_000
_CLIP_SAMPLES = 10 * _RATE_HZ
_PREEMPHASIS = 0.97
_PATCH = 16
_STRIDE = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class PasstConfig:
    """Shape of the network; the published one by default."""

    width: int = 768
    depth: int = 12
    num_heads: int = 12
    num_classes: int = 527
    num_mels: int = 128
    frames: int = 998
    """Frames that the time positions cover; a 10 s clip has 1000, cut to as many patches."""


class PasstNetwork(nn.Module):
    """Spectrogram patches, two extra tokens, transformer blocks, a linear head."""

    def __init__(self, config: PasstConfig) -> None:
        super().__init__()
        width = config.width
        # Positions count patches by stride, not by what fits: 12 x 99 of the published shape.
        rows, columns = config.num_mels // _STRIDE, config.frames // _STRIDE
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, width))
        self.new_pos_embed = nn.Parameter(torch.zeros(1, 2, width))
        self.freq_new_pos_embed = nn.Parameter(torch.zeros(1, width, rows, 1))
        self.time_new_pos_embed = nn.Parameter(torch.zeros(1, width, 1, columns))
        self.patch_embed = Named(proj=nn.Conv2d(1, width, _PATCH, _STRIDE))
        self.blocks = nn.Sequential(*(Block(width, config.num_heads) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, config.num_classes))
        self.head_dist = nn.Linear(width, config.num_classes)

    def forward(self, log_mel_BMF: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, 527) and embeddings (B, 768) of (B, 128, F)."""
        patches = self.patch_embed.proj(log_mel_BMF[:, None])  # B D rows columns
        patches = patches + self.time_new_pos_embed[..., : patches.shape[-1]]
        patches_BTD = (patches + self.freq_new_pos_embed).flatten(2).mT
        extra = torch.cat([self.cls_token, self.dist_token], dim=1) + self.new_pos_embed
        x_BTD = torch.cat([extra.expand(len(patches), -1, -1), patches_BTD], dim=1)
        features_BD = self.norm(self.blocks(x_BTD))[:, :2].mean(dim=1)
        return self.head(features_BD), features_BD


def passt_log_mel(waveform_BN: Tensor) -> Tensor:
    """Log-mel frames (B, 128, F), one per 10 ms, about -1 to 1: the network's input.

    Kaldi's bands: triangles straight over mel, from 0 to 15 kHz, without the highest frequency.
    """
    emphasised = waveform_BN[:, 1:] - _PREEMPHASIS * waveform_BN[:, :-1]
    power_BFK = power_spectrum(
        emphasised,
        window_N=torch.hann_window(800, periodic=False, device=waveform_BN.device),
        hop_samples=320,
        fft_samples=1024,
    )
    bands_KM = mel_matrix(
        sample_rate_hz=_RATE_HZ, fft_samples=1024, num_mels=128, lowest_hz=0, highest_hz=15_000
    ).to(waveform_BN.device)
    return ((power_BFK @ bands_KM + 1e-5).log().mT + 4.5) / 5


class Passt(PublishedNetwork[PasstNetwork]):
    """PaSST-S (86 M parameters, frozen). Build it with `Passt.load`."""

    release = PASST
    sample_rate_hz = _RATE_HZ
    dim = 768
    """Dimension of an embedding."""

    @staticmethod
    def build() -> PasstNetwork:
        """Build the network with random weights."""
        return PasstNetwork(PasstConfig())

    @torch.no_grad()
    def logits_and_embeddings(self, waveform_BN: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, 527) and embeddings (B, 768) of mono clips at 32 kHz, float32 on the CPU.

        Clips are padded with zeros or cut to 10 s.

        Raises:
            ShapeError: If the shape differs.
        """
        if waveform_BN.ndim != 2:
            raise ShapeError(f"waveforms must be (B, N) at 32 kHz, got {tuple(waveform_BN.shape)}")
        clip = waveform_BN[:, :_CLIP_SAMPLES].to(self.device)
        clip = F.pad(clip, (0, _CLIP_SAMPLES - clip.shape[1]))
        logits, embeddings = self._network(passt_log_mel(clip))
        return logits.cpu(), embeddings.cpu()
