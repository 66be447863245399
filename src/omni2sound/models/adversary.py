"""What the full-size autoencoder is trained against: networks that tell its sound from real sound.

In:   waveforms (B, N).
Out:  for each of several resolutions a map of scores (higher: more likely real), and the
      features on the way there.

One small convolutional network a resolution, over real and imaginary parts of a short-time
spectrum: between them they hear clicks and tones. What not to get wrong: the transform is
scaled to keep power, so that no resolution shouts the others down.

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

__all__ = ["Adversary", "AdversaryConfig", "Discrimination", "feature_distance", "hinge"]

_SLOPE = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class AdversaryConfig:
    """Shape of `Adversary`."""

    windows: tuple[int, ...] = (2048, 1024, 512, 256, 128)
    """Samples of each resolution's window; a quarter of it is the hop."""
    channels: int = 64
    """Of every layer."""

    def __post_init__(self) -> None:
        if not self.windows or min(self.windows) < 8 or self.channels < 1:
            raise ConfigError(
                f"an adversary needs windows of 8 samples or more and channels, got "
                f"{self.windows} and {self.channels}"
            )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Discrimination:
    """What one resolution says.

    Attributes:
        score: A map of scores; its size depends on the resolution.
        features: Outputs of the layers before.
    """

    score: Tensor
    features: tuple[Tensor, ...]


class Adversary(nn.Module):
    """See the module's text."""

    def __init__(self, config: AdversaryConfig) -> None:
        super().__init__()
        self.config = config
        self.judges = nn.ModuleList(_Discriminator(w, config.channels) for w in config.windows)

    def forward(self, waveform_BN: Tensor) -> list[Discrimination]:
        """One judgement a resolution."""
        return [judge(waveform_BN) for judge in self.judges]


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
    """The adversary's loss: 0 where real sound scores above 1 and made sound below -1."""
    losses = [
        (1 - r.score).clamp_min(0).mean() + (1 + m.score).clamp_min(0).mean()
        for r, m in zip(real, made, strict=True)
    ]
    return torch.stack(losses).mean()


def feature_distance(real: Sequence[Discrimination], made: Sequence[Discrimination]) -> Tensor:
    """How differently the adversary hears the two, relative to how loud it hears the real one."""
    distances = [
        (a.detach() - b).abs().mean() / a.detach().abs().mean().clamp_min(1e-6)
        for r, m in zip(real, made, strict=True)
        for a, b in zip(r.features, m.features, strict=True)
    ]
    return torch.stack(distances).mean()
