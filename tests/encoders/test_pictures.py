"""Resizing and cropping in closed form; `make parity` compares with torchvision."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.encoders.pictures import crop_centre, resize, resize_short_side

SIDES = st.integers(8, 60)


def flat(height: int, width: int, level: int = 77) -> torch.Tensor:
    return torch.full((2, height, width, 3), level, dtype=torch.uint8)


@given(SIDES, SIDES, st.integers(4, 40), st.integers(0, 255))
def test_a_flat_picture_stays_flat(height: int, width: int, side: int, level: int) -> None:
    resized = resize(flat(height, width, level), (side, side + 3))
    assert resized.shape == (2, side, side + 3, 3)
    assert resized.dtype == torch.uint8
    assert (resized == level).all()


@given(SIDES, SIDES, st.integers(4, 40))
def test_the_short_side_fits_and_the_middle_can_be_cut(height: int, width: int, side: int) -> None:
    resized = resize_short_side(flat(height, width), side)
    assert min(resized.shape[1:3]) == side
    longer = Fraction(side * max(height, width), min(height, width))
    assert longer - 1 <= max(resized.shape[1:3]) <= longer
    assert crop_centre(resized, side).shape == (2, side, side, 3)


def test_a_picture_of_the_right_size_is_left_alone() -> None:
    frames = torch.randint(0, 256, (1, 12, 12, 3), dtype=torch.uint8)
    assert resize_short_side(frames, 12) is frames


@pytest.mark.parametrize(("width", "left"), [(10, 3), (9, 2), (11, 4), (4, 0)])
def test_the_middle_is_where_it_should_be(width: int, left: int) -> None:
    frames = torch.arange(width, dtype=torch.uint8)[None, None, :, None].expand(1, 4, width, 3)
    assert int(crop_centre(frames, 4)[0, 0, 0, 0]) == left
