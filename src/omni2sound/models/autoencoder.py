"""The embedded audio autoencoder: 25 latent frames of 128 numbers per second, 16 kHz mono.

In:   waveforms (B, N), full scale +-1; latents (B, L, C), zero mean and unit variance per
      channel over the recordings given to `fit_pca`.
Out:  the other of the two; L = ceil(N / 640) when encoding, N = 640 L when decoding.

    waveform -> 480-sample spectrum every 160 -> 80 log-mel bands -> blocks of 4 frames
             -> 128 principal components, standardised = latents                 closed form
    latents  -> log-mel bands -> magnitudes (`models.vocoder`, learned; without one: the
                damped inverse of the bands) -> phases by projection -> waveform

What not to get wrong: latent frame i covers exactly the samples [640 i, 640 (i + 1))
(`models.spectrum` explains why that is not the usual transform). Principal components depend on
the recordings: latents of one fit mean nothing to the decoder of another.

Shape suffixes: B batch, N samples, L latent frames, C latent channels, T spectral frames
(4 L), F frequency bins, M mel bands, K values of a block (4 M).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from omni2sound.config import added
from omni2sound.errors import ConfigError, ShapeError, UserError
from omni2sound.models.spectrum import (
    Spectrum,
    mel_filterbank,
    noise_spectrum,
    phase_by_projection,
)
from omni2sound.models.vocoder import Vocoder, VocoderConfig

_LEAST_RELATIVE_SCALE = 1e-3
_LOUDNESS_EXPONENT = 0.5
"""Blocks are weighted by the square root of their loudest band when directions are fitted: losses
in quiet moments are less audible (YAMNet cosine .863 -> .872 on 60 recordings)."""
_INVERSE_RIDGE = 0.1


class AutoencoderConfig(Protocol):
    """Shape of an autoencoder, a frozen dataclass."""

    @property
    def sample_rate_hz(self) -> int:
        """Samples per second, one channel."""

    @property
    def hop_samples(self) -> int:
        """Samples per latent frame."""

    @property
    def latent_dim(self) -> int:
        """Channels C of a latent frame."""


class AudioVAE(nn.Module):
    """Base of autoencoders; subclasses implement `encode` and `decode`."""

    config: AutoencoderConfig
    scale_C: Tensor
    """Buffer (C,): the standard deviation that one unit of each latent channel stands for."""

    @property
    def sample_rate_hz(self) -> int:
        """Samples per second, one channel."""
        return self.config.sample_rate_hz

    @property
    def hop_samples(self) -> int:
        """Samples per latent frame."""
        return self.config.hop_samples

    @property
    def latent_dim(self) -> int:
        """Channels C of a latent frame."""
        return self.config.latent_dim

    def encode(self, waveform_BN: Tensor) -> Tensor:
        """Standardised latents (B, L, C); the last frame is padded with silence."""
        raise NotImplementedError

    def decode(self, latents_BLC: Tensor) -> Tensor:
        """Waveforms (B, L * hop_samples)."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, slots=True)
class MelPcaConfig:
    """Shape of `MelPcaAutoencoder`."""

    sample_rate_hz: int = 16_000
    """Samples per second."""
    window_samples: int = 480
    """Window of the spectrum that is encoded: 30 ms, between onsets (short) and tones (long)."""
    frame_hop_samples: int = 160
    """Samples between spectral frames."""
    frames_per_latent: int = 4
    """Spectral frames in one latent frame."""
    num_bands: int = 80
    """Mel bands (HTK) from 0 Hz to half the sample rate."""
    magnitude_floor: float = 1e-5
    """Added to band magnitudes (full-scale sine: 0.5) before the logarithm: levels far below
    -90 dB count as silence, and cost no latent variance."""
    latent_dim: int = 128
    """Principal components kept; why 128: docs/decisions/0009."""
    phase_iterations: int = 16
    """Projections in `decode` that fit phases to the magnitudes."""
    vocoder: VocoderConfig | None = None
    """Network that refines magnitudes; None: decode in closed form."""
    loudest: float | None = added(None)
    """Loudness of a decoded frame (`loudness_of`) above which it is lowered; None: no limit.
    Guidance can drive latents to sounds many times over full scale."""

    def __post_init__(self) -> None:
        if (self.window_samples - self.frame_hop_samples) % 2 or self.window_samples % 2:
            raise ConfigError(
                "window_samples and window_samples - frame_hop_samples must be even, got "
                f"{self.window_samples} and {self.window_samples - self.frame_hop_samples}"
            )
        if not 1 <= self.latent_dim <= self.block_size:
            raise ConfigError(
                f"latent_dim must lie in 1..{self.block_size} (frames_per_latent * num_bands), "
                f"got {self.latent_dim}"
            )
        if self.magnitude_floor <= 0:
            raise ConfigError(f"magnitude_floor must be positive, got {self.magnitude_floor}")

    @property
    def hop_samples(self) -> int:
        """Samples per latent frame."""
        return self.frame_hop_samples * self.frames_per_latent

    @property
    def block_size(self) -> int:
        """Values K in the log-mel block of one latent frame."""
        return self.frames_per_latent * self.num_bands


