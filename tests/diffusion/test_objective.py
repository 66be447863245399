"""Laws of the two paths."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.diffusion.objective import Objective, weighted_mse

KINDS = ["v", "rectified"]


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 4, 5, 3, generator=g, dtype=torch.float64))  # type: ignore[return-value]


@pytest.mark.parametrize("kind", KINDS)
@given(t=st.floats(0.01, 0.99))
def test_a_perfect_prediction_gives_the_data_back(kind: str, t: float) -> None:
    objective = Objective(kind=kind)  # type: ignore[arg-type]
    x0, noise = pair()
    t_B = torch.full((4,), t, dtype=torch.float64)
    x = objective.add_noise(x0, noise, t_B)
    torch.testing.assert_close(objective.to_data(x, objective.target(x0, noise, t_B), t_B), x0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_ends_of_the_path_are_data_and_noise(kind: str) -> None:
    objective = Objective(kind=kind)  # type: ignore[arg-type]
    x0, noise = pair()
    torch.testing.assert_close(
        objective.add_noise(x0, noise, torch.zeros(4, dtype=torch.float64)), x0
    )
    torch.testing.assert_close(
        objective.add_noise(x0, noise, torch.ones(4, dtype=torch.float64)), noise
    )


@pytest.mark.parametrize(("kind", "speed"), [("v", math.pi / 2), ("rectified", 1.0)])
def test_the_target_is_the_velocity_along_the_path(kind: str, speed: float) -> None:
    """The slope dx/dt by central differences; on the cosine path v is the velocity per radian."""
    objective = Objective(kind=kind)  # type: ignore[arg-type]
    x0, noise = pair()
    t = torch.full((4,), 0.37, dtype=torch.float64)
    h = 1e-6
    numeric = (objective.add_noise(x0, noise, t + h) - objective.add_noise(x0, noise, t - h)) / (
        2 * h
    )
    torch.testing.assert_close(
        numeric, speed * objective.target(x0, noise, t), rtol=1e-6, atol=1e-8
    )


def test_times_are_logit_normal() -> None:
    objective = Objective(time_mean=0.5, time_std=0.7)
    t = objective.draw_times(20_000, generator=torch.Generator().manual_seed(0))
    logit = torch.log(t / (1 - t))
    assert float(logit.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(logit.std()) == pytest.approx(0.7, abs=0.02)


LAWS = [
    (Objective(), lambda q: scipy.special.expit(scipy.stats.norm.ppf(q))),
    (
        Objective(time_mean=0.4, time_std=1.2),
        lambda q: scipy.special.expit(scipy.stats.norm.ppf(q, loc=0.4, scale=1.2)),
    ),
    (Objective(time_law="uniform"), lambda q: q),
]


@pytest.mark.parametrize(("objective", "quantile"), LAWS)
def test_times_follow_their_law(objective: Objective, quantile: Callable[..., np.ndarray]) -> None:
    """As many times fall between two quantiles of the law as between two others."""
    drawn = objective.draw_times(40_000, generator=torch.Generator().manual_seed(1)).double()
    edges = quantile(np.linspace(0, 1, 51)[1:-1])
    counts = np.bincount(np.searchsorted(edges, drawn.numpy()), minlength=50)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    others = [law for law, _ in LAWS if law != objective]
    for other in others:
        drawn = other.draw_times(40_000, generator=torch.Generator().manual_seed(1)).double()
        counts = np.bincount(np.searchsorted(edges, drawn.numpy()), minlength=50)
        assert scipy.stats.chisquare(counts).pvalue < 1e-12


def test_masked_frames_carry_no_loss() -> None:
    prediction, target = torch.zeros(1, 4, 2), torch.ones(1, 4, 2)
    target[:, 2:] = 100
    mask = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    assert weighted_mse(prediction, target, mask).item() == 1
    assert weighted_mse(prediction, target, None).item() > 1000
