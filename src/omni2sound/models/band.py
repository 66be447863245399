"""Band extension: adds the band from 7.3 to 20 kHz to sound of 16 kHz.

In:   waveforms (B, N) at 16 kHz, as an autoencoder decodes them; N a multiple of 160.
Out:  waveforms (B, 2.75625 N) at 44.1 kHz, or the added band alone.

A network reads the log-mel frames of the low band and predicts the power of 24 bands above it.
The signal in those bands is a mix of the low band's upper part, moved up in steps of 3.3 kHz
(which keeps tones tonal and hits sharp), and of fixed noise; each band is scaled to its
predicted power.

What not to get wrong: the added band is the *difference* between full-band sound and the same
sound after a trip through 16 kHz, so it also fills what the resampler's slope takes below 8 kHz,
and adding it leaves everything below `LOWEST_HZ` as it is. Both spectra have bins of 33.3 Hz and
frames of 10 ms with the same centres, so a bin can be moved up without resampling.

Shape suffixes: B batch, N samples, T frames, F frequency bins at 44.1 kHz, K bins at 16 kHz, M mel
bands of the low band, H bands above it, W width.
Source: spectral band replication, Dietz et al. 2002; ConvNeXt blocks as in `vocoder`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from omni2sound.errors import ConfigError, ShapeError
from omni2sound.models.spectrum import Spectrum, mel_filterbank, noise_spectrum
from omni2sound.models.vocoder import FrameBlock

LOW_RATE_HZ, RATE_HZ = 16_000, 44_100
LOW_HOP_SAMPLES, HOP_SAMPLES = 160, 441
"""Samples of a frame of 10 ms at the two rates."""
LOWEST_HZ, HIGHEST_HZ = 7300.0, 20_000.0
"""What is added lies between; above 20 kHz nothing is heard."""
POWER_FLOOR = 1e-11
"""Added to band powers (full-scale sine: 0.25) before the logarithm: below -100 dB is silence."""
_BIN_HZ = 100 / 3
_NUM_MELS = 80
MAGNITUDE_FLOOR = 1e-5
_SOURCE_HZ = (4000.0, 7300.0)
"""The part of the low band that is moved up."""
_MOST_LOG_POWER = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class BandConfig:
    """Shape of `BandExtension`."""

    width: int = 96
    """Channels W."""
    depth: int = 6
    """Number of blocks; block i looks at frames 2^i apart, all together 1.9 s to each side."""
    num_bands: int = 24
    """Bands H, equally spaced on the mel scale."""
    tonal: float = 0.5
    """Share of power that is moved up from the low band; the rest is noise."""

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.num_bands) < 1:
            raise ConfigError(
                "band extension needs width, depth and num_bands >= 1, got "
                f"{self.width}, {self.depth} and {self.num_bands}"
            )
        if not 0 <= self.tonal <= 1:
            raise ConfigError(f"tonal must lie in 0..1, got {self.tonal}")

    @property
    def sample_rate_hz(self) -> int:
        """Samples per second of the result."""
        return RATE_HZ


class BandExtension(nn.Module):
    """Network and synthesis of the added band; deterministic.

    Args:
        config: Shape of the network.
    """

    mel_MK: Tensor
    bands_HF: Tensor
    spread_FH: Tensor
    source_F: Tensor

    def __init__(self, config: BandConfig) -> None:
        super().__init__()
        self.config = config
        self.low_spectrum = Spectrum(
            window_samples=3 * LOW_HOP_SAMPLES, hop_samples=LOW_HOP_SAMPLES
        )
        self.spectrum = Spectrum(window_samples=3 * HOP_SAMPLES, hop_samples=HOP_SAMPLES)
        mel_MK = mel_filterbank(
            _NUM_MELS,
            self.low_spectrum.num_bins,
            sample_rate_hz=LOW_RATE_HZ,
            lowest_hz=0.0,
            highest_hz=LOW_RATE_HZ / 2,
        )
        bands_HF = mel_filterbank(
            config.num_bands,
            self.spectrum.num_bins,
            sample_rate_hz=RATE_HZ,
            lowest_hz=LOWEST_HZ,
            highest_hz=HIGHEST_HZ,
        )
        for name, value in (
            ("mel_MK", mel_MK),
            ("bands_HF", bands_HF),
            ("spread_FH", _interpolation(bands_HF)),
            ("source_F", _sources(self.spectrum.num_bins)),
        ):
            self.register_buffer(name, value, persistent=False)
        self.into = nn.Conv1d(2 * _NUM_MELS, config.width, 7, padding=3)
        self.blocks = nn.ModuleList(
            FrameBlock(config.width, dilation=2**i) for i in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, config.num_bands)
        nn.init.zeros_(self.out.weight)  # starts at the level of the low band's top
        nn.init.zeros_(self.out.bias)

    def forward(self, log_mel_BTM: Tensor) -> Tensor:
        """Log of band power (B, T, H) from log-mel frames (B, T, M) of the low band."""
        level = (log_mel_BTM + 7) / 3
        change = F.pad(level.diff(dim=1), (0, 0, 1, 0)) * 2
        h = self.into(torch.cat([level, change], dim=-1).transpose(1, 2)).transpose(1, 2)
        for block in self.blocks:
            h = block(h)
        # Relative to the low band's top: louder below is louder above.
        top_BT1 = 2 * log_mel_BTM[..., -16:].mean(dim=-1, keepdim=True)
        log_power: Tensor = top_BT1 + self.out(self.norm(h)).float()
        return log_power.clamp(math.log(POWER_FLOOR), _MOST_LOG_POWER)

    def band_edges_hz(self) -> Tensor:
        """Lowest and highest frequency of each band (H, 2)."""
        inside_HF = self.bands_HF > 0
        first_H = inside_HF.int().argmax(dim=1)
        last_H = first_H + inside_HF.sum(dim=1) - 1
        return torch.stack([first_H, last_H], dim=1) * _BIN_HZ

    def log_mel(self, low_BTK: Tensor) -> Tensor:
        """Log-mel frames (B, T, M) of the low band's spectrum."""
        return torch.log(low_BTK.abs() @ self.mel_MK.T + MAGNITUDE_FLOOR)

    def log_power(self, added_BN: Tensor) -> Tensor:
        """Log of band power (B, T, H) of waveforms at 44.1 kHz: what the network predicts."""
        power_BTF = self.spectrum.transform(added_BN).abs().square()
        return torch.log(power_BTF @ self.bands_HF.T + POWER_FLOOR)

    @torch.no_grad()
    def added_band(self, low_BN: Tensor) -> Tensor:
        """The band above the low band (B, N * 441 / 160), without the low band itself.

        Raises:
            ShapeError: If the waveform is not (B, N) with N a positive multiple of 160.
        """
        if low_BN.ndim != 2 or not low_BN.shape[1] or low_BN.shape[1] % LOW_HOP_SAMPLES:
            raise ShapeError(
                f"waveform must be (batch, a multiple of {LOW_HOP_SAMPLES} samples), "
                f"got {tuple(low_BN.shape)}"
            )
        low_BTK = self.low_spectrum.transform(low_BN.float())
        log_power_BTH = self.forward(self.log_mel(low_BTK))
        return self.synthesise(log_power_BTH, low_BTK)

    @torch.inference_mode()
    def added_array(self, low_1N: NDArray[np.float32]) -> NDArray[np.float32]:
        """`added_band` from and to an array, on the network's device."""
        device = next(self.parameters()).device
        added: NDArray[np.float32] = (
            self.added_band(torch.from_numpy(low_1N).to(device)).cpu().numpy()
        )
        return added

    def synthesise(self, log_power_BTH: Tensor, low_BTK: Tensor) -> Tensor:
        """Waveforms (B, T * 441) with the given powers in the bands.

        Args:
            log_power_BTH: Log of band powers.
            low_BTK: Spectrum of the low band.
        """
        power_BTH = (log_power_BTH.exp() - POWER_FLOOR).clamp_min(0)
        moved_BTF = self._even(low_BTK[..., self.source_F])
        noise_BTF = self._even(noise_spectrum(log_power_BTH, self.spectrum))
        share = self.config.tonal
        mixed_BTF = self._even(math.sqrt(share) * moved_BTF + math.sqrt(1 - share) * noise_BTF)
        gain_BTF = (power_BTH @ self.spread_FH.T).sqrt()
        return self.spectrum.inverse(mixed_BTF * gain_BTF)

    def _even(self, spectrum_BTF: Tensor) -> Tensor:
        """Scale each band to power 1; what is far below the others stays below."""
        power_BTH = spectrum_BTF.abs().square() @ self.bands_HF.T
        return spectrum_BTF / (power_BTH @ self.spread_FH.T + POWER_FLOOR).sqrt()


def _interpolation(bands_HF: Tensor) -> Tensor:
    """Matrix (F, H) from values of bands to bins, linear between centres, 0 beyond the edges."""
    peaks = bands_HF / bands_HF.amax(dim=1, keepdim=True)
    inside_F = (bands_HF.sum(dim=0) > 0).float()
    share_HF: Tensor = peaks / peaks.sum(dim=0).clamp_min(1e-6)
    return (share_HF * inside_F).T.contiguous()


def _sources(num_bins: int) -> Tensor:
    """For each bin the bin of the low band that is moved there, by a multiple of three bins.

    A move by k bins turns the phase by k / 3 of a circle from frame to frame.
    """
    first, last = (round(hz / _BIN_HZ) for hz in _SOURCE_HZ)
    width = (last - first) // 3 * 3
    return first + (torch.arange(num_bins) - first) % width