class MelPcaAutoencoder(AudioVAE):
    """An `AudioVAE` whose encoder is fitted in closed form."""

    config: MelPcaConfig
    filterbank_MF: Tensor
    inverse_FM: Tensor
    mean_K: Tensor
    basis_CK: Tensor

    def __init__(self, config: MelPcaConfig) -> None:
        super().__init__()
        self.config = config
        self.spectrum = Spectrum(
            window_samples=config.window_samples, hop_samples=config.frame_hop_samples
        )
        filterbank_MF = mel_filterbank(
            config.num_bands,
            self.spectrum.num_bins,
            sample_rate_hz=config.sample_rate_hz,
            lowest_hz=0.0,
            highest_hz=config.sample_rate_hz / 2,
        )
        inverse_FM = _damped_inverse(filterbank_MF)
        self.register_buffer("filterbank_MF", filterbank_MF, persistent=False)
        self.register_buffer("inverse_FM", inverse_FM, persistent=False)
        self.register_buffer("mean_K", torch.zeros(config.block_size))
        self.register_buffer("basis_CK", torch.eye(config.latent_dim, config.block_size))
        self.register_buffer("scale_C", torch.ones(config.latent_dim))
        self.vocoder: Vocoder | None = None
        if config.vocoder is not None:
            self.vocoder = Vocoder(
                config.vocoder,
                filterbank_MF=filterbank_MF,
                inverse_FM=inverse_FM,
                frames_per_latent=config.frames_per_latent,
                magnitude_floor=config.magnitude_floor,
            )

    @torch.no_grad()
    def encode(self, waveform_BN: Tensor) -> Tensor:
        """Latents (B, L, C), L = ceil(N / 640); the last frame is padded with silence.

        Raises:
            ShapeError: If the waveform is not (B, N) with N > 0.
        """
        blocks = self._blocks(waveform_BN)
        return (blocks - self.mean_K) @ self.basis_CK.T / self.scale_C

    @torch.no_grad()
    def decode(self, latents_BLC: Tensor) -> Tensor:
        """Waveforms (B, 640 L); deterministic on one machine.

        Raises:
            ShapeError: If the latents are not (B, L, C) with L > 0.
        """
        log_mel_BTM = self.log_mel_from_latents(latents_BLC)
        if self.config.loudest is not None:
            over_BT1 = loudness_of(log_mel_BTM) - self.config.loudest
            log_mel_BTM = log_mel_BTM - over_BT1.clamp_min(0)
        noise_BTF = noise_spectrum(log_mel_BTM, self.spectrum)
        if self.vocoder is None:
            magnitude_BTF = self.magnitude_from_mel(log_mel_BTM)
        else:
            magnitude_BTF = self.vocoder.magnitude(log_mel_BTM, noise_BTF)
        return phase_by_projection(
            magnitude_BTF,
            self.spectrum,
            iterations=self.config.phase_iterations,
            start_BTF=noise_BTF,
        )

    def log_mel(self, waveform_BN: Tensor) -> Tensor:
        """Log-mel frames (B, T, M); N must be a multiple of the frame hop."""
        magnitude_BTF = self.spectrum.transform(waveform_BN).abs()
        return torch.log(magnitude_BTF @ self.filterbank_MF.T + self.config.magnitude_floor)

    def log_mel_from_latents(self, latents_BLC: Tensor) -> Tensor:
        """Log-mel frames (B, 4 L, M) of latents.

        Raises:
            ShapeError: If the latents are not (B, L, C) with L > 0.
        """
        check_latents(latents_BLC, self.latent_dim)
        blocks = (latents_BLC.float() * self.scale_C) @ self.basis_CK + self.mean_K
        log_mel = blocks.reshape(len(blocks), -1, self.config.num_bands)
        # A sampler can leave the range of sounds; exp() must not overflow then.
        return log_mel.clamp(math.log(self.config.magnitude_floor), 2.0)

    def level_from_latents(self, latents_BLC: Tensor) -> Tensor:
        """Power (B, L) of each latent frame, summed over bands; near that of the decoded sound.

        Raises:
            ShapeError: If the latents are not (B, L, C) with L > 0.
        """
        power_BT = self.log_mel_from_latents(latents_BLC).exp().square().sum(dim=-1)
        level_BL: Tensor = power_BT.reshape(len(power_BT), -1, self.config.frames_per_latent).mean(
            dim=-1
        )
        return level_BL

    def magnitude_from_mel(self, log_mel_BTM: Tensor) -> Tensor:
        """Magnitudes (B, T, F) >= 0 whose bands come near the given ones."""
        band = (log_mel_BTM.exp() - self.config.magnitude_floor).clamp_min(0)
        return (band @ self.inverse_FM.T).clamp_min(0)

    @torch.no_grad()
    def fit_pca(self, waveforms: Iterable[Tensor]) -> None:
        """Set the principal components and the statistics of the latents, in closed form.

        Args:
            waveforms: Recordings (N,), full scale +-1; blocks have equal weight in the statistics.

        Raises:
            UserError: If there are not more blocks than components.
        """
        size = self.config.block_size
        count, total_K = 0, torch.zeros(size, dtype=torch.float64)
        plain_KK = torch.zeros(size, size, dtype=torch.float64)
        weight, weighted_K, weighted_KK = 0.0, total_K.clone(), plain_KK.clone()
        for waveform_N in waveforms:
            blocks = self._blocks(waveform_N[None])[0].double().cpu()
            weight_L = torch.exp(_LOUDNESS_EXPONENT * blocks.amax(dim=1))
            count += len(blocks)
            total_K += blocks.sum(dim=0)
            plain_KK += blocks.T @ blocks
            weight += float(weight_L.sum())
            weighted_K += weight_L @ blocks
            weighted_KK += blocks.T @ (weight_L[:, None] * blocks)
        if count <= self.latent_dim:
            raise UserError(
                f"{count} latent frames can't fit {self.latent_dim} components; give more sound"
            )
        basis_CK = _principal(weighted_KK / weight, weighted_K / weight)[: self.latent_dim]
        mean_K = total_K / count
        covariance_KK = plain_KK / count - torch.outer(mean_K, mean_K)
        scale_C = (basis_CK @ covariance_KK * basis_CK).sum(dim=1).clamp_min(0).sqrt()
        # Otherwise directions that hardly vary would amplify rounding noise.
        scale_C = scale_C.clamp_min(_LEAST_RELATIVE_SCALE * max(float(scale_C.max()), 1e-6))
        self.mean_K.copy_(mean_K)
        self.basis_CK.copy_(basis_CK)
        self.scale_C.copy_(scale_C)

    def copy_components(self, other: MelPcaAutoencoder) -> None:
        """Copy the latents of another fit, to train another decoder for them."""
        for name in ("mean_K", "basis_CK", "scale_C"):
            getattr(self, name).copy_(getattr(other, name))

    def _blocks(self, waveform_BN: Tensor) -> Tensor:
        log_mel_BTM = self.log_mel(pad_to_frames(waveform_BN, self.hop_samples))
        return log_mel_BTM.reshape(len(log_mel_BTM), -1, self.config.block_size)


