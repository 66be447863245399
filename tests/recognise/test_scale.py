"""Resizing without torch is torch's, but for a rounding now and then."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.encoders.pictures import resize
from omni2sound.recognise.scale import resize_picture

SIDES = st.integers(1, 90)


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 9))
def test_it_resizes_as_torch_does(
    height: int, width: int, new_height: int, new_width: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = resize_picture(picture, (new_height, new_width))
    expected = resize(torch.from_numpy(picture)[None], (new_height, new_width))[0].numpy()
    assert found.shape == expected.shape
    assert found.dtype == np.uint8
    wrong = np.abs(found.astype(int) - expected)
    assert wrong.max() <= 1
    assert (wrong > 0).sum() <= 3


@given(SIDES, SIDES, st.integers(0, 255))
def test_a_plain_picture_stays_plain(height: int, width: int, level: int) -> None:
    picture = np.full((height, width, 3), level, np.uint8)
    assert (resize_picture(picture, (33, 44)) == level).all()
