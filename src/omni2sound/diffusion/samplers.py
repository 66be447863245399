"""Samplers from noise to latents, with the schedulers of diffusers.

In:   a prediction function ``predict(x_BLC, t_B)``, standard normal noise, an `Objective`.
Out:  latents x_BLC.

Guidance is part of the prediction function (`diffusion.guidance`). What not to get wrong:
diffusers' EDM schedulers hold x / alpha, the network takes x; `scale_model_input` converts, and
the network's time is ``atan(sigma) 2 / pi``.

    dpmpp-2m       DPM-Solver++ 2M, deterministic           v; the default, few steps
    dpmpp-2m-sde   the same, stochastic                     v; 100 steps, the full-size setting
    euler          rectified flow, first order              rectified

Sources: Lu et al. 2022, arXiv:2211.01095; Karras et al. 2022, arXiv:2206.00364.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from omni2sound.diffusion.guidance import Predict
from omni2sound.diffusion.objective import Objective
from omni2sound.diffusion.settings import OnStep, SamplerConfig
from omni2sound.errors import ConfigError
from omni2sound.stages import advance, enter


def sample(
    predict: Predict,
    noise_BLC: Tensor,
    *,
    objective: Objective,
    config: SamplerConfig,
    num_steps: int,
    generator: torch.Generator | list[torch.Generator] | None = None,
    start_BLC: Tensor | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Solve from noise to data, or from data with some noise.

    Args:
        predict: (Guided) prediction of the network.
        noise_BLC: Standard normal noise, whose device and dtype are used throughout.
        objective: Prediction target of the network; must fit the solver.
        config: Solver and noise levels.
        num_steps: Number of network calls, >= 1.
        generator: Generator of the SDE solver, or one per sample; unused by the others.
        start_BLC: Clean latents to which noise of the level `config.sigma_max` is added; only for
            "v" models. None: noise alone.
        on_step: Progress callback.

    Raises:
        ConfigError: If the solver does not fit the objective, or num_steps < 1.
    """
    if num_steps < 1:
        raise ConfigError(f"num_steps must be at least 1, got {num_steps}")
    wanted = "rectified" if config.kind == "euler" else "v"
    if objective.kind != wanted:
        raise ConfigError(
            f"sampler {config.kind!r} solves {wanted!r} models, "
            f"this model predicts {objective.kind!r}"
        )
    scheduler = _scheduler(config, num_steps)
    if config.kind == "euler":
        # Its own levels end at 0.001, so that the last step would do nothing.
        sigmas = [1 - i / num_steps for i in range(num_steps)]
        scheduler.set_timesteps(sigmas=sigmas, device=noise_BLC.device)
    else:
        scheduler.set_timesteps(num_steps, device=noise_BLC.device)
    x = noise_BLC
    if wanted == "v" and start_BLC is None:
        x = x * math.sqrt(float(scheduler.sigmas[0]) ** 2 + 1)
    elif start_BLC is not None:
        x = start_BLC + x * float(scheduler.sigmas[0])
    enter("generating")
    for i, timestep in enumerate(scheduler.timesteps):
        sigma = float(scheduler.sigmas[i])
        if wanted == "v":
            seen, time = scheduler.scale_model_input(x, timestep), math.atan(sigma) * 2 / math.pi
        else:
            seen, time = x, sigma
        t_B = torch.full((x.shape[0],), time, device=x.device)
        prediction = predict(seen, t_B).to(x.dtype)
        if config.bound:
            prediction = _bounded(prediction, seen, math.atan(sigma), config.bound)
        arguments: dict[str, Any] = {"return_dict": False}
        if config.kind == "dpmpp-2m-sde":
            arguments["generator"] = generator
        with warnings.catch_warnings():
            # The highest noise level, rounded, may exceed the solver's limit by 1e-7.
            warnings.filterwarnings("ignore", message="Should have t[ab]", category=UserWarning)
            x = scheduler.step(prediction, timestep, x, **arguments)[0]
        advance(i + 1, num_steps)
        if on_step is not None:
            on_step(i + 1, num_steps)
    return x


def _bounded(v_BLC: Tensor, noisy_BLC: Tensor, angle: float, bound: float) -> Tensor:
    """The prediction whose latents are those of `v_BLC`, kept within the bound.

    On the cosine path noisy = cos(angle) latents + sin(angle) noise, v = cos(angle) noise -
    sin(angle) latents.
    """
    latents_BLC = math.cos(angle) * noisy_BLC - math.sin(angle) * v_BLC
    kept_BLC = latents_BLC.clamp(-bound, bound)
    return v_BLC + (latents_BLC - kept_BLC) / math.sin(angle)


def _scheduler(config: SamplerConfig, num_steps: int) -> Any:
    """Build the solver; diffusers is imported here because it takes seconds."""
    levels = {"sigma_min": config.sigma_min, "sigma_max": config.sigma_max, "sigma_data": 1.0}
    spacing = {"sigma_schedule": "exponential"}
    if config.rho or num_steps == 1:
        # A single level is sigma_max in this spacing, but sigma_min in the other one.
        spacing = {"sigma_schedule": "karras", "rho": config.rho or 1.0}  # type: ignore[dict-item]
    if config.kind == "euler":
        from diffusers import FlowMatchEulerDiscreteScheduler

        return FlowMatchEulerDiscreteScheduler()
    if config.kind == "dpmpp-2m":
        from diffusers import EDMDPMSolverMultistepScheduler

        return EDMDPMSolverMultistepScheduler(
            prediction_type="v_prediction", algorithm_type="dpmsolver++", **levels, **spacing
        )
    from diffusers import CosineDPMSolverMultistepScheduler

    return CosineDPMSolverMultistepScheduler(prediction_type="v_prediction", **levels, **spacing)