def loudness_of(log_mel_BTM: Tensor) -> Tensor:
    """Loudness of log-mel frames (B, T, 1): log of the root of their summed squared magnitudes.

    A full-scale sine has -0.7 or less, depending on how its energy falls on bands.
    """
    return log_mel_BTM.exp().square().sum(dim=-1, keepdim=True).log() / 2


def check_latents(latents_BLC: Tensor, latent_dim: int) -> None:
    """Raise a `ShapeError` unless latents are (B, L, C) with L > 0."""
    shape = tuple(latents_BLC.shape)
    if len(shape) != 3 or shape[2] != latent_dim or not shape[1]:
        raise ShapeError(f"latents must be (batch, frames > 0, {latent_dim}), got {shape}")


def pad_to_frames(waveform_BN: Tensor, hop_samples: int) -> Tensor:
    """Pad waveforms with silence to a multiple of the hop, as float32.

    Raises:
        ShapeError: If they are not (B, N) with N > 0.
    """
    if waveform_BN.ndim != 2 or not waveform_BN.shape[1]:
        raise ShapeError(f"waveform must be (batch, samples > 0), got {tuple(waveform_BN.shape)}")
    return nn.functional.pad(waveform_BN.float(), (0, -waveform_BN.shape[1] % hop_samples))


def _principal(product_KK: Tensor, mean_K: Tensor) -> Tensor:
    """Principal directions as rows, largest variance first."""
    _, vectors_KK = torch.linalg.eigh(product_KK - torch.outer(mean_K, mean_K))
    rows: Tensor = vectors_KK.T.flip(0)
    # Eigenvectors have no sign; fix one, so that a fit does not depend on LAPACK.
    largest = rows.gather(1, rows.abs().argmax(dim=1, keepdim=True))
    return rows * largest.sign()


def _damped_inverse(filterbank_MF: Tensor) -> Tensor:
    # The plain pseudo-inverse amplifies small errors in narrow low bands (measured: +40 dB in
    # magnitudes); damping relative to each band's own weight does not.
    a = filterbank_MF.double()
    gram = a @ a.T
    inverse_MF: Tensor = torch.linalg.solve(gram + _INVERSE_RIDGE * torch.diag(gram.diag()), a)
    return inverse_MF.T.float()
