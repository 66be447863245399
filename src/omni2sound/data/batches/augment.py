"""Waveform augmentation: random gain, a random equaliser, speed perturbation.

In:   a waveform (N,) and a random generator, or waveforms (B, N) on any device.
Out:  waveforms of the same length, peak at most 1.

The equaliser keeps the timing; speed perturbation does not, and is for clips without pictures.

Shape suffixes: B waveforms, N samples, F frequency bins, Q knots of the equaliser.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GAIN_DB = (-4.0, 2.0)
"""Range of the overall gain."""
EQ_DB = 4.0
"""Standard deviation of the equaliser at each of its knots."""
EQ_KNOTS = 5
"""Knots of the equaliser, evenly spaced in log frequency."""
_FINER = 4
"""Oversampling before `augment_waveforms` interpolates linearly."""


def augment_waveform(
    waveform_N: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Apply a random gain and a smooth random equaliser (zero phase: onsets stay in place)."""
    spectrum = np.fft.rfft(waveform_N)
    knots_db = draw_equaliser(1, rng)[0]
    gain_db = np.interp(_positions(len(spectrum)), np.linspace(0, 1, EQ_KNOTS), knots_db)
    made = np.fft.irfft(spectrum * 10 ** (gain_db / 20), n=len(waveform_N))
    return (made / max(1.0, float(np.abs(made).max()))).astype(np.float32)


def draw_equaliser(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the gain at each knot in dB, (count, EQ_KNOTS): an equaliser and an overall gain."""
    knots_db = rng.normal(0, EQ_DB / 2, (count, EQ_KNOTS))
    gain_db: NDArray[np.float64] = knots_db + rng.uniform(*GAIN_DB, (count, 1))
    return gain_db


def augment_waveforms(
    sound_BN: Tensor, *, knots_db_BQ: Tensor | None = None, rate_B: Tensor | None = None
) -> Tensor:
    """Equalise waveforms with given gains and play them faster or slower.

    Args:
        sound_BN: Waveforms.
        knots_db_BQ: Gain of each at the equaliser's knots in dB, or None for no change.
        rate_B: Speed factor of each; what is missing at the end is silence. None keeps the time.
            Bins that would leave the band are cut; samples of four times the rate are
            interpolated linearly, which costs half a dB at 8 kHz and leaves images of a tone at
            36 (7 kHz) to 60 dB (2 kHz) below it.
    """
    num_samples, device = sound_BN.shape[1], sound_BN.device
    spectrum_BF = torch.fft.rfft(sound_BN)
    num_bins = spectrum_BF.shape[1]
    if knots_db_BQ is not None:
        at_F = torch.from_numpy(_positions(num_bins)).to(sound_BN) * (EQ_KNOTS - 1)
        # Linear interpolation between knots: the weight of each is a hat function.
        knots_Q1 = torch.arange(EQ_KNOTS, device=device)[:, None]
        weight_QF = (1 - (at_F - knots_Q1).abs()).clamp_min(0)
        gain_db_BF = knots_db_BQ.to(sound_BN) @ weight_QF
        spectrum_BF = spectrum_BF * torch.exp(math.log(10) / 20 * gain_db_BF)
    if rate_B is None:
        made_BN: Tensor = torch.fft.irfft(spectrum_BF, n=num_samples)
    else:
        rate_B1 = rate_B.to(sound_BN)[:, None]
        spectrum_BF = spectrum_BF * (torch.arange(num_bins, device=device) * rate_B1 < num_bins - 1)
        fine_BM = _FINER * torch.fft.irfft(spectrum_BF, n=_FINER * num_samples)
        made_BN = _read_at(fine_BM, rate_B1, num_samples)
    return made_BN / made_BN.abs().amax(dim=1, keepdim=True).clamp_min(1.0)


def _read_at(fine_BM: Tensor, rate_B1: Tensor, count: int) -> Tensor:
    """Interpolate `fine` at `_FINER` rate n for n < `count`; zero after its end."""
    num_fine = fine_BM.shape[1]
    places_N = torch.arange(count, device=fine_BM.device)
    # The offset from integer positions is small enough for float32; the position is not.
    ahead_BN = _FINER * places_N * (rate_B1 - 1)
    whole_BN = ahead_BN.floor()
    fraction_BN = ahead_BN - whole_BN
    left_BN = _FINER * places_N + whole_BN.long()
    inside_BN = left_BN < num_fine - 1
    left_BN = left_BN.clamp(max=num_fine - 2)
    low_BN, high_BN = fine_BM.gather(1, left_BN), fine_BM.gather(1, left_BN + 1)
    return torch.where(inside_BN, low_BN + fraction_BN * (high_BN - low_BN), 0.0)


def _positions(num_bins: int) -> NDArray[np.float64]:
    """Place each bin between the first knot (0) and the last (1), by log frequency."""
    position: NDArray[np.float64] = np.log1p(np.arange(num_bins) / num_bins * 100) / np.log(101)
    return position
