"""Random numbers of a seed, equal to those of torch's generator on a CPU.

In:   a seed.
Out:  standard normal and whole numbers, in the order in which they are drawn.

What not to get wrong: torch fills 16 or more normal numbers in blocks of 16 (eight cosines, then
the eight sines of the same pairs), and draws the last 16 again where the number is no multiple of
16. Fewer come one by one, in double precision, and the second of a pair waits for the next draw.
Logarithm, cosine and sine are the platform's here and polynomials there: the last bit may differ.

Source: ATen's DistributionTemplates.h (normal_fill) and DistributionsHelper.h; Matsumoto &
Nishimura 1998 (MT19937).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_BLOCK = 16
_HALF = _BLOCK // 2


class Noise:
    """Random numbers of one seed."""

    def __init__(self, seed: int) -> None:
        self._source = np.random.MT19937()
        self._source._legacy_seeding(seed & 0xFFFFFFFF)  # torch keeps 32 bits, too
        self._waiting: float | None = None

    def normal(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Draw standard normal numbers, as ``torch.randn(shape)``."""
        count = math.prod(shape)
        if count < _BLOCK:
            made = np.array([self._one() for _ in range(count)], np.float32)
            return made.reshape(shape)
        uniform_N = self._uniform(count)
        rest = count % _BLOCK
        if rest:
            again = self._uniform(_BLOCK)
            whole = np.concatenate([uniform_N[: count - rest], again])
            made_N = _box_muller(whole)
            # The last block overlaps the one before it.
            made = np.empty(count, np.float32)
            made[: count - rest] = made_N[: count - rest]
            made[count - _BLOCK :] = made_N[count - rest :]
            return made.reshape(shape)
        return _box_muller(uniform_N).reshape(shape)

    def below(self, limit: int) -> int:
        """Draw a whole number from 0 to below the limit, as ``torch.randint``."""
        return int(self._source.random_raw()) % limit

    def _uniform(self, count: int) -> NDArray[np.float32]:
        bits = self._source.random_raw(count).astype(np.uint32) & np.uint32((1 << 24) - 1)
        return bits.astype(np.float32) * np.float32(2**-24)

    def _one(self) -> float:
        if self._waiting is not None:
            value, self._waiting = self._waiting, None
            return value
        first, second = (self._double() for _ in range(2))
        radius = math.sqrt(-2 * math.log1p(-second))
        self._waiting = radius * math.sin(2 * math.pi * first)
        return radius * math.cos(2 * math.pi * first)

    def _double(self) -> float:
        high, low = (int(x) for x in self._source.random_raw(2))
        return float(((high << 32) | low) & ((1 << 53) - 1)) * 2.0**-53


def _box_muller(uniform_N: NDArray[np.float32]) -> NDArray[np.float32]:
    pairs = uniform_N.reshape(-1, 2, _HALF)
    radius = np.sqrt(np.float32(-2) * np.log(np.float32(1) - pairs[:, 0]))
    angle = np.float32(2 * math.pi) * pairs[:, 1]
    made: NDArray[np.float32] = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return made.reshape(-1)
