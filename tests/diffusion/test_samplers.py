"""Samplers against a case with a closed form: Gaussian data."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from omni2sound.diffusion.guidance import guide, guide_separately
from omni2sound.diffusion.objective import Objective
from omni2sound.diffusion.samplers import sample
from omni2sound.diffusion.settings import SamplerConfig
from omni2sound.errors import ConfigError

STD = 0.5
"""Of the data; its ideal prediction has a closed form, whose ODE carries noise n to STD * n."""


def ideal_v(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    c, s = torch.cos(t * math.pi / 2)[:, None, None], torch.sin(t * math.pi / 2)[:, None, None]
    return x * s * c * (1 - STD**2) / (STD**2 * c * c + s * s)


def ideal_flow(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    t = t[:, None, None]
    return x * (t - (1 - t) * STD**2) / (t**2 + (1 - t) ** 2 * STD**2)


def noise(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 50, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("kind", "predict", "path"),
    [("dpmpp-2m", ideal_v, "v"), ("euler", ideal_flow, "rectified")],
)
def test_gaussian_data_is_sampled_exactly(kind: str, predict: object, path: str) -> None:
    n = noise()
    x = sample(
        predict,  # type: ignore[arg-type]
        n,
        objective=Objective(kind=path),  # type: ignore[arg-type]
        config=SamplerConfig(kind=kind),  # type: ignore[arg-type]
        num_steps=200,
    )
    torch.testing.assert_close(x, STD * n, rtol=0.02, atol=0.02)


def test_few_steps_of_the_second_order_solver_are_close() -> None:
    n = noise()
    x = sample(ideal_v, n, objective=Objective(), config=SamplerConfig(), num_steps=16)
    torch.testing.assert_close(x, STD * n, rtol=0.05, atol=0.05)


# torchsde warns of its own rounding: 100.00000763 is past the end of [0.03, 100].
@pytest.mark.filterwarnings("ignore:Should have t")
def test_the_sde_solver_reaches_the_distribution() -> None:
    x = sample(
        ideal_v,
        noise(16),
        objective=Objective(),
        config=SamplerConfig(kind="dpmpp-2m-sde"),
        num_steps=100,
        generator=torch.Generator().manual_seed(1),
    )
    assert float(x.std()) == pytest.approx(STD, rel=0.05)
    assert float(x.mean()) == pytest.approx(0, abs=0.03)


def test_the_network_sees_unit_variance_and_its_own_time() -> None:
    seen: list[tuple[float, float]] = []

    def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append((float(t[0]), float(x.std())))
        return torch.zeros_like(x)  # ideal for data of unit variance

    config = SamplerConfig()
    sample(predict, noise(), objective=Objective(), config=config, num_steps=64)
    times = [t for t, _ in seen]
    assert times == sorted(times, reverse=True)
    assert times[0] == pytest.approx(math.atan(config.sigma_max) * 2 / math.pi, abs=1e-6)
    assert all(std == pytest.approx(1, abs=0.05) for _, std in seen)


def test_scale_one_is_the_conditional_prediction() -> None:
    x, t = noise(2), torch.full((2,), 0.5)
    both = lambda x, t: torch.cat([x[:2] * 3, x[2:] * 5])  # noqa: E731
    torch.testing.assert_close(guide(both, 1.0)(x, t), x * 3)
    torch.testing.assert_close(guide(both, 0.0)(x, t), x * 5)
    torch.testing.assert_close(guide(both, 2.0)(x, t), x)


def test_video_and_text_are_guided_apart() -> None:
    x, t = torch.ones(2, 3, 4), torch.zeros(2)

    def three(x_BLC: torch.Tensor, t_B: torch.Tensor) -> torch.Tensor:
        assert len(x_BLC) == len(t_B) == 6
        return x_BLC * torch.tensor([11.0, 11, 3, 3, 1, 1])[:, None, None]

    # Null 1, the video adds 2 to it, the text 8 more.
    torch.testing.assert_close(guide_separately(three, 1.0, 1.0)(x, t), x * 11)
    torch.testing.assert_close(guide_separately(three, 2.0, 0.5)(x, t), x * (1 + 4 + 4))

    def two(x_BLC: torch.Tensor, t_B: torch.Tensor) -> torch.Tensor:
        return x_BLC * torch.tensor([11.0, 11, 1, 1])[:, None, None]

    same = guide_separately(three, 3.0, 3.0)(x, t)
    torch.testing.assert_close(same, guide(two, 3.0)(x, t))


def test_a_sampler_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="'euler' solves 'rectified'"):
        sample(
            ideal_v, noise(), objective=Objective(), config=SamplerConfig(kind="euler"), num_steps=2
        )
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        sample(ideal_v, noise(), objective=Objective(), config=SamplerConfig(), num_steps=0)


def test_a_bound_keeps_predicted_latents_within_it_and_changes_none_inside() -> None:
    plain = SamplerConfig()
    free = sample(ideal_v, noise(), objective=Objective(), config=plain, num_steps=6)
    widest = float(free.abs().max())
    for bound, same in ((10 * widest, True), (0.5 * widest, False)):
        kept = sample(
            ideal_v, noise(), objective=Objective(), config=replace(plain, bound=bound), num_steps=6
        )
        assert torch.allclose(kept, free, atol=1e-5) == same
        assert float(kept.abs().max()) <= bound * 1.01


def test_a_bound_is_refused_where_it_has_no_meaning() -> None:
    for kind, bound in (("dpmpp-2m", -1.0), ("euler", 3.0)):
        with pytest.raises(ConfigError, match="bound"):
            SamplerConfig(kind=kind, bound=bound)  # type: ignore[arg-type]
