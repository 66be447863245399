"""The frame-rate law: one motion at any frame rate has its impact at one time."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from omni2sound.encoders.sync import SyncEncoder, at_rate
from omni2sound.generate.model import load_model
from omni2sound.scenes.render.free import show_times
from omni2sound.timebase import even_rate

DURATION_S = 4.0
RATES = (24, 25, 30, 50, 60, 120)
STEP_S = 1 / 25


@pytest.fixture(scope="module")
def encoder() -> SyncEncoder:
    encoder = load_model("embedded").sync
    assert encoder is not None
    return encoder.eval()


def picture(time_s: float, hit_s: float) -> NDArray[np.uint8]:
    """A square that drifts evenly over a textured wall, and is pushed down at the hit."""
    rng = np.random.default_rng(0)
    wall = np.kron(rng.integers(90, 150, (12, 12, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    push = 14 * np.exp(-max(time_s - hit_s - 0.06, 0) / 0.3) if time_s >= hit_s else 0
    x, y = round(10 + 12 * time_s), round(30 + push)
    wall[y : y + 24, x : x + 24] = (230, 60, 40)
    return wall


def onset_answer(encoder: SyncEncoder, file_fps: int, hit_s: float) -> NDArray[np.float32]:
    """The onset answer, 25 a second, from pictures as a file of this rate shows them."""
    rate = even_rate(Fraction(file_fps), 25)
    times = (np.arange(int(np.ceil(DURATION_S * rate))) + 0.5) / float(rate)
    shown = show_times(times, file_fps)
    features = encoder.embed(np.stack([picture(float(t), hit_s) for t in shown]))
    answer: NDArray[np.float32] = at_rate(features, rate, 25, 100)[:, -2].numpy()
    return answer


@pytest.mark.parametrize("hit_s", [1.9, 2.5])
def test_an_impact_is_found_within_a_step_at_every_rate(encoder: SyncEncoder, hit_s: float) -> None:
    times = (np.arange(100) + 0.5) * STEP_S
    for fps in RATES:
        answer = onset_answer(encoder, fps, hit_s)
        assert answer.max() > 0.3
        assert abs(times[answer.argmax()] - hit_s) <= STEP_S + 1e-6
        assert answer[np.abs(times - hit_s) > 0.2].max() < 0.05


@pytest.mark.parametrize("fps", RATES)
def test_an_even_motion_has_no_impact_at_any_rate(encoder: SyncEncoder, fps: int) -> None:
    assert onset_answer(encoder, fps, hit_s=1e9).max() < 0.05


def test_evenly_taken_pictures_move_evenly() -> None:
    """At the files' rates near 25 no picture is taken twice, and none is left out unevenly."""
    for fps in RATES:
        rate = even_rate(Fraction(fps), 25)
        times = (np.arange(200) + 0.5) / float(rate)
        steps = torch.from_numpy(show_times(times, fps)).diff()
        torch.testing.assert_close(steps, torch.full_like(steps, 1 / float(rate)))
