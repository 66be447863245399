"""Perceptual hashes: near-duplicates have nearly the same bits.

In:   a prepared waveform at 16 kHz; a prepared picture.
Out:  256 bits each, as hex; distances in bits.

`hashes.json`, committed beside the catalogue, holds the hash of every item, so that "no near
duplicate on both sides of a split" can be tested without fetching 1.4 GB. The same samples give
the same bits on every machine: only sums, products and comparisons are used. Hashes of pictures
ignore colour, those of sounds ignore level. Unrelated items differ in about half of the bits.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ

NEAR_BITS = 20
"""Copies differ in fewer; unrelated items in 110 to 116 (median), one pair of 10 000 in 29."""

_BANDS = 17
_STEPS = 16
_STEP_SAMPLES = SAMPLE_RATE_HZ // 40
_SIDE = 16


def audio_hash(waveform_N: NDArray[np.float32]) -> str:
    """Hash a sound: signs of level differences between bands, 16 times 25 ms from the onset.

    Args:
        waveform_N: Mono at 16 kHz, beginning at its onset; short ones are padded with silence.

    Returns:
        64 hex digits.
    """
    padded = np.zeros(_STEPS * _STEP_SAMPLES)
    padded[: len(waveform_N)] = waveform_N[: len(padded)]
    frames = padded.reshape(_STEPS, _STEP_SAMPLES) * np.hanning(_STEP_SAMPLES)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    edges = np.unique(np.geomspace(2, power.shape[1] - 1, _BANDS + 1).round().astype(int))
    level = np.log(np.add.reduceat(power, edges[:-1], axis=1) + 1e-8)
    level = np.pad(level, ((0, 0), (0, max(0, _BANDS - level.shape[1]))))[:, :_BANDS]
    return _hex(np.diff(level, axis=1) > 0)


def picture_hash(rgba: NDArray[np.uint8]) -> str:
    """Hash a picture: signs of brightness differences along rows of a 17 x 16 thumbnail."""
    picture = Image.fromarray(rgba)
    grey = Image.new("RGBA", picture.size, (128, 128, 128, 255))
    grey.alpha_composite(picture)
    small = grey.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX)
    return _hex(np.diff(np.asarray(small, dtype=np.int16), axis=1) > 0)


def mirrored_hash(rgba: NDArray[np.uint8]) -> str:
    """Hash the mirror image."""
    return picture_hash(np.ascontiguousarray(rgba[:, ::-1]))


def distance_bits(first: str, second: str) -> int:
    """Count the bits, of 256, in which two hashes differ."""
    return (int(first, 16) ^ int(second, 16)).bit_count()


def distances_bits(first: Sequence[str], second: Sequence[str]) -> NDArray[np.int32]:
    """Compute `distance_bits` of every pair: (len(first), len(second))."""
    x, y = (
        np.stack([np.unpackbits(np.frombuffer(bytes.fromhex(d), np.uint8)) for d in digests])
        for digests in (first, second)
    )
    x, y = x.astype(np.int32), y.astype(np.int32)
    apart: NDArray[np.int32] = x @ (1 - y.T) + (1 - x) @ y.T
    return apart


def load_hashes() -> dict[str, list[str]]:
    """Read the hashes of the committed catalogue by id: [hash], for pictures [hash, mirrored]."""
    text = (resources.files(__package__) / "hashes.json").read_text(encoding="utf-8")
    hashes: dict[str, list[str]] = json.loads(text)
    return hashes


def _hex(bits: NDArray[np.bool_]) -> str:
    return np.packbits(bits.ravel()).tobytes().hex()
