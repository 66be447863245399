"""Filters as products of spectra are the sums that define them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.media.samples import convolve


@settings(max_examples=30, deadline=None)
@given(samples=st.integers(0, 3000), taps=st.integers(1, 300), channels=st.integers(1, 2))
def test_blocks_add_up_to_the_convolution(samples: int, taps: int, channels: int) -> None:
    rng = np.random.default_rng(samples)
    sound_CN, filter_CK = rng.normal(size=(channels, samples)), rng.normal(size=(2, taps))
    expected = [
        np.convolve(np.append(x, np.zeros(taps)), f)[:samples]
        for x, f in zip(np.broadcast_to(sound_CN, (2, samples)), filter_CK, strict=True)
    ]
    np.testing.assert_allclose(convolve(sound_CN, filter_CK), expected, atol=1e-9)
