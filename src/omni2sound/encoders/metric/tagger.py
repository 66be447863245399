"""In-domain tagger: scores of the synthetic scenes' classes, trained on their recordings.

In:   a mono waveform at 16 kHz in [-1, 1].
Out:  scores (P, K) in [0, 1] and embeddings (P, 256), one row per patch; patch p covers 0.96 s
      from p * 0.48 s on.

Independent of YAMNet: another front end (power instead of magnitude; whole band), labels of the
catalogue, no AudioSet. It shares the training recordings with the generator, and half of them
passed its decoder. It may thus reward overfitting, and forgive our decoder more than another
system's: a score counts where both taggers agree. No model is selected or trained by it.

Shape suffixes: N samples, B batch, P patches, F frequencies, T frames, M mel bands, C channels,
K classes, D embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from omni2sound.config import from_json
from omni2sound.encoders.base import whole_patches
from omni2sound.errors import ConfigError
from omni2sound.models.spectrum import mel_filterbank
from omni2sound.weights import check_component, load_card, load_part, resolve_model

NAME = "tagger"
_CHUNK_PATCHES = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class TaggerConfig:
    """Shape of the network and its front end."""

    class_names: tuple[str, ...]
    """Classes K, in the order of the scores."""
    sample_rate_hz: int = 16_000
    """Samples per second, one channel."""
    window_samples: int = 512
    """Window (and transform) of the spectrum."""
    hop_samples: int = 160
    """Samples from one frame to the next."""
    num_bands: int = 64
    """Mel bands (HTK) from 40 Hz to half the sample rate."""
    patch_frames: int = 96
    """Frames of one patch."""
    channels: tuple[int, ...] = (24, 48, 96, 160, 256)
    """Channels of each block; the last is the embedding."""

    def __post_init__(self) -> None:
        if not self.class_names or len(set(self.class_names)) < len(self.class_names):
            raise ConfigError("class_names must be given, each once")
        if not self.channels or min(self.channels) < 1:
            raise ConfigError(f"channels must be one or more, each at least 1, got {self.channels}")
        if min(self.patch_frames, self.num_bands) < 2 ** len(self.channels):
            raise ConfigError("too many channels: each block halves the spectrogram")

    @property
    def patch_samples(self) -> int:
        """Samples of one patch."""
        return self.patch_frames * self.hop_samples


class TaggerNetwork(nn.Module):
    """Network from patches (B, N) to logits (B, K) and embeddings (B, D)."""

    window_N: Tensor
    mel_MF: Tensor

    def __init__(self, config: TaggerConfig) -> None:
        super().__init__()
        self.config = config
        bins = config.window_samples // 2 + 1
        bank_MF = mel_filterbank(
            config.num_bands,
            bins,
            sample_rate_hz=config.sample_rate_hz,
            lowest_hz=40.0,
            highest_hz=config.sample_rate_hz / 2,
        )
        window_N = torch.hann_window(config.window_samples, periodic=True)
        self.register_buffer("mel_MF", bank_MF, persistent=False)
        self.register_buffer("window_N", window_N, persistent=False)
        blocks, before = [], 1
        for channels in config.channels:
            blocks.append(_block(before, channels))
            before = channels
        self.blocks = nn.Sequential(*blocks)
        self.out = nn.Linear(before, len(config.class_names))

    def log_mel(self, sound_BN: Tensor) -> Tensor:
        """Log-power mel bands (B, M, T) of patches, about zero mean and unit deviation."""
        c = self.config
        spectrum_BFT = torch.stft(
            sound_BN,
            c.window_samples,
            c.hop_samples,
            window=self.window_N,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )[..., : c.patch_frames]
        power_BMT = self.mel_MF @ (spectrum_BFT.real.square() + spectrum_BFT.imag.square())
        return (torch.log(power_BMT + 1e-4) + 4) / 5

    def forward(self, sound_BN: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and embeddings of patches."""
        return self.classify(self.log_mel(sound_BN))

    def classify(self, log_mel_BMT: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and embeddings of log-mel bands; the front end itself needs full precision."""
        maps_BCMT = self.blocks(log_mel_BMT[:, None])
        # Steady sounds show in the mean over time, short ones in the maximum.
        over_bands_BCT = maps_BCMT.mean(dim=2)
        embedding_BD = over_bands_BCT.mean(dim=-1) + over_bands_BCT.amax(dim=-1)
        return self.out(nn.functional.dropout(embedding_BD, 0.3, self.training)), embedding_BD


def _block(before: int, channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(before, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )


class Tagger:
    """The trained tagger, frozen. Build it with `Tagger.load`."""

    name = NAME
    top_k = 3
    """Best classes that count as present: the fewest with 0.8 recall on validation
    (docs/decisions/0037)."""
    least_score = 0.08
    """Lowest score that counts as present: the highest that loses no hit on validation."""
    vocabulary: Literal["catalogue"] = "catalogue"

    def __init__(self, network: TaggerNetwork) -> None:
        self._network = network.eval().requires_grad_(False)
        config = network.config
        self.class_names = config.class_names
        self.sample_rate_hz = config.sample_rate_hz
        self.patch_samples = config.patch_samples
        self.patch_hop_samples = config.patch_samples // 2

    @classmethod
    def load(cls, folder: Path | str = NAME) -> Self:
        """Load the bundled tagger, or another one.

        Raises:
            MissingPartError: If there is no such model.
            ConfigError: If its weights do not fit.
        """
        card = load_card(resolve_model(folder, component="tagger"))
        check_component(card, "tagger", field="tagger", purpose="detects no classes")
        network = TaggerNetwork(from_json(TaggerConfig, card.parts["tagger"]))
        load_part(card, "tagger", network)
        return cls(network)

    @torch.inference_mode()
    def scores_and_embeddings(
        self, waveform_N: NDArray[np.float32] | Tensor
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Tag a sound of any length.

        Args:
            waveform_N: Mono samples at 16 kHz, nominally in [-1, 1], at least one; zeros are
                appended up to a whole number of patches.

        Returns:
            Scores (P, K) and embeddings (P, D), P = 1 + ceil(max(0, N - 15 360) / 7 680).

        Raises:
            ShapeError: If the waveform is not one-dimensional or is empty.
            UserError: If it holds NaN or infinity.
        """
        size, hop = self.patch_samples, self.patch_hop_samples
        padded_N = whole_patches(waveform_N, patch_samples=size, hop_samples=hop)
        patches_PN = padded_N.unfold(0, size, hop)
        pairs = [self._network(part) for part in torch.split(patches_PN, _CHUNK_PATCHES)]
        scores_PK = torch.cat([logits for logits, _ in pairs]).sigmoid()
        embeddings_PD = torch.cat([embedding for _, embedding in pairs])
        return scores_PK.numpy(), embeddings_PD.numpy()
