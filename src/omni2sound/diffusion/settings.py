"""Settings of solvers; no torch, so that every engine reads them.

In:   `sampler` of a model's card.
Out:  `SamplerConfig`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from omni2sound.config import added
from omni2sound.errors import ConfigError

SAMPLERS = ("dpmpp-2m", "dpmpp-2m-sde", "euler")
OnStep = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerConfig:
    """Solver and noise levels (sigma = noise to data ratio)."""

    kind: Literal["dpmpp-2m", "dpmpp-2m-sde", "euler"] = "dpmpp-2m"
    """Solver, as listed in `samplers`."""
    sigma_min: float = 0.03
    """Lowest noise level before the last step to zero; unused by `euler`, like `sigma_max`."""
    sigma_max: float = 100.0
    """Highest noise level; 100 is t = 0.994 on the cosine path."""
    rho: float = 0.0
    """Karras spacing exponent; 0 spaces sigma evenly in its logarithm (polyexponential, rho 1)."""
    bound: float = added(0.0)
    """Predicted latents are kept within +- this, in standard deviations of their channels; 0: not.
    Guidance drives them beyond what the decoder has seen, which is heard as overdrive. For `v`."""

    def __post_init__(self) -> None:
        if self.bound < 0 or (self.bound and self.kind == "euler"):
            raise ConfigError(
                f"bound must be 0 or more, and 0 for sampler 'euler', got {self.bound:g}"
            )
        if not 0 < self.sigma_min < self.sigma_max:
            raise ConfigError(
                f"need 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}"
            )
