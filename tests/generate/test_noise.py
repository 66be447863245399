"""Random numbers without torch are torch's."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.generate.onnx.noise import Noise

SEEDS = st.integers(0, 2**63 - 1)
DRAWS = st.one_of(
    st.integers(1, 90), st.tuples(st.integers(1, 12), st.integers(1, 12)), st.just("below")
)


@given(SEEDS, st.lists(DRAWS, min_size=1, max_size=5), st.integers(1, 1000))
def test_every_draw_is_that_of_a_generator(seed: int, draws: list[object], limit: int) -> None:
    generator, noise = torch.Generator().manual_seed(seed), Noise(seed)
    for draw in draws:
        if draw == "below":
            expected = int(torch.randint(0, limit, (1,), generator=generator))
            assert noise.below(limit) == expected
            continue
        shape = draw if isinstance(draw, tuple) else (draw,)
        found = noise.normal(shape)
        assert found.dtype == np.float32
        np.testing.assert_allclose(
            found, torch.randn(shape, generator=generator).numpy(), rtol=0, atol=1e-6
        )


def test_a_minute_of_latents_differs_in_the_last_bits_alone() -> None:
    shape = (1500, 128)
    expected = torch.randn(shape, generator=torch.Generator().manual_seed(7)).numpy()
    found = Noise(7).normal(shape)
    assert np.abs(found - expected).max() < 1e-6
    assert (found == expected).mean() > 0.8
