"""What moves beside the camera, on drawn pictures."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from scipy import ndimage

from omni2sound.recognise.motion import compare, parts_of

HEIGHT, WIDTH = 192, 288


def texture(seed: int) -> NDArray[np.uint8]:
    """A picture with detail everywhere, larger than a frame by 48 pixels on each side."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(HEIGHT + 96, WIDTH + 96)), 4)
    grey = (127 + 90 * noise / np.abs(noise).max()).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def frame(picture: NDArray[np.uint8], dy: int = 0, dx: int = 0) -> NDArray[np.uint8]:
    return picture[48 + dy : 48 + dy + HEIGHT, 48 + dx : 48 + dx + WIDTH].copy()


@given(seed=st.integers(0, 99), dy=st.integers(-10, 10), dx=st.integers(-10, 10))
@settings(max_examples=40)
def test_a_camera_that_turns_moves_nothing(seed: int, dy: int, dx: int) -> None:
    """Shifts by whole cells of the coarse map (3 pixels) are undone exactly."""
    picture = texture(seed)
    motion = compare(frame(picture), frame(picture, 3 * dy, 3 * dx))
    assert not motion.is_cut
    assert motion.changed_hw.mean() < 0.02
    assert motion.boxes(4) == []


@given(seed=st.integers(0, 99), y=st.integers(20, 110), x=st.integers(20, 200))
@settings(max_examples=40)
def test_what_moves_is_boxed_also_under_a_moving_camera(seed: int, y: int, x: int) -> None:
    picture = texture(seed)
    first, second = frame(picture), frame(picture, 6, -9)
    first[y : y + 48, x : x + 48] = 255
    second[y + 12 : y + 60, x + 12 : x + 60] = 255
    motion = compare(first, second)
    (left, top, right, bottom), *_ = motion.boxes(1)
    assert left * WIDTH <= x + 30 <= right * WIDTH
    assert top * HEIGHT <= y + 30 <= bottom * HEIGHT
    assert motion.share(left, top, right, bottom) > 0.06
    assert (right - left) * (bottom - top) < 0.5


def test_at_a_cut_nothing_is_said_to_move() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    motion = compare(first, second)
    assert motion.is_cut
    assert motion.boxes(4) == []
    assert motion.share(0, 0, 1, 1) == 0


def test_stillness_is_still() -> None:
    picture = frame(texture(1))
    motion = compare(picture, picture)
    assert not motion.changed_hw.any()
    assert not motion.is_cut


def test_pictures_of_one_pixel_or_one_line_can_be_compared() -> None:
    for height, width in ((1, 1), (1, 300), (300, 1), (2, 2), (3, 640)):
        flat = np.full((height, width, 3), 40, np.uint8)
        assert not compare(flat, flat).changed_hw.any()


@settings(max_examples=40, deadline=None)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_connected_parts_are_those_of_scipy(map_hw: np.ndarray) -> None:
    found = [
        (rows.start, rows.stop, columns.start, columns.stop)
        for rows, columns in ndimage.find_objects(ndimage.label(map_hw)[0])
    ]
    assert parts_of(map_hw) == found
