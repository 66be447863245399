"""PANNs Cnn14 at 16 kHz: 527 AudioSet logits and a 2048-number embedding of a whole clip.

In:   mono waveforms (B, N) at 16 kHz, all of one length.
Out:  logits (B, 527) before the sigmoid, embeddings (B, 2048) after the last ReLU.

Reimplemented with the names of the published file, so that loading is strict. Mel bands come
from the file (`logmel_extractor.melW`); the file's Fourier kernels are only compared with this
module's window. What not to get wrong: KL and inception score take logits, not probabilities.

Shape suffixes: B clips, N samples, F frames, M mel bands (64), D embedding, C channels.
Source: Kong et al. 2020, arXiv:1912.10211; qiuqiangkong/audioset_tagging_cnn, Cnn14_16k.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni2sound.encoders.metric.spectra import mel_matrix, power_spectrum
from omni2sound.encoders.published import PANNS, PublishedNetwork
from omni2sound.errors import IntegrityError, ShapeError

_WINDOW_SAMPLES = 512
_HOP_SAMPLES = 160
_LOWEST_POWER = 1e-10
_CHANNELS = (64, 128, 256, 512, 1024, 2048)
_FOURIER = (
    "spectrogram_extractor.stft.conv_real.weight",
    "spectrogram_extractor.stft.conv_imag.weight",
)


class _Block(nn.Module):
    """Two convolutions, then 2 x 2 average pooling (none in the last block)."""

    def __init__(self, c_in: int, c_out: int, *, pool: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.pool = pool

    def forward(self, x_BCFM: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x_BCFM)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.avg_pool2d(x, self.pool) if self.pool > 1 else x


class _Bands(nn.Module):
    """Mel matrix under its name in the file."""

    melW: Tensor

    def __init__(self) -> None:
        super().__init__()
        matrix = mel_matrix(
            sample_rate_hz=16_000,
            fft_samples=_WINDOW_SAMPLES,
            num_mels=64,
            lowest_hz=50,
            highest_hz=8000,
            scale="slaney",
            straight_in="hz",
            equal_area=True,
        )
        self.register_buffer("melW", matrix)


class Cnn14(nn.Module):
    """The network, front end included.

    Args:
        channels: Channels of the six blocks; 64 to 2048 in the published network.
        num_classes: Number of classes.
    """

    def __init__(self, channels: tuple[int, ...] = _CHANNELS, num_classes: int = 527) -> None:
        super().__init__()
        self.register_buffer("window_N", torch.hann_window(_WINDOW_SAMPLES), persistent=False)
        self.logmel_extractor = _Bands()
        self.bn0 = nn.BatchNorm2d(64)
        c_in = 1
        for number, c_out in enumerate(channels, start=1):
            pool = 2 if number < len(channels) else 1
            setattr(self, f"conv_block{number}", _Block(c_in, c_out, pool=pool))
            c_in = c_out
        self.num_blocks = len(channels)
        self.fc1 = nn.Linear(c_in, c_in)
        self.fc_audioset = nn.Linear(c_in, num_classes)

    def log_mel(self, waveform_BN: Tensor) -> Tensor:
        """Log-mel frames (B, F, 64) in decibels, one per 10 ms: the network's input."""
        power_BFK = power_spectrum(
            waveform_BN,
            window_N=self.get_buffer("window_N"),
            hop_samples=_HOP_SAMPLES,
            fft_samples=_WINDOW_SAMPLES,
        )
        return 10 * torch.log10((power_BFK @ self.logmel_extractor.melW).clamp(min=_LOWEST_POWER))

    def forward(self, waveform_BN: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, 527) and embeddings (B, 2048)."""
        bands_BMF1 = self.log_mel(waveform_BN).mT[..., None]
        x = self.bn0(bands_BMF1).permute(0, 3, 2, 1)  # B 1 F M
        for number in range(1, self.num_blocks + 1):
            x = self.get_submodule(f"conv_block{number}")(x)
        x_BDF = x.mean(dim=3)
        embedding_BD = F.relu(self.fc1(x_BDF.amax(dim=2) + x_BDF.mean(dim=2)))
        return self.fc_audioset(embedding_BD), embedding_BD


class Panns(PublishedNetwork[Cnn14]):
    """Cnn14 (80 M parameters, frozen). Build it with `Panns.load`."""

    release = PANNS
    inside = "model"
    sample_rate_hz = 16_000
    dim = 2048
    """Dimension of an embedding."""
    min_samples = 32 * _HOP_SAMPLES
    """Shorter clips vanish in five poolings."""

    @staticmethod
    def build() -> Cnn14:
        """Build the network with random weights."""
        return Cnn14()

    @staticmethod
    def adapt(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Remove the file's Fourier kernels.

        Raises:
            IntegrityError: They are not those of this front end.
        """
        for name, kernel in zip(_FOURIER, fourier_kernels(), strict=True):
            stored = tensors.pop(name, None)
            if stored is not None and not torch.allclose(stored[:, 0], kernel, atol=1e-5):
                raise IntegrityError(f"{PANNS.title}: {name} is not a Hann window of 512 samples")
        return tensors

    @torch.no_grad()
    def logits_and_embeddings(self, waveform_BN: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, 527) and embeddings (B, 2048) of mono clips at 16 kHz, float32 on the CPU.

        Raises:
            ShapeError: If the shape differs, or for clips under a third of a second.
        """
        if waveform_BN.ndim != 2 or waveform_BN.shape[1] < self.min_samples:
            raise ShapeError(
                f"waveforms must be (B, N) with N >= {self.min_samples} at 16 kHz, "
                f"got {tuple(waveform_BN.shape)}"
            )
        logits, embeddings = self._network(waveform_BN.to(self.device))
        return logits.cpu(), embeddings.cpu()


def fourier_kernels() -> tuple[Tensor, Tensor]:
    """Windowed cosines and negated sines (257, 512), as in the published file."""
    n = torch.arange(_WINDOW_SAMPLES, dtype=torch.float64)
    k = torch.arange(_WINDOW_SAMPLES // 2 + 1, dtype=torch.float64)
    angle_KN = 2 * torch.pi * ((k[:, None] * n) % _WINDOW_SAMPLES) / _WINDOW_SAMPLES
    window_N = torch.hann_window(_WINDOW_SAMPLES, dtype=torch.float64)
    return (angle_KN.cos() * window_N).float(), (-angle_KN.sin() * window_N).float()
