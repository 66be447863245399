"""DPM-Solver++ 2M over arrays: the default solver of `samplers` without torch and diffusers.

In:   a prediction function ``predict(x_BLC, t_B)`` of a "v" model, standard normal noise.
Out:  latents x_BLC, those of diffusers' EDMDPMSolverMultistepScheduler up to rounding (tested).

With x = data + sigma noise, the network takes x / sqrt(sigma^2 + 1) at the time atan(sigma) 2 / pi.
Each step is exact for data that change linearly in log(sigma); the first and the last one are of
first order.

Sources: Lu et al. 2022, arXiv:2211.01095, algorithm 2; Karras et al. 2022, arXiv:2206.00364.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from omni2sound.diffusion.settings import OnStep, SamplerConfig
from omni2sound.errors import ConfigError
from omni2sound.stages import advance, enter

Array = NDArray[np.float32]
PredictArray = Callable[[Array, Array], Array]
"""(x_BLC, t_B) to the network's prediction, same shape as x_BLC."""


def noise_levels(config: SamplerConfig, num_steps: int) -> list[float]:
    """Levels of all steps, from sigma_max to 0."""
    if config.rho or num_steps == 1:  # a single level is sigma_max here
        rho = config.rho or 1.0
        first, last = (level ** (1 / rho) for level in (config.sigma_max, config.sigma_min))
        levels = np.linspace(first, last, num_steps) ** rho
    else:
        ends = math.log(config.sigma_max), math.log(config.sigma_min)
        levels = np.exp(np.linspace(*ends, num_steps))
    return [*(float(level) for level in levels.astype(np.float32)), 0.0]


def solve(
    predict: PredictArray,
    noise_BLC: Array,
    *,
    config: SamplerConfig,
    num_steps: int,
    start_BLC: Array | None = None,
    on_step: OnStep | None = None,
) -> Array:
    """Solve from noise to data, or from data with some noise; arguments as in `samplers.sample`.

    Raises:
        ConfigError: If the solver is another one, or num_steps < 1.
    """
    if num_steps < 1:
        raise ConfigError(f"num_steps must be at least 1, got {num_steps}")
    if config.kind != "dpmpp-2m":
        raise ConfigError(f"this engine has no sampler {config.kind!r}, only 'dpmpp-2m'")
    sigmas = noise_levels(config, num_steps)
    if start_BLC is None:
        x = noise_BLC * np.float32(math.hypot(sigmas[0], 1))
    else:
        x = start_BLC + noise_BLC * np.float32(sigmas[0])
    before: Array | None = None
    enter("generating")
    for i, (sigma, following) in enumerate(pairwise(sigmas)):
        angle = math.atan(sigma)
        seen = x * np.float32(math.cos(angle))
        t_B = np.full(len(x), angle * 2 / math.pi, np.float32)
        clean = np.float32(math.cos(angle)) * seen - np.float32(math.sin(angle)) * predict(
            seen, t_B
        )
        if config.bound:
            clean = clean.clip(-config.bound, config.bound)
        towards = clean
        if before is not None and following > 0:
            ratio = math.log(sigma / following) / math.log(sigmas[i - 1] / sigma)
            towards = clean + np.float32(ratio / 2) * (clean - before)
        share = np.float32(following / sigma)
        x, before = share * x + (1 - share) * towards, clean
        advance(i + 1, num_steps)
        if on_step is not None:
            on_step(i + 1, num_steps)
    return x
