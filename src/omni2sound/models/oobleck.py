"""The full-size audio autoencoder: Oobleck, strided convolutions from waveform to waveform.

In:   waveforms (B, N), full scale +-1; latents (B, L, C), standardised per channel.
Out:  the other of the two; L = ceil(N / 640) when encoding, N = 640 L when decoding.

Bit-equal to `diffusers.AutoencoderOobleck` (a parity row and a test compare them); implemented
here because training encodes mixes on machines with torch alone.

What not to get wrong: long sounds are processed in chunks, with a margin on each side as wide as
the networks' receptive field. Chunks are therefore exact and need no cross-fade, and memory does
not grow with the length.

Source: Evans et al. 2024, Stable Audio Open, arXiv:2407.14358; Kumar et al. 2023,
arXiv:2306.06546. Strides 2-2-4-4-10 at 16 kHz follow third parties' descriptions of
Omni2Sound's autoencoder and the sibling release (unverified).
Shape suffixes: B batch, N samples, L latent frames, C latent channels, K channels, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from omni2sound.config import runtime_only
from omni2sound.errors import ConfigError
from omni2sound.models.autoencoder import AudioVAE, check_latents, pad_to_frames

_DILATIONS = (1, 3, 9)
_KERNEL = 7
_MAX_LEVELS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class OobleckConfig:
    """Shape of `Oobleck`; the defaults are the full size (164 M parameters)."""

    kind: Literal["oobleck"] = "oobleck"
    """Distinguishes it from `MelPcaConfig` in a card."""
    sample_rate_hz: int = 16_000
    """Samples per second."""
    channels: int = 128
    """Channels after the first convolution."""
    multiples: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Channels after each stride, in `channels`."""
    strides: tuple[int, ...] = (2, 2, 4, 4, 10)
    """Stride of each encoder block, from the waveform on."""
    latent_dim: int = 64
    """Channels of a latent frame."""
    chunk_frames: int = runtime_only(125)
    """Latent frames per chunk, without margins."""

    def __post_init__(self) -> None:
        if len(self.strides) > _MAX_LEVELS:
            raise ConfigError(f"strides must be at most {_MAX_LEVELS}, got {len(self.strides)}")
        if len(self.multiples) != len(self.strides) or not self.strides:
            raise ConfigError(
                "multiples and strides must be equally many, got "
                f"{len(self.multiples)} and {len(self.strides)}"
            )
        if any(stride % 2 or stride < 2 for stride in self.strides):
            # Odd strides do not restore the length when decoding.
            raise ConfigError(f"strides must be even, got {self.strides}")
        if min(self.channels, self.latent_dim, self.chunk_frames, *self.multiples) < 1:
            raise ConfigError("channels, multiples, latent_dim and chunk_frames must be >= 1")

    @property
    def hop_samples(self) -> int:
        """Samples per latent frame."""
        return math.prod(self.strides)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels before the first block and after each."""
        return (self.channels, *(self.channels * m for m in self.multiples))

    @property
    def encoder_reach_frames(self) -> int:
        """Latent frames on each side that a latent frame may depend on."""
        reach, rate = _KERNEL // 2, 1
        for stride in self.strides:
            reach += (_KERNEL // 2) * sum(_DILATIONS) * rate + 2 * stride * rate
            rate *= stride
        return -(-(reach + rate) // rate) + 1

    @property
    def decoder_reach_frames(self) -> int:
        """Latent frames on each side that a sample may depend on."""
        rate = self.hop_samples
        reach = (_KERNEL // 2) * rate + _KERNEL // 2
        for stride in reversed(self.strides):
            reach += 2 * rate
            rate //= stride
            reach += (_KERNEL // 2) * sum(_DILATIONS) * rate
        return -(-reach // self.hop_samples) + 1


class Snake(nn.Module):
    """x + sin^2(a x) / b with a and b learned per channel, as logarithms.

    Source:
        Ziyin et al. 2020, arXiv:2006.08195; b apart from a: Lee et al. 2022, arXiv:2206.04658.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_a = nn.Parameter(torch.zeros(channels))
        self.log_b = nn.Parameter(torch.zeros(channels))

    def forward(self, x_BKT: Tensor) -> Tensor:
        """Same shape."""
        a_K1, b_K1 = self.log_a.exp()[:, None], self.log_b.exp()[:, None]
        return x_BKT + (b_K1 + 1e-9).reciprocal() * torch.sin(a_K1 * x_BKT).pow(2)


def _conv(
    inside: int, outside: int, kernel: int, *, dilation: int = 1, bias: bool = True
) -> nn.Module:
    padding = dilation * (kernel - 1) // 2
    convolution = nn.Conv1d(inside, outside, kernel, dilation=dilation, padding=padding, bias=bias)
    normed: nn.Module = weight_norm(convolution)
    return normed


