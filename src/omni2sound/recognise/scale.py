"""Resizing of single pictures, bicubic with antialiasing, without torch.

In:   a uint8 RGB picture (H, W, 3).
Out:  the same in another size, as `encoders.pictures.resize` gives it on a CPU but for one value in
      ten million, which differs by 1.

Each axis is a product with a sparse matrix of whole numbers: weights are rounded to 15 bits, and
what lies between the two axes to a byte, as torch does it. Sums stay below 2^24, so that float32
holds them exactly.

Shape suffixes: H W pixels, K colours.
Source: Pillow's resampling, of which torch's is a port.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_A = -0.5
"""Of the bicubic kernel, where it is widened against aliasing."""
_TAPS = 4
_MOST_BITS = 22
_LARGEST_WEIGHT = 1 << 15


def resize_picture(picture_HWK: NDArray[np.uint8], size_px: tuple[int, int]) -> NDArray[np.uint8]:
    """Squash a picture to (height, width)."""
    height, width = picture_HWK.shape[:2]
    if width != size_px[1]:
        turned_WHK = picture_HWK.swapaxes(0, 1)
        picture_HWK = _along(turned_WHK, size_px[1]).swapaxes(0, 1)
    if height != size_px[0]:
        picture_HWK = _along(picture_HWK, size_px[0])
    return np.ascontiguousarray(picture_HWK)


def _along(picture_IWK: NDArray[np.uint8], num_out: int) -> NDArray[np.uint8]:
    """Resize the first axis."""
    weights_OI, bits = _weights(len(picture_IWK), num_out)
    flat = picture_IWK.astype(np.float32).reshape(len(picture_IWK), -1)
    whole = ((weights_OI @ flat).astype(np.int32) + (1 << (bits - 1))) >> bits
    return whole.clip(0, 255).astype(np.uint8).reshape(num_out, *picture_IWK.shape[1:])


@lru_cache(maxsize=64)
def _weights(num_in: int, num_out: int) -> tuple[NDArray[np.float32], int]:
    """Matrix (out, in) of whole weights, and the number of bits after the point."""
    scale = num_in / num_out
    wide = max(scale, 1.0)
    support = _TAPS / 2 * wide
    centre_O1 = scale * (np.arange(num_out)[:, None] + 0.5)
    first_O1 = np.trunc(centre_O1 - support + 0.5)
    last_O1 = np.trunc(centre_O1 + support + 0.5)
    index_I = np.arange(num_in)
    reached_OI = (index_I >= first_O1) & (index_I < last_O1)
    taps_OI = _bicubic((index_I - centre_O1 + 0.5) / wide) * reached_OI
    weights_OI = taps_OI / taps_OI.sum(axis=1, keepdims=True)
    bits = 0
    while bits < _MOST_BITS and int(0.5 + weights_OI.max() * 2 ** (bits + 1)) < _LARGEST_WEIGHT:
        bits += 1
    scaled_OI = weights_OI * 2**bits
    return np.trunc(scaled_OI + np.copysign(0.5, scaled_OI)).astype(np.float32), bits


def _bicubic(x: NDArray[np.floating]) -> NDArray[np.floating]:
    x = np.abs(x)
    near = ((_A + 2) * x - (_A + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * _A
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
