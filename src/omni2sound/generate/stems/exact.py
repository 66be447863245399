"""Sums without rounding: samples on one grid, so that stems add up to their mix to the last bit.

In:   sounds of one rate, length and number of channels.
Out:  the same, rounded to multiples of 2^-22, and their sum.

A float32 holds 24 bits, so multiples of 2^-22 up to 4 add up exactly, in any order and by any
program; for louder ones the grid is coarser. What is rounded lies 138 dB below full scale.

Shape suffixes: C channels, N samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from omni2sound.errors import ShapeError
from omni2sound.media.samples import Audio, Sound

if TYPE_CHECKING:
    from omni2sound.generate.request import GenerationResult
    from omni2sound.generate.stems.sources import Stem

STEP = 2.0**-22
_BITS = 24


def step_for(peaks: Sequence[float]) -> float:
    """Step of the grid on which sounds add up exactly, by their largest samples."""
    largest = STEP * 2**_BITS
    # Rounding may raise each by half a step.
    total = sum(peaks) + len(peaks) * STEP
    doublings = max(0, math.ceil(math.log2(max(total, STEP) / largest)))
    return STEP * float(2**doublings)


def on_grid(sounds: Sequence[Audio]) -> list[Audio]:
    """Round sounds to the grid on which they add up exactly."""
    step = step_for([peak_of(sound) for sound in sounds])
    return [replace(s, samples_CN=rounded(s.samples_CN, step)) for s in sounds]


def rounded(samples_CN: NDArray[np.float32], step: float) -> NDArray[np.float32]:
    """Round samples to multiples of a step."""
    on_grid_CN: NDArray[np.float32] = (np.rint(samples_CN / step) * step).astype(np.float32)
    return on_grid_CN


def peak_of(sound: Sound) -> float:
    """Return the largest sample of a sound."""
    return max((float(np.abs(x_CN).max(initial=0.0)) for x_CN in sound.read()), default=0.0)


def add(sounds: Sequence[Audio]) -> Audio:
    """Sum of sounds of one rate and shape.

    Raises:
        ShapeError: They differ in rate or shape.
    """
    first = sounds[0]
    kinds = {(sound.sample_rate_hz, sound.samples_CN.shape) for sound in sounds}
    if len(kinds) > 1:
        raise ShapeError(f"expected sounds of one rate and shape, got {sorted(kinds)}")
    total_CN = first.samples_CN.copy()
    for sound in sounds[1:]:
        total_CN += sound.samples_CN
    return replace(first, samples_CN=total_CN)


def with_stems(result: GenerationResult, stems: Sequence[Stem]) -> GenerationResult:
    """Give a result stems on one grid, and their sum as its sound."""
    sounds = on_grid([stem.audio for stem in stems])
    rounded = [replace(s, audio=sound) for s, sound in zip(stems, sounds, strict=True)]
    return replace(result, audio=add(sounds), stems=tuple(rounded))
