"""Your own autoencoder: the lowest DCT coefficients of every 40 ms, for dull but exact sound."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from omni2sound.models.autoencoder import AudioVAE
from omni2sound.models.registry import AUTOENCODERS, AutoencoderSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class DctConfig:
    """In a card: `"autoencoder": {"kind": "dct", "latent_dim": 32}`."""

    kind: str = "dct"
    sample_rate_hz: int = 16_000
    hop_samples: int = 640
    latent_dim: int = 64


class Dct(AudioVAE):
    def __init__(self, config: DctConfig) -> None:
        super().__init__()
        self.config = config
        phase_N = (torch.arange(config.hop_samples) + 0.5) * (torch.pi / config.hop_samples)
        basis_CN = (torch.arange(config.latent_dim)[:, None] * phase_N).cos()
        self.register_buffer("basis_CN", F.normalize(basis_CN, dim=1), persistent=False)
        self.register_buffer("scale_C", torch.ones(config.latent_dim))

    def encode(self, waveform_BN: Tensor) -> Tensor:
        padded_BN = F.pad(waveform_BN, (0, -waveform_BN.shape[1] % self.hop_samples))
        return padded_BN.unflatten(1, (-1, self.hop_samples)) @ self.basis_CN.T / self.scale_C

    def decode(self, latents_BLC: Tensor) -> Tensor:
        return (latents_BLC * self.scale_C @ self.basis_CN).flatten(1)


AUTOENCODERS.register("dct", AutoencoderSpec(config=DctConfig, build=Dct))