class _ResidualUnit(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.snake1 = Snake(channels)
        self.conv1 = _conv(channels, channels, _KERNEL, dilation=dilation)
        self.snake2 = Snake(channels)
        self.conv2 = _conv(channels, channels, 1)

    def forward(self, x_BKT: Tensor) -> Tensor:
        y_BKT: Tensor = self.conv2(self.snake2(self.conv1(self.snake1(x_BKT))))
        return x_BKT + y_BKT


def _units(channels: int) -> nn.Sequential:
    return nn.Sequential(*(_ResidualUnit(channels, dilation) for dilation in _DILATIONS))


class _Down(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.units = _units(inside)
        self.snake = Snake(inside)
        self.conv = weight_norm(
            nn.Conv1d(inside, outside, 2 * stride, stride=stride, padding=stride // 2)
        )

    def forward(self, x_BKT: Tensor) -> Tensor:
        return self.conv(self.snake(self.units(x_BKT)))  # type: ignore[no-any-return]


class _Up(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.snake = Snake(inside)
        self.conv = weight_norm(
            nn.ConvTranspose1d(inside, outside, 2 * stride, stride=stride, padding=stride // 2)
        )
        self.units = _units(outside)

    def forward(self, x_BKT: Tensor) -> Tensor:
        return self.units(self.conv(self.snake(x_BKT)))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Waveform (B, 1, N) to mean and spread of the latents (B, 2 C, L)."""

    def __init__(self, config: OobleckConfig) -> None:
        super().__init__()
        widths = config.widths
        self.first = _conv(1, widths[0], _KERNEL)
        self.blocks = nn.Sequential(
            *(_Down(widths[i], widths[i + 1], s) for i, s in enumerate(config.strides))
        )
        self.snake = Snake(widths[-1])
        self.last = _conv(widths[-1], 2 * config.latent_dim, 3)

    def forward(self, x_B1N: Tensor) -> Tensor:
        """(B, 1, N) to (B, 2 C, L)."""
        return self.last(self.snake(self.blocks(self.first(x_B1N))))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Latents (B, C, L) to waveform (B, 1, N)."""

    def __init__(self, config: OobleckConfig) -> None:
        super().__init__()
        widths, last = config.widths, len(config.strides)
        self.first = _conv(config.latent_dim, widths[-1], _KERNEL)
        self.blocks = nn.Sequential(
            *(_Up(widths[i], widths[i - 1], config.strides[i - 1]) for i in range(last, 0, -1))
        )
        self.snake = Snake(widths[0])
        self.last = _conv(widths[0], 1, _KERNEL, bias=False)

    def forward(self, z_BCL: Tensor) -> Tensor:
        """(B, C, L) to (B, 1, N)."""
        return self.last(self.snake(self.blocks(self.first(z_BCL))))  # type: ignore[no-any-return]


class Oobleck(AudioVAE):
    """An `AudioVAE` of convolutions; see the module's text."""

    config: OobleckConfig
    mean_C: Tensor

    def __init__(self, config: OobleckConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.register_buffer("mean_C", torch.zeros(config.latent_dim))
        self.register_buffer("scale_C", torch.ones(config.latent_dim))

    @torch.no_grad()
    def encode(self, waveform_BN: Tensor) -> Tensor:
        """Latents (B, L, C), the posterior's means; the last frame is padded with silence.

        Raises:
            ShapeError: If the waveform is not (B, N) with N > 0.
        """
        hop, config = self.hop_samples, self.config
        padded_BN = pad_to_frames(waveform_BN, hop)
        frames_BLH = padded_BN.reshape(len(padded_BN), -1, hop)

        def whole(part_BLH: Tensor) -> Tensor:
            mean_BCL, _ = self.posterior(part_BLH.flatten(1))
            return mean_BCL.transpose(1, 2)

        mean_BLC = in_chunks(whole, frames_BLH, config.chunk_frames, config.encoder_reach_frames)
        return (mean_BLC.float() - self.mean_C.float()) / self.scale_C.float()

    @torch.no_grad()
    def decode(self, latents_BLC: Tensor) -> Tensor:
        """Waveforms (B, N = hop L).

        Raises:
            ShapeError: If the latents are not (B, L, C) with L > 0.
        """
        check_latents(latents_BLC, self.latent_dim)
        config = self.config
        z_BLC = latents_BLC.float() * self.scale_C.float() + self.mean_C.float()

        def whole(part_BLC: Tensor) -> Tensor:
            waveform_BN = self.waveform(part_BLC.transpose(1, 2))
            return waveform_BN.reshape(len(waveform_BN), -1, self.hop_samples)

        return in_chunks(whole, z_BLC, config.chunk_frames, config.decoder_reach_frames).flatten(1)

    def posterior(self, waveform_BN: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (B, C, L) of unstandardised latents, with gradients.

        N must be a multiple of the hop.
        """
        dtype = self.encoder.snake.log_a.dtype
        mean_BCL, spread_BCL = self.encoder(waveform_BN[:, None].to(dtype)).chunk(2, dim=1)
        return mean_BCL, nn.functional.softplus(spread_BCL) + 1e-4

    def waveform(self, z_BCL: Tensor) -> Tensor:
        """Waveforms (B, N) of unstandardised latents, with gradients."""
        return self.decoder(z_BCL.to(self.decoder.snake.log_a.dtype))[:, 0]  # type: ignore[no-any-return]

    @torch.no_grad()
    def fit_statistics(self, mean_C: Tensor, scale_C: Tensor) -> None:
        """Set mean and deviation by which latents are standardised."""
        self.mean_C.copy_(mean_C)
        self.scale_C.copy_(scale_C)


def in_chunks(
    network: Callable[[Tensor], Tensor], x_BLX: Tensor, chunk: int, margin: int
) -> Tensor:
    """Apply a network over frames in chunks, with the result of a single call.

    Args:
        network: (B, L, X) to (B, L, Y); a frame depends on at most `margin` frames each side.
        x_BLX: All frames.
        chunk: Frames kept of each call.
        margin: Frames of context on each side of a chunk.
    """
    num_frames = x_BLX.shape[1]
    parts = []
    for begin in range(0, num_frames, chunk):
        end = min(begin + chunk, num_frames)
        first, last = max(0, begin - margin), min(num_frames, end + margin)
        parts.append(network(x_BLX[:, first:last])[:, begin - first : end - first])
    return torch.cat(parts, dim=1)
