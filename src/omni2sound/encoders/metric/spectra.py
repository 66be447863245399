"""Front ends of metric networks: power spectra, mel bands, resampling.

In:   waveforms (..., N).
Out:  spectra (..., F, K) of K = window / 2 + 1 frequencies, matrices (K, M) that sum them into
      M mel bands, and waveforms at another rate.

Each network was trained on one front end, and quietly gets worse on any other. They differ in the
mel scale (HTK, or Slaney, which is linear below 1 kHz), in whether triangles are straight over
hertz or over mel, and in their height. What not to get wrong: bands are designed in float64 and
then rounded once, as in the originals.

Shape suffixes: N samples, F frames, K frequencies, M mel bands.
Sources: librosa.filters.mel (Slaney), torchaudio.compliance.kaldi.get_mel_banks,
torchaudio.functional.resample with its default window.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Scale = Literal["htk", "slaney"]

_SLANEY_HZ_PER_MEL = 200 / 3
_SLANEY_BREAK_HZ = 1000.0
_SLANEY_BREAK_MEL = _SLANEY_BREAK_HZ / _SLANEY_HZ_PER_MEL
_SLANEY_LOG_STEP = math.log(6.4) / 27

_RESAMPLE_ZEROS = 6
_RESAMPLE_ROLLOFF = 0.99


def power_spectrum(
    waveform_N: Tensor, *, window_N: Tensor, hop_samples: int, fft_samples: int
) -> Tensor:
    """Squared magnitudes (..., F, K), frame f centred on sample f * hop.

    Ends are padded by reflection, so N must be more than half of `fft_samples`, the length of the
    transform; a window shorter than the transform is centred in it.
    """
    spectrum = torch.stft(
        waveform_N,
        fft_samples,
        hop_samples,
        len(window_N),
        window_N,
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    return (spectrum.real.square() + spectrum.imag.square()).mT


def mel_matrix(
    *,
    sample_rate_hz: int,
    fft_samples: int,
    num_mels: int,
    lowest_hz: float,
    highest_hz: float,
    scale: Scale = "htk",
    straight_in: Literal["hz", "mel"] = "mel",
    equal_area: bool = False,
) -> Tensor:
    """Weights (K, M) that sum K frequencies into M bands.

    Args:
        sample_rate_hz: Rate of the waveform.
        fft_samples: Length of the transform; K is half of it, plus one.
        num_mels: M.
        lowest_hz: Lower end of the first triangle.
        highest_hz: Upper end of the last one.
        scale: Mel scale along which the triangles' corners are equidistant.
        straight_in: Axis over which the triangles' sides are straight.
        equal_area: Whether triangles have area one over hertz, instead of height one.
    """
    frequencies_hz = np.linspace(0, sample_rate_hz / 2, fft_samples // 2 + 1)
    corners_mel = np.linspace(
        _to_mel(np.array(lowest_hz), scale), _to_mel(np.array(highest_hz), scale), num_mels + 2
    )
    corners_hz = _to_hz(corners_mel, scale)
    if straight_in == "mel":
        places, corners = _to_mel(frequencies_hz, scale), corners_mel
    else:
        places, corners = frequencies_hz, corners_hz
    lower, centre, upper = corners[:-2], corners[1:-1], corners[2:]
    rising = (places[:, None] - lower) / (centre - lower)
    falling = (upper - places[:, None]) / (upper - centre)
    weights = np.maximum(0, np.minimum(rising, falling))
    if equal_area:
        weights *= 2 / (corners_hz[2:] - corners_hz[:-2])
    return torch.from_numpy(weights.astype(np.float32))


def _to_mel(frequency_hz: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    if scale == "htk":
        return np.asarray(1127.0 * np.log1p(frequency_hz / 700.0))
    above = np.maximum(frequency_hz, _SLANEY_BREAK_HZ) / _SLANEY_BREAK_HZ
    return np.where(
        frequency_hz < _SLANEY_BREAK_HZ,
        frequency_hz / _SLANEY_HZ_PER_MEL,
        _SLANEY_BREAK_MEL + np.log(above) / _SLANEY_LOG_STEP,
    )


def _to_hz(mel: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    if scale == "htk":
        return np.asarray(700.0 * np.expm1(mel / 1127.0))
    above = np.exp(_SLANEY_LOG_STEP * np.maximum(0, mel - _SLANEY_BREAK_MEL))
    return np.where(mel < _SLANEY_BREAK_MEL, mel * _SLANEY_HZ_PER_MEL, _SLANEY_BREAK_HZ * above)


def resample(waveform_N: Tensor, from_hz: int, to_hz: int) -> Tensor:
    """Resample (..., N) with torchaudio's default filter, to ceil(N * to / from) samples.

    Scores that are compared with published ones need this filter; media readers use a steeper
    one (soxr).
    """
    if from_hz == to_hz:
        return waveform_N
    common = math.gcd(from_hz, to_hz)
    step, phases = from_hz // common, to_hz // common
    cutoff = min(step, phases) * _RESAMPLE_ROLLOFF  # in units where the old rate is `step`
    width = math.ceil(_RESAMPLE_ZEROS * step / cutoff)
    # Row p: the filter for outputs p, p + phases, ..., each `step` inputs after the last.
    # torchaudio rounds these to float32, and so do we: it is audible to a comparison only.
    shifts = (-np.arange(phases)[:, None] / phases).astype(np.float32)
    times = (np.arange(-width, width + step)[None] / step + shifts) * cutoff
    times = times.clip(-_RESAMPLE_ZEROS, _RESAMPLE_ZEROS)
    window = np.cos(times * math.pi / _RESAMPLE_ZEROS / 2) ** 2
    kernels = torch.from_numpy(np.sinc(times) * window * (cutoff / step)).to(waveform_N)
    num_samples = waveform_N.shape[-1]
    flat = F.pad(waveform_N.reshape(-1, 1, num_samples), (width, width + step))
    outputs = F.conv1d(flat, kernels[:, None], stride=step).mT.flatten(1)
    wanted = -(-num_samples * phases // step)
    return outputs[:, :wanted].reshape(*waveform_N.shape[:-1], wanted)
