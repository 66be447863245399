"""The solver over arrays gives what diffusers' gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from omni2sound.diffusion.array_solver import solve
from omni2sound.diffusion.objective import Objective
from omni2sound.diffusion.samplers import sample
from omni2sound.diffusion.settings import SamplerConfig
from omni2sound.errors import ConfigError
from omni2sound.stages import listening

MIX = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32) * np.float32(0.3)


def predict(x_BLC: Tensor, t_B: Tensor) -> Tensor:
    return torch.tanh(x_BLC @ torch.from_numpy(MIX) + t_B[:, None, None])


def predict_array(x_BLC: NDArray[np.float32], t_B: NDArray[np.float32]) -> NDArray[np.float32]:
    made: NDArray[np.float32] = np.tanh(x_BLC @ MIX + t_B[:, None, None])
    return made


@pytest.mark.parametrize("num_steps", [1, 2, 3, 8, 25, 100])
@pytest.mark.parametrize("settings", [{}, {"rho": 7.0}, {"bound": 1.0}, {"sigma_max": 1.0}])
@pytest.mark.parametrize("has_start", [False, True])
def test_it_is_the_default_solver(
    num_steps: int, settings: dict[str, Any], has_start: bool
) -> None:
    config = SamplerConfig(**settings)
    rng = np.random.default_rng(num_steps)
    noise, start = (rng.normal(size=(2, 9, 6)).astype(np.float32) for _ in range(2))
    expected = sample(
        predict,
        torch.from_numpy(noise),
        objective=Objective(),
        config=config,
        num_steps=num_steps,
        start_BLC=torch.from_numpy(start) if has_start else None,
    ).numpy()
    steps: list[tuple[int, int]] = []
    found = solve(
        predict_array,
        noise,
        config=config,
        num_steps=num_steps,
        start_BLC=start if has_start else None,
        on_step=lambda done, total: steps.append((done, total)),
    )
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    assert steps == [(i + 1, num_steps) for i in range(num_steps)]


def test_both_tell_the_same_stages() -> None:
    noise = np.zeros((1, 2, 6), np.float32)
    told: list[list[tuple[str | None, int, int]]] = [[], []]
    with listening(lambda *stage: told[0].append(stage)):
        solve(predict_array, noise, config=SamplerConfig(), num_steps=2)
    with listening(lambda *stage: told[1].append(stage)):
        sample(
            predict,
            torch.from_numpy(noise),
            objective=Objective(),
            config=SamplerConfig(),
            num_steps=2,
        )
    assert told[0] == told[1] == [("generating", 0, 0), (None, 1, 2), (None, 2, 2)]


def test_other_solvers_and_no_steps_are_refused() -> None:
    noise = np.zeros((1, 2, 6), np.float32)
    with pytest.raises(ConfigError, match="no sampler 'euler'"):
        solve(predict_array, noise, config=SamplerConfig(kind="euler"), num_steps=2)
    with pytest.raises(ConfigError, match="at least 1"):
        solve(predict_array, noise, config=SamplerConfig(), num_steps=0)
