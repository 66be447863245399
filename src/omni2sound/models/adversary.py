"""Multi-resolution spectrogram discriminators, the adversary of the full-size autoencoder.

In:   waveforms (B, N).
Out:  for each resolution a map of scores (higher: more likely real), and intermediate features.

One small convolutional network per resolution, over the real and imaginary parts of a short-time
spectrum. What not to get wrong: the transform preserves power, so that no resolution dominates
the loss.

Source: Defossez et al. 2022, arXiv:2210.13438, section 3.4; losses there and in Lim & Ye
2017, arXiv:1705.02894 (hinge).
Shape suffixes: B batch, N samples, K channels, T frames, F frequency bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from omni2sound.errors import ConfigError

_SLOPE = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class AdversaryConfig:
    """Shape of `Adversary`."""

    windows: tuple[int, ...] = (2048, 1024, 512, 256, 128)
    """Window of each resolution in samples; the hop is a quarter of it."""
    channels: int = 64
    """Channels of every layer."""

    def __post_init__(self) -> None:
        if not self.windows or min(self.windows) < 8 or self.channels < 1:
            raise ConfigError(
                f"an adversary needs windows of 8 samples or more and channels, got "
                f"{self.windows} and {self.channels}"
            )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Discrimination:
    """Output of one discriminator.

    Attributes:
        score: Map of scores (B, 1, T, F'); its size depends on the resolution.
        features: Outputs of the hidden layers.
    """

    score: Tensor
    features: tuple[Tensor, ...]


class Adversary(nn.Module):
    """One discriminator per resolution."""

    def __init__(self, config: AdversaryConfig) -> None:
        super().__init__()
        self.config = config
        # Checkpoints name their tensors "judges".
        self.judges = nn.ModuleList(_Discriminator(w, config.channels) for w in config.windows)

    def forward(self, waveform_BN: Tensor) -> list[Discrimination]:
        """Score waveforms (B, N) at every resolution."""
        return [discriminator(waveform_BN) for discriminator in self.judges]


class _Discriminator(nn.Module):
    window_N: Tensor

    def __init__(self, window: int, channels: int) -> None:
        super().__init__()
        self.hop = window // 4
        self.register_buffer("window_N", torch.hann_window(window), persistent=False)
        sizes = ((2, 1, 1), (channels, 2, 1), (channels, 2, 2), (channels, 2, 4))
        self.layers = nn.ModuleList(
            weight_norm(
                nn.Conv2d(
                    inside,
                    channels,
                    (3, 9),
                    stride=(1, stride),
                    dilation=(dilation, 1),
                    padding=(dilation, 4),
                )
            )
            for inside, stride, dilation in sizes
        )
        self.score = weight_norm(nn.Conv2d(channels, 1, (3, 3), padding=(1, 1)))

    def forward(self, waveform_BN: Tensor) -> Discrimination:
        spectrum_BFT = torch.stft(
            waveform_BN,
            len(self.window_N),
            hop_length=self.hop,
            window=self.window_N,
            normalized=True,
            return_complex=True,
        )
        x_BKTF = torch.stack([spectrum_BFT.real, spectrum_BFT.imag], dim=1).mT
        features = []
        for layer in self.layers:
            x_BKTF = nn.functional.leaky_relu(layer(x_BKTF), _SLOPE)
            features.append(x_BKTF)
        return Discrimination(score=self.score(x_BKTF), features=tuple(features))


def hinge(real: Sequence[Discrimination], made: Sequence[Discrimination]) -> Tensor:
    """Hinge loss of discriminators: 0 where real sound scores above 1 and decoded below -1."""
    losses = [
        (1 - r.score).clamp_min(0).mean() + (1 + m.score).clamp_min(0).mean()
        for r, m in zip(real, made, strict=True)
    ]
    return torch.stack(losses).mean()


def feature_distance(real: Sequence[Discrimination], made: Sequence[Discrimination]) -> Tensor:
    """Feature matching loss: mean absolute difference relative to the real features' size."""
    distances = [
        (a.detach() - b).abs().mean() / a.detach().abs().mean().clamp_min(1e-6)
        for r, m in zip(real, made, strict=True)
        for a, b in zip(r.features, m.features, strict=True)
    ]
    return torch.stack(distances).mean()
