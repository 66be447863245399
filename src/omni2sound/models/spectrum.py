"""Short-time spectra on a grid without edge frames, mel bands, and phase from magnitudes.

In:   waveforms (B, N) with N a multiple of the hop, or magnitudes (B, T, F), T = N / hop.
Out:  the other of the two; frame t is centred on sample hop * t + hop / 2.

What not to get wrong: frame t covers the samples [hop * t, hop * (t + 1)), so N samples have
exactly N / hop frames. The usual "centred" transform centres frame t on the *edge* hop * t, has
one frame more, and delays every latent by half a hop.

Magnitudes are divided by the window's sum: a full-scale sine has magnitude 1/2 whatever the
window. Mel bands are HTK triangles (2595 log10(1 + f / 700)) on magnitudes, each with
weights that sum to 1, so a band's value is a mean magnitude.

Shape suffixes: B batch, N samples, T frames, F frequency bins, M mel bands.
Source: Griffin & Lim 1984; momentum 0.99 from Perraudin, Balazs & Sondergaard 2013.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from omni2sound.stages import advance

TINY = 1e-8
MOMENTUM = 0.99


def mel_filterbank(
    num_bands: int, num_bins: int, *, sample_rate_hz: int, lowest_hz: float, highest_hz: float
) -> Tensor:
    """Triangles (M, F), equally spaced on the HTK mel scale, each row summing to 1.

    Each weight is the triangle's mean over a bin's width: sampled at bin centres, a triangle
    narrower than a bin could miss all of them.
    """
    # After transformers has loaded a model, linspace can ignore the device in force.
    mel_edges = torch.linspace(
        2595 * math.log10(1 + lowest_hz / 700),
        2595 * math.log10(1 + highest_hz / 700),
        num_bands + 2,
        dtype=torch.float64,
        device=torch.empty(0).device,
    )
    edges_hz = 700 * (10 ** (mel_edges / 2595) - 1)
    bin_hz = sample_rate_hz / 2 / (num_bins - 1)
    within_bin = (torch.arange(16, dtype=torch.float64) + 0.5) / 16 - 0.5
    points_hz = (torch.arange(num_bins, dtype=torch.float64)[:, None] + within_bin) * bin_hz
    left, peak, right = (edges_hz[i : num_bands + i, None, None] for i in range(3))
    rising, falling = (points_hz - left) / (peak - left), (right - points_hz) / (right - peak)
    weights_MF = torch.minimum(rising, falling).clamp_min(0).mean(dim=-1)
    return (weights_MF / weights_MF.sum(dim=1, keepdim=True)).float()


class Spectrum(nn.Module):
    """Short-time Fourier transform and its inverse for one window and hop (no parameters).

    Args:
        window_samples: Length of the Hann window and of the transform; even.
        hop_samples: Distance between frames; (window - hop) must be even.
    """

    window: Tensor

    def __init__(self, *, window_samples: int, hop_samples: int) -> None:
        super().__init__()
        self.window_samples = window_samples
        self.hop_samples = hop_samples
        # On the meta device, torch loads its compiler for this, which takes a second.
        device = "cpu" if torch.empty(0).is_meta else None
        window = torch.hann_window(window_samples, device=device)
        self.register_buffer("window", window, persistent=False)

    @property
    def num_bins(self) -> int:
        """Frequency bins F."""
        return self.window_samples // 2 + 1

    def transform(self, waveform_BN: Tensor) -> Tensor:
        """Complex spectrum (B, T, F) of waveforms whose length is a multiple of the hop."""
        margin = (self.window_samples - self.hop_samples) // 2
        padded = nn.functional.pad(waveform_BN, (margin, margin))
        frames = padded.unfold(-1, self.window_samples, self.hop_samples) * self.window
        spectrum_BTF: Tensor = torch.fft.rfft(frames)
        return spectrum_BTF / self.window.sum()

    def inverse(self, spectrum_BTF: Tensor) -> Tensor:
        """The waveform (B, T * hop) whose transform is nearest in the least-squares sense."""
        num_frames = spectrum_BTF.shape[1]
        frames = torch.fft.irfft(spectrum_BTF, n=self.window_samples) * self.window
        summed = self._overlap_add(frames) * self.window.sum()
        weight = self._overlap_add((self.window**2).expand(1, num_frames, -1))
        margin = (self.window_samples - self.hop_samples) // 2
        kept = slice(margin, margin + num_frames * self.hop_samples)
        return summed[:, kept] / weight[:, kept].clamp_min(TINY)

    def _overlap_add(self, frames_BTW: Tensor) -> Tensor:
        # The window is cut into hop-long pieces; piece k of frame t lands in slot t + k.
        batch, num_frames, window = frames_BTW.shape
        pieces = -(-window // self.hop_samples)
        frames = nn.functional.pad(frames_BTW, (0, pieces * self.hop_samples - window))
        frames = frames.reshape(batch, num_frames, pieces, self.hop_samples)
        slots = frames.new_zeros(batch, num_frames + pieces - 1, self.hop_samples)
        for k in range(pieces):
            slots[:, k : k + num_frames] += frames[:, :, k]
        return slots.reshape(batch, -1)


def phase_by_projection(
    magnitude_BTF: Tensor,
    spectrum: Spectrum,
    *,
    iterations: int,
    start_BTF: Tensor,
) -> Tensor:
    """Reconstruct waveforms (B, T * hop) from magnitudes by fast Griffin-Lim; deterministic.

    Each iteration projects on the spectra of real waveforms, with momentum, and restores the
    target magnitudes.

    Args:
        magnitude_BTF: Target magnitudes, >= 0.
        spectrum: Transform of the magnitudes.
        iterations: Number of projections; 0 uses the starting phase.
        start_BTF: Complex spectrum with the starting phase, such as that of noise (zero phase
            would put a pulse into every frame).
    """
    current = magnitude_BTF * _unit(start_BTF)
    before = torch.zeros_like(current)
    for number in range(iterations):
        advance(number, iterations)  # of a long sound, one takes a while
        projected = spectrum.transform(spectrum.inverse(current))
        current = magnitude_BTF * _unit(projected + MOMENTUM * (projected - before))
        before = projected
    return spectrum.inverse(current)


def _unit(spectrum_BTF: Tensor) -> Tensor:
    return spectrum_BTF / spectrum_BTF.abs().clamp_min(TINY)


def noise_spectrum(like_BTF: Tensor, spectrum: Spectrum) -> Tensor:
    """Complex spectrum (1, T, F) of fixed Gaussian noise, power 1 per bin.

    Equal for all items, so that decoding does not depend on the batch. Number of frames, dtype and
    device are those of `like_BTF`.
    """
    num_samples = like_BTF.shape[1] * spectrum.hop_samples
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, num_samples, generator=generator).to(like_BTF)
    power_one = float(spectrum.window.sum() / spectrum.window.norm())
    return spectrum.transform(noise) * power_one
