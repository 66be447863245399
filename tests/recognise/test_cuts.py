"""Cuts, on drawn pictures: found where they are, and nothing else taken for one."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from omni2sound.recognise.cuts import cuts_of, find_cuts
from tests.media.clips import write_video

Frames = list[NDArray[np.uint8]]
PX = 96


def texture(seed: int, side: int = 3 * PX) -> NDArray[np.uint8]:
    """A picture with detail everywhere, three frames wide and high."""
    rng = np.random.default_rng(seed)
    noise = np.stack([ndimage.gaussian_filter(rng.normal(size=(side, side)), 6) for _ in range(3)])
    return np.moveaxis(127 + 110 * noise / np.abs(noise).max(), 0, -1).astype(np.uint8)


def shot(seed: int, count: int, *, shake: float = 0.0, pan: float = 0.0) -> Frames:
    """A camera over a texture: `shake` and `pan` in pixels, of and per frame."""
    rng = np.random.default_rng(seed)
    picture = texture(seed)
    at = np.cumsum(np.full((count, 2), (0.3 * pan, pan)), axis=0) + rng.normal(0, shake, (count, 2))
    corners = np.clip(np.round(PX // 2 + at), 0, 2 * PX).astype(int)
    return [picture[y : y + PX, x : x + PX].copy() for y, x in corners]


@given(
    lengths=st.lists(st.integers(9, 40), min_size=1, max_size=4),
    shake=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 50),
)
@settings(max_examples=12, deadline=None)
def test_cuts_are_found_where_they_are(lengths: list[int], shake: float, seed: int) -> None:
    frames: Frames = []
    for i, count in enumerate(lengths):
        frames += shot(1000 * seed + i, count, shake=shake)
    wanted = tuple(float(n) / 25 for n in np.cumsum(lengths)[:-1])
    assert cuts_of(frames, 25) == wanted


@given(seed=st.integers(0, 50), pan=st.floats(0, 6), shake=st.floats(0, 3))
@settings(max_examples=12, deadline=None)
def test_a_camera_that_moves_makes_no_cut(seed: int, pan: float, shake: float) -> None:
    assert cuts_of(shot(seed, 30, pan=pan, shake=shake), 25) == ()


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_repeated_pictures_hide_no_cut_and_make_none(repeats: int) -> None:
    """A film of 12 pictures a second shows each of them twice."""
    frames = [f for part in (shot(1, 20, pan=2), shot(2, 20, pan=2)) for f in part]
    shown = [f for f in frames for _ in range(repeats)]
    assert cuts_of(shown, 25) == (20 * repeats / 25,)


def test_a_flash_and_flicker_are_no_cuts() -> None:
    frames = shot(3, 40, shake=0.5)
    flash = [f if i not in (15, 16) else np.full_like(f, 250) for i, f in enumerate(frames)]
    assert cuts_of(flash, 25) == ()
    dim = [(f * (0.5 if i >= 20 else 1)).astype(np.uint8) for i, f in enumerate(frames)]
    assert cuts_of(dim, 25) == ()


def test_no_picture_one_picture_and_black_have_no_cut() -> None:
    black = np.zeros((PX, PX, 3), np.uint8)
    for frames in ([], [black], [black] * 30):
        assert cuts_of(frames, 25) == ()


@pytest.mark.parametrize("fps", [Fraction(24_000, 1001), Fraction(25), Fraction(60)])
def test_a_cut_is_at_the_time_of_the_films_own_picture(tmp_path: Path, fps: Fraction) -> None:
    first = round(1.3 * fps)
    frames = [*shot(5, first, shake=1), *shot(6, round(1.2 * fps), shake=1)]
    base = Fraction(1, 12_800)
    ticks = [round(i / fps / base) for i in range(len(frames))]
    path = write_video(
        tmp_path / "cut.mp4",
        ticks=ticks,
        time_base=base,
        size=(PX, PX),
        picture=lambda i: frames[i],
    )
    assert find_cuts(path, len(frames) / fps) == (float(ticks[first] * base),)
