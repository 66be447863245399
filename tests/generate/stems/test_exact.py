"""Sums of stems: exact in any order."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.generate.stems.exact import STEP, add, on_grid
from omni2sound.media.samples import Audio


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 8),
    level=st.floats(1e-6, 100.0),
)
@settings(max_examples=50, deadline=None)
def test_sounds_on_the_grid_add_up_exactly_in_any_order(
    seed: int, count: int, level: float
) -> None:
    rng = np.random.default_rng(seed)
    given_ECN = rng.uniform(-level, level, (count, 2, 50)).astype(np.float32)
    sounds = [Audio(samples_CN=x, sample_rate_hz=8000) for x in given_ECN]
    rounded = on_grid(sounds)
    exact_CN = sum(x.samples_CN.astype(np.float64) for x in rounded)
    for order in (rng.permutation(count), rng.permutation(count)):
        total = add([rounded[k] for k in order]).samples_CN
        assert total.dtype == np.float32
        np.testing.assert_array_equal(total.astype(np.float64), exact_CN)
    for x, old in zip(rounded, given_ECN, strict=True):
        assert np.abs(x.samples_CN - old).max() <= max(STEP, count * level * 2**-22)
