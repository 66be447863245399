"""Free motion: at rest only where it hits, whatever the frame rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.render.free import draw_camera, draw_free_motion, draw_hits, show_times
from omni2sound.scenes.render.render import iter_frames, iter_frames_at

DURATION_S = 4.0
seeds = st.integers(0, 10_000)


@given(fps=st.sampled_from([12, 15, 24000 / 1001, 24, 25, 30, 50, 60, 120]))
def test_a_file_shows_no_moment_further_away_than_half_a_picture(fps: float) -> None:
    grid = (np.arange(100) + 0.5) / 25
    assert np.abs(show_times(grid, fps) - grid).max() <= 0.5 / fps + 1e-6


@given(seed=seeds)
@settings(deadline=None)
def test_hits_keep_apart_and_from_the_ends(seed: int) -> None:
    hits = draw_hits(np.random.default_rng(seed), DURATION_S, edge_s=0.15)
    assert hits == sorted(hits)
    assert hits[0] >= 0.15
    assert hits[-1] <= DURATION_S - 0.15
    assert min(np.diff(hits), default=1.0) >= 0.25 - 1e-3


@given(seed=seeds)
@settings(deadline=None)
def test_velocity_jumps_at_the_hits_and_nowhere_else(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hits = draw_hits(rng, DURATION_S, edge_s=0.15)
    motion = draw_free_motion(rng, hits, aspect=1.0, height=0.3)
    step_s = 0.001
    times = np.arange(0, DURATION_S, step_s)
    far = motion.distance(times)
    assert far.min() >= 0
    assert far.max() <= 1 + 1e-9
    assert motion.distance(np.array(hits)) == pytest.approx(0, abs=1e-3)
    bend = np.abs(np.diff(far, n=2)) / step_s
    near = np.min(np.abs(times[1:-1, None] - np.array(hits)), axis=1) < 2.5 * step_s
    assert all(bend[np.abs(times[1:-1] - hit) < 2.5 * step_s].max() > 0.5 for hit in hits)
    assert bend[~near].max() < 0.5


@given(seed=seeds)
@settings(deadline=None)
def test_without_hits_it_swings_smoothly(seed: int) -> None:
    motion = draw_free_motion(np.random.default_rng(seed), [], aspect=1.0, height=0.3)
    y = motion.poses(np.arange(0, DURATION_S, 0.001)).y
    assert np.abs(np.diff(y, n=2)).max() / 0.001 < 0.05


@given(seed=seeds)
@settings(deadline=None)
def test_the_camera_sees_no_edge_of_the_background(seed: int) -> None:
    """The background reaches a quarter of a picture height beyond the picture."""
    camera = draw_camera(np.random.default_rng(seed), DURATION_S)
    x, y, zoom = camera.view(np.arange(0, DURATION_S, 0.01), 1.0)
    assert (np.abs(x - 0.5) + 0.5 / zoom).max() < 0.5 + 0.25
    assert (np.abs(y - 0.5) + 0.5 / zoom).max() < 0.5 + 0.25


def test_frames_of_any_times_are_those_of_the_scene(assets: SceneAssets) -> None:
    scene = draw_scene(assets, split="train", seed=9, index=3, kind="main", duration_s=2.0)
    whole = list(iter_frames(scene, assets, fps=10, height_px=32, width_px=32))
    times = (np.arange(20) + 0.5) / 10
    for a, b in zip(
        whole, iter_frames_at(scene, assets, times, height_px=32, width_px=32), strict=True
    ):
        np.testing.assert_array_equal(a, b)
