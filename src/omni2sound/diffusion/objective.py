"""Diffusion paths from data to noise, and prediction targets.

In:   clean latents x0, noise, time t in [0, 1] (0 is data, 1 is noise).
Out:  noised latents, the training target, and x0 from a prediction.

Both paths are ``x_t = alpha(t) x0 + sigma(t) noise``:

    v          alpha = cos(pi t / 2), sigma = sin(pi t / 2); predicts alpha noise - sigma x0
    rectified  alpha = 1 - t,         sigma = t;             predicts noise - x0

On the cosine path v is dx/dphi at the angle phi = pi t / 2, so both predict a velocity.
Training draws the time of each sample from a law: `logit-normal` trains the middle most, and next
to nothing at the ends; `uniform` trains what samplers of many steps visit equally.

Sources: Salimans & Ho 2022, arXiv:2202.00512, appendix D; Liu et al. 2022,
arXiv:2209.03003. Logit-normal times: Esser et al. 2024, arXiv:2403.03206, section 3.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from omni2sound.config import added


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """A path and its prediction target."""

    kind: Literal["v", "rectified"] = "v"
    """Path: cosine with v-prediction, or rectified flow."""
    time_mean: float = 0.0
    """Mean of logit(t) when training draws noise times; of `logit-normal`, as is the next."""
    time_std: float = 1.0
    """Standard deviation of logit(t)."""
    time_law: Literal["logit-normal", "uniform"] = added("logit-normal")
    """Law of noise times in training."""

    def alpha_sigma(self, t_B: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of data and noise, shaped (B, 1, 1)."""
        t = t_B[:, None, None]
        if self.kind == "v":
            return torch.cos(t * (math.pi / 2)), torch.sin(t * (math.pi / 2))
        return 1 - t, t

    def add_noise(self, x0_BLC: Tensor, noise_BLC: Tensor, t_B: Tensor) -> Tensor:
        """Return x_t, the point on the path at time t."""
        alpha, sigma = self.alpha_sigma(t_B)
        return alpha * x0_BLC + sigma * noise_BLC

    def target(self, x0_BLC: Tensor, noise_BLC: Tensor, t_B: Tensor) -> Tensor:
        """Training target at x_t."""
        if self.kind == "rectified":
            return noise_BLC - x0_BLC
        alpha, sigma = self.alpha_sigma(t_B)
        return alpha * noise_BLC - sigma * x0_BLC

    def to_data(self, x_BLC: Tensor, prediction_BLC: Tensor, t_B: Tensor) -> Tensor:
        """Clean latents that follow from a prediction at x_t."""
        alpha, sigma = self.alpha_sigma(t_B)
        if self.kind == "rectified":
            return x_BLC - sigma * prediction_BLC
        return alpha * x_BLC - sigma * prediction_BLC

    def prediction_of(self, x_BLC: Tensor, x0_BLC: Tensor, t_B: Tensor) -> Tensor:
        """The prediction at x_t from which `to_data` gets these clean latents; t > 0."""
        alpha, sigma = self.alpha_sigma(t_B)
        if self.kind == "rectified":
            return (x_BLC - x0_BLC) / sigma
        return (alpha * x_BLC - x0_BLC) / sigma

    def draw_times(self, count: int, *, generator: torch.Generator) -> Tensor:
        """Draw noise times (B,) of the law, on the generator's device."""
        if self.time_law == "uniform":
            return torch.rand(count, generator=generator, device=generator.device)
        normal = torch.randn(count, generator=generator, device=generator.device)
        return torch.sigmoid(normal * self.time_std + self.time_mean)


def weighted_mse(
    prediction_BLC: Tensor,
    target_BLC: Tensor,
    weight_BL: Tensor | None,
    *,
    weight_C: Tensor | None = None,
) -> Tensor:
    """Weighted mean squared error of each sample (B,).

    Args:
        prediction_BLC: Prediction of the network.
        target_BLC: Training target.
        weight_BL: Weight of each frame, 0 after the end of a clip; None: equal weights.
        weight_C: Weight of each channel, of mean 1; None: equal weights.
    """
    error_BLC = (prediction_BLC.float() - target_BLC.float()).square()
    if weight_C is not None:
        error_BLC = error_BLC * weight_C
    error_BL = error_BLC.mean(dim=-1)
    if weight_BL is None:
        return error_BL.mean(dim=-1)
    weight_BL = weight_BL.to(error_BL.dtype)
    return (error_BL * weight_BL).sum(dim=-1) / weight_BL.sum(dim=-1).clamp_min(1e-6)
