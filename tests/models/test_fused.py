"""Functions with gradients written by hand: the values and gradients of autograd's way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from omni2sound.models import fused
from omni2sound.models.dit import DiT, DiTConfig
from omni2sound.models.layers import HeadNorm, apply_rope, rope_table, split_heads
from omni2sound.recipes import recipe_named
from omni2sound.train.cost import blank_conditions

CPU = torch.device("cpu")
HEADS, HEAD_DIM, LENGTH = 3, 8, 5


def norm(seed: int) -> HeadNorm:
    made = HeadNorm(HEAD_DIM)
    torch.nn.init.normal_(made.weight, generator=torch.Generator().manual_seed(seed))
    return made


def gradients(parts: tuple[Tensor, ...], of: list[Tensor]) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(9)
    # One gradient is transposed in memory, as products of matrices leave it.
    given = [torch.randn(part.mT.shape, generator=g).mT for part in parts]
    return torch.autograd.grad(parts, of, given)


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("kinds", ["nnp", "np", "n", "p"])
def test_parts_of_a_projection_are_those_of_the_layers(kinds: str, turned: bool) -> None:
    g = torch.Generator().manual_seed(0)
    x_BLP = torch.randn(2, LENGTH, len(kinds) * HEADS * HEAD_DIM, generator=g, requires_grad=True)
    norms = [norm(i) if kind == "n" else None for i, kind in enumerate(kinds)]
    rope = rope_table(LENGTH, HEAD_DIM // 2, device=CPU) if turned else None
    expected = []
    for part_BLD, scale in zip(x_BLP.chunk(len(kinds), dim=-1), norms, strict=True):
        part = split_heads(part_BLD, HEADS)
        if scale is not None:
            part = scale(part) if rope is None else apply_rope(scale(part), rope)
        expected.append(part)
    weights = [None if scale is None else scale.weight for scale in norms]
    made = fused.split_and_normalise(x_BLP, HEADS, weights, rope=rope)
    assert all(part.is_contiguous() for part in made)
    of = [x_BLP, *(weight for weight in weights if weight is not None)]
    for a, b in zip(made, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    for a, b in zip(gradients(made, of), gradients(tuple(expected), of), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_a_gate_has_the_gradient_of_autograd() -> None:
    up = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0), requires_grad=True)
    value, gate = up.chunk(2, dim=-1)
    expected, made = value * torch.nn.functional.silu(gate), fused.gated(up)
    torch.testing.assert_close(made, expected)
    torch.testing.assert_close(gradients((made,), [up])[0], gradients((expected,), [up])[0])


@pytest.mark.parametrize("task", ["T2A", "VT2A"])
def test_a_step_in_bfloat16_has_the_gradients_of_the_plain_layers(
    task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    config = DiTConfig(
        latent_dim=16,
        width=64,
        depth=2,
        num_heads=2,
        conditioner=recipe_named("tiny").dit.conditioner,
    )
    model = DiT(config)
    with torch.no_grad():
        for parameter in model.parameters():  # outputs of branches are zero at first
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    x_BLC = torch.randn(2, 25, 16)
    conditions = blank_conditions(config, task, 1.0, text_tokens=8, device=CPU, batch_size=2)

    def gradient() -> Tensor:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            prediction = model(x_BLC, torch.tensor([0.2, 0.7]), conditions)
        (prediction.float() - x_BLC).square().mean().backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        return torch.cat([grad.flatten() for grad in grads])

    made = gradient()
    monkeypatch.setattr(fused, "applies_to", lambda x: False)
    expected = gradient()
    assert float(torch.linalg.vector_norm(made - expected)) < 0.02 * float(
        torch.linalg.vector_norm(expected)
    )
    assert not torch.equal(made, expected)  # the functions were used


def test_generation_and_float32_take_the_plain_layers() -> None:
    x = torch.zeros(2, requires_grad=True)
    assert not fused.applies_to(x)
    assert fused.applies_to(x.bfloat16())
    with torch.no_grad():
        assert not fused.applies_to(x.bfloat16())
