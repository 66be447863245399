"""VGGish: an embedding of 128 numbers for each 0.96 s of sound.

In:   mono waveforms (B, N) at 16 kHz.
Out:  (B, E, 128) for E complete, adjacent examples of 0.96 s; no quantisation, no PCA.

Reimplemented with the names of the published file. What not to get wrong: the last ReLU of the
published network is omitted, as in audioldm_eval and av-benchmark; with it, distances between
embeddings are another metric.

Shape suffixes: B clips, N samples, F frames (96 of an example), M mel bands (64), E examples.
Source: Hershey et al. 2017, arXiv:1609.09430; harritaylor/torchvggish.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from omni2sound.encoders.metric.spectra import mel_matrix
from omni2sound.encoders.published import VGGISH, PublishedNetwork
from omni2sound.errors import ShapeError

_WINDOW_SAMPLES = 400
_HOP_SAMPLES = 160
_FFT_SAMPLES = 512
_EXAMPLE_FRAMES = 96
_LOG_OFFSET = 0.01
_CHANNELS = (64, 128, 256, 512)
_CONVOLUTIONS = (1, 1, 2, 2)


class VggishNetwork(nn.Module):
    """Convolutions and poolings over (96, 64) spectrograms, then three linear layers.

    Args:
        channels: Channels before each pooling; 64 to 512 in the published network.
        hidden: Width of the first two linear layers.
    """

    def __init__(self, channels: tuple[int, ...] = _CHANNELS, hidden: int = 4096) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        c_in = 1
        for c_out, count in zip(channels, _CONVOLUTIONS, strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(c_in, c_out, 3, padding=1), nn.ReLU()]
                c_in = c_out
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        halvings = 2 ** len(channels)
        places = (_EXAMPLE_FRAMES // halvings) * (64 // halvings)
        self.embeddings = nn.Sequential(
            nn.Linear(c_in * places, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 128),
        )

    def forward(self, log_mel_EFM: Tensor) -> Tensor:
        """Embeddings (E, 128)."""
        pictures = self.features(log_mel_EFM[:, None])
        out: Tensor = self.embeddings(pictures.permute(0, 2, 3, 1).flatten(1))
        return out


def vggish_log_mel(waveform_N: Tensor) -> Tensor:
    """Log-mel examples (E, 96, 64), the network's input; windows are not padded.

    Raises:
        ShapeError: Less than one example, 15 600 samples.
    """
    needed = _WINDOW_SAMPLES + (_EXAMPLE_FRAMES - 1) * _HOP_SAMPLES
    if waveform_N.ndim != 1 or len(waveform_N) < needed:
        raise ShapeError(
            f"waveform must be (N,) with N >= {needed} at 16 kHz, got {tuple(waveform_N.shape)}"
        )
    window_N = torch.hann_window(_WINDOW_SAMPLES, dtype=torch.float64, device=waveform_N.device)
    frames = waveform_N.double().unfold(0, _WINDOW_SAMPLES, _HOP_SAMPLES) * window_N
    magnitude_FK = torch.fft.rfft(frames, n=_FFT_SAMPLES).abs()
    bands_KM = mel_matrix(
        sample_rate_hz=16_000, fft_samples=_FFT_SAMPLES, num_mels=64, lowest_hz=125, highest_hz=7500
    ).to(magnitude_FK)
    log_FM: Tensor = (magnitude_FK @ bands_KM + _LOG_OFFSET).log().float()
    num_examples = len(log_FM) // _EXAMPLE_FRAMES
    return log_FM[: num_examples * _EXAMPLE_FRAMES].view(num_examples, _EXAMPLE_FRAMES, -1)


class Vggish(PublishedNetwork[VggishNetwork]):
    """VGGish (72 M parameters, frozen). Build it with `Vggish.load`."""

    release = VGGISH
    sample_rate_hz = 16_000

    @staticmethod
    def build() -> VggishNetwork:
        """Build the network with random weights."""
        return VggishNetwork()

    @torch.no_grad()
    def embed(self, waveform_BN: Tensor) -> Tensor:
        """Embeddings (B, E, 128) of mono clips of one length at 16 kHz, on the CPU.

        Raises:
            ShapeError: Not (B, N), or less than one example.
        """
        if waveform_BN.ndim != 2:
            raise ShapeError(f"waveforms must be (B, N) at 16 kHz, got {tuple(waveform_BN.shape)}")
        clips = [self._network(vggish_log_mel(x.to(self.device))) for x in waveform_BN]
        return torch.stack(clips).cpu()
