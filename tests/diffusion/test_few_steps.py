"""One to sixteen steps of each solver against the value that its formulas give for Gaussian data.

The ideal prediction is linear, so mean and variance of the result follow from one recursion in
float64, written here from the papers (Lu et al. 2022, arXiv:2211.01095, algorithms 1 and 2 and
their stochastic forms; Euler's rule for the flow).
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from omni2sound.diffusion.guidance import Predict
from omni2sound.diffusion.objective import Objective
from omni2sound.diffusion.samplers import sample
from omni2sound.diffusion.settings import SamplerConfig

MEAN, STD = 0.8, 0.5
SHAPE = (8, 50, 100)
"""Enough that chance moves a deviation by less than half a percent."""
STEPS = range(1, 17)


def ideal(objective: Objective) -> Predict:
    """The prediction that is right on average for data of this mean and deviation."""

    def predict(x_BLC: torch.Tensor, t_B: torch.Tensor) -> torch.Tensor:
        alpha, sigma = objective.alpha_sigma(t_B)
        gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
        data = MEAN + gain * (x_BLC - alpha * MEAN)
        if objective.kind == "rectified":
            return (x_BLC - data) / sigma
        return (alpha * x_BLC - data) / sigma

    return predict


def exponential(config: SamplerConfig, num_steps: int) -> list[float]:
    """Noise levels from sigma_max evenly in their logarithm to sigma_min, then none."""
    low, high = math.log(config.sigma_min), math.log(config.sigma_max)
    steps = max(num_steps - 1, 1)
    return [*(math.exp(high + (low - high) * i / steps) for i in range(num_steps)), 0.0]


def expected_of_dpm(levels: list[float], *, stochastic: bool) -> tuple[float, float]:
    """Mean and deviation after DPM-Solver++ 2M, first order in the first and the last step.

    The state is x = mean + sum of independent normal draws, one coefficient each: the first of
    the noise at the start, the others of the draws in each step.
    """
    num_steps = len(levels) - 1
    x = np.zeros(num_steps + 2)  # [mean, start, draw of step 0, ...]
    x[1] = math.sqrt(levels[0] ** 2 + 1)  # what `sample` starts from
    before: np.ndarray | None = None
    for i, (now, following) in enumerate(itertools.pairwise(levels)):
        gain = STD**2 / (STD**2 + now**2)
        data = gain * x
        data[0] += (1 - gain) * MEAN
        ratio = following / now  # exp(-h) of the paper
        estimate = data
        if before is not None and i < num_steps - 1:
            r = math.log(levels[i - 1] / now) / math.log(now / following)
            estimate = data + (data - before) / (2 * r)
        if stochastic:
            x = ratio**2 * x + (1 - ratio**2) * estimate
            x[2 + i] += following * math.sqrt(1 - ratio**2)
        else:
            x = ratio * x + (1 - ratio) * estimate
        before = data
    return float(x[0]), float(np.linalg.norm(x[1:]))


def expected_of_euler(num_steps: int) -> tuple[float, float]:
    mean, std = 0.0, 1.0
    for i in range(num_steps):
        t = 1 - i / num_steps
        gain = (1 - t) * STD**2 / ((1 - t) ** 2 * STD**2 + t**2)
        data = MEAN + gain * (mean - (1 - t) * MEAN)
        mean -= (mean - data) / t / num_steps
        std *= 1 - (1 - gain) / t / num_steps
    return mean, abs(std)


@pytest.mark.parametrize("kind", ["dpmpp-2m", "dpmpp-2m-sde", "euler"])
@pytest.mark.parametrize("num_steps", STEPS)
def test_few_steps_give_what_the_formulas_of_the_solver_give(kind: str, num_steps: int) -> None:
    config = SamplerConfig(kind=kind)  # type: ignore[arg-type]
    objective = Objective(kind="rectified" if kind == "euler" else "v")
    if kind == "euler":
        mean, std = expected_of_euler(num_steps)
    else:
        levels = exponential(config, num_steps)
        mean, std = expected_of_dpm(levels, stochastic=kind == "dpmpp-2m-sde")
    x = sample(
        ideal(objective),
        torch.randn(SHAPE, generator=torch.Generator().manual_seed(3)),
        objective=objective,
        config=config,
        num_steps=num_steps,
        generator=torch.Generator().manual_seed(4),
    )
    assert float(x.mean()) == pytest.approx(mean, rel=0.05)
    assert float(x.std()) == pytest.approx(std, rel=0.05, abs=0.002)


@pytest.mark.parametrize("kind", ["dpmpp-2m", "dpmpp-2m-sde", "euler"])
def test_one_step_is_the_mean_of_the_data_and_no_noise(kind: str) -> None:
    objective = Objective(kind="rectified" if kind == "euler" else "v")
    x = sample(
        ideal(objective),
        torch.randn(SHAPE, generator=torch.Generator().manual_seed(3)),
        objective=objective,
        config=SamplerConfig(kind=kind),  # type: ignore[arg-type]
        num_steps=1,
        generator=torch.Generator().manual_seed(4),
    )
    torch.testing.assert_close(x, torch.full_like(x, MEAN), rtol=0, atol=0.05)


@pytest.mark.parametrize("num_steps", [1, 2, 5])
def test_every_step_of_euler_moves_by_one_share_of_the_way(num_steps: int) -> None:
    seen: list[float] = []

    def predict(x_BLC: torch.Tensor, t_B: torch.Tensor) -> torch.Tensor:
        seen.append(float(t_B[0]))
        return torch.ones_like(x_BLC)

    x = sample(
        predict,
        torch.ones(1, 2, 3),
        objective=Objective(kind="rectified"),
        config=SamplerConfig(kind="euler"),
        num_steps=num_steps,
    )
    assert seen == pytest.approx([1 - i / num_steps for i in range(num_steps)], abs=1e-6)
    torch.testing.assert_close(x, torch.zeros(1, 2, 3), rtol=0, atol=1e-6)
