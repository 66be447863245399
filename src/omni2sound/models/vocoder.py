"""Vocoder of the embedded autoencoder: log-mel frames to magnitudes with noise texture.

In:   log-mel frames (B, T, M) decoded from latents, too few numbers to describe noise.
Out:  magnitudes (B, T, F) on the same grid of frames.

A network predicts mean and standard deviation of the log-magnitude of each bin (Gaussian
likelihood). The deviation is sampled with the short-time spectrum of one fixed noise: where it
is that of noise, the result is filtered noise; where it is small (tones, clicks), the mean.
Finally each mel band is scaled to its input level.

What not to get wrong: a network that predicts only means turns noise into a smooth spectrum,
which sounds hollow. A deviation above that of noise is uncertainty, not texture, and is clipped.

Shape suffixes: B batch, T frames, F frequency bins, M mel bands, W width.
Source: ConvNeXt blocks over time as in Vocos, Siuzdak 2023, arXiv:2306.00814; no phases here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni2sound.errors import ConfigError

NOISE_SPREAD = math.pi / math.sqrt(24)
"""Standard deviation of the log-magnitude of Gaussian noise (0.641)."""
_MEAN_LOG_OF_NOISE = -0.5 * 0.5772156649
"""Mean of log |z| for complex Gaussian z of power 1: minus half of Euler's constant."""
_FIRST_LOG_SPREAD = -0.7


@dataclass(frozen=True, kw_only=True, slots=True)
class VocoderConfig:
    """Shape of `Vocoder`, and the strength of its texture."""

    width: int = 160
    """Channels W."""
    depth: int = 5
    """Number of blocks; each adds 7 frames (70 ms) of context."""
    texture: float = 0.6
    """Share of the predicted deviation that is applied; 0 is smooth."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.depth < 1:
            raise ConfigError(
                f"vocoder needs width and depth >= 1, got {self.width} and {self.depth}"
            )
        if not 0 <= self.texture <= 1:
            raise ConfigError(f"texture must lie in 0..1, got {self.texture}")


class FrameBlock(nn.Module):
    """Depthwise convolution over time, then a two-layer network per frame; residual.

    Args:
        width: Channels W.
        dilation: Frames between the seven taps of the convolution.
    """

    def __init__(self, width: int, *, dilation: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(
            width, width, 7, padding=3 * dilation, groups=width, dilation=dilation
        )
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 3 * width)
        self.narrow = nn.Linear(3 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x_BTW: Tensor) -> Tensor:
        """Frames (B, T, W) to frames of the same shape."""
        h = self.depthwise(x_BTW.transpose(1, 2)).transpose(1, 2)
        change: Tensor = self.narrow(F.gelu(self.widen(self.norm(h))))
        return x_BTW + self.scale * change


class Vocoder(nn.Module):
    """Network that predicts the distribution of log-magnitudes.

    Args:
        config: Shape of the network.
        filterbank_MF: Mel bands of the frames, rows summing to 1.
        inverse_FM: Matrix from bands to an initial estimate of magnitudes.
        frames_per_latent: Spectral frames per latent frame.
        magnitude_floor: Constant that was added to bands before the logarithm.
    """

    filterbank_MF: Tensor
    inverse_FM: Tensor

    def __init__(
        self,
        config: VocoderConfig,
        *,
        filterbank_MF: Tensor,
        inverse_FM: Tensor,
        frames_per_latent: int,
        magnitude_floor: float,
    ) -> None:
        super().__init__()
        num_bands, num_bins = filterbank_MF.shape
        self.config = config
        self.floor = magnitude_floor
        self.register_buffer("filterbank_MF", filterbank_MF, persistent=False)
        self.register_buffer("inverse_FM", inverse_FM, persistent=False)
        self.into = nn.Conv1d(2 * num_bands, config.width, 7, padding=3)
        # The encoding loss differs between the frames of a latent.
        self.position_PW = nn.Parameter(torch.zeros(frames_per_latent, config.width))
        self.blocks = nn.ModuleList(FrameBlock(config.width) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, 2 * num_bins)
        nn.init.zeros_(self.out.weight)  # starts at the initial estimate
        nn.init.zeros_(self.out.bias)

    def forward(self, log_mel_BTM: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of log(magnitude + floor) and log of its deviation, both (B, T, F)."""
        guess = (self._band(log_mel_BTM) @ self.inverse_FM.T).clamp_min(0) + self.floor / 2
        level = (log_mel_BTM + 7) / 3
        change = F.pad(level.diff(dim=1), (0, 0, 1, 0)) * 2
        h = self.into(torch.cat([level, change], dim=-1).transpose(1, 2)).transpose(1, 2)
        h = h + self.position_PW.repeat(h.shape[1] // len(self.position_PW), 1)
        for block in self.blocks:
            h = block(h)
        mean, log_spread = self.out(self.norm(h)).float().chunk(2, dim=-1)
        mean = (guess.log() + mean).clamp(-14.0, 2.0)
        return mean, (log_spread + _FIRST_LOG_SPREAD).clamp(-4.0, 1.0)

    def magnitude(self, log_mel_BTM: Tensor, noise_BTF: Tensor) -> Tensor:
        """Magnitudes (B, T, F) >= 0; T is a multiple of `frames_per_latent`.

        The noise is a complex spectrum of Gaussian noise, of power 1 in each bin.
        """
        mean, log_spread = self.forward(log_mel_BTM)
        swing = noise_BTF.abs().clamp_min(1e-4).log() - _MEAN_LOG_OF_NOISE
        swing = (swing / NOISE_SPREAD).clamp(-2.5, 2.5)
        spread = log_spread.exp().clamp_max(NOISE_SPREAD)
        magnitude = ((mean + self.config.texture * spread * swing).exp() - self.floor).clamp_min(0)
        return magnitude * self._correction(log_mel_BTM, magnitude)

    def _correction(self, log_mel_BTM: Tensor, magnitude_BTF: Tensor) -> Tensor:
        # Factor that restores each band's level; a bin takes the weighted mean of its bands.
        tiny = self.floor / 10
        found_BTM = magnitude_BTF @ self.filterbank_MF.T
        missing = torch.log((self._band(log_mel_BTM) + tiny) / (found_BTM + tiny))
        shares_MF = self.filterbank_MF / self.filterbank_MF.sum(dim=0).clamp_min(1e-6)
        factor_BTF: Tensor = (missing @ shares_MF).exp()
        return factor_BTF.clamp(0.3, 3.0)

    def _band(self, log_mel_BTM: Tensor) -> Tensor:
        return (log_mel_BTM.exp() - self.floor).clamp_min(0)
