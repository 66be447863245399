"""Muon and AdamW as one optimizer: nothing forgotten, nothing twice, the same steps as apart."""

from __future__ import annotations

import copy

import pytest
import torch

from omni2sound.models.dit import DiT, DiTConfig
from omni2sound.train.optimizer import MuonWithAdamW, make_optimizer, moment_names


@pytest.fixture
def model() -> DiT:
    torch.manual_seed(0)
    return DiT(DiTConfig(latent_dim=8, width=16, depth=2, num_heads=2))


def with_gradients(model: DiT, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=g)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_every_parameter_is_in_one_group(model: DiT, kind: str) -> None:
    optimizer = make_optimizer(model, kind=kind, weight_decay=0.1)  # type: ignore[arg-type]
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_only_matrices_decay(model: DiT, kind: str) -> None:
    optimizer = make_optimizer(model, kind=kind, weight_decay=0.1)  # type: ignore[arg-type]
    decayed = [p for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]]
    assert decayed
    assert all(p.ndim >= 2 for p in decayed)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_what_is_remembered_is_what_is_named(model: DiT, kind: str) -> None:
    optimizer = make_optimizer(model, kind=kind, weight_decay=0.1)  # type: ignore[arg-type]
    with_gradients(model, 1)
    optimizer.step()
    named = moment_names(optimizer)
    assert {p: tuple(sorted(s)) for p, s in optimizer.state.items()} == named


def test_one_optimizer_steps_as_its_two_parts_do_apart(model: DiT) -> None:
    other = copy.deepcopy(model)
    matrices = [p for b in other.blocks for p in b.parameters() if p.ndim == 2]
    rest = [p for p in other.parameters() if not any(p is m for m in matrices)]
    apart = (
        torch.optim.Muon(matrices, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=0.01, betas=(0.9, 0.99), weight_decay=0.0, foreach=True),
    )
    together = make_optimizer(model, kind="muon", weight_decay=0.1)
    for group in together.param_groups:
        group["lr"] = 0.01
    for seed in range(3):
        with_gradients(model, seed)
        with_gradients(other, seed)
        together.step()
        for part in apart:
            part.step()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, other.get_parameter(name)), name


def test_a_learning_rate_of_zero_moves_nothing(model: DiT) -> None:
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = make_optimizer(model, kind="muon", weight_decay=0.1)
    assert isinstance(optimizer, MuonWithAdamW)
    with_gradients(model, 0)
    optimizer.step()
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
