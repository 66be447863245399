"""Small differences to a frozen transformer: they learn, it does not, and they come off again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.parity._table import randomise
from omni2sound.errors import ConfigError, UserError
from omni2sound.models.conditioning import ConditionerConfig, Conditions
from omni2sound.models.dit import DiT, DiTConfig
from omni2sound.models.lora import (
    ATTENTION,
    Adapter,
    LoraConfig,
    LoraLinear,
    adapter_of,
    add_lora,
    load_adapter,
    merge,
    save_adapter,
)

B, L = 10, 12
CONFIG = DiTConfig(
    latent_dim=6,
    width=32,
    depth=2,
    num_heads=2,
    conditioner=ConditionerConfig(text_dim=5, vision_dim=7, sync_dim=4),
)
LORA = LoraConfig(rank=3, scale=0.5)


def model() -> DiT:
    dit = DiT(CONFIG)
    randomise(dit, seed=1)
    return dit


def clips() -> tuple[Tensor, Tensor, Conditions, Tensor]:
    """Ten clips with texts, and what the model should say of them."""
    g = torch.Generator().manual_seed(0)
    conditions = Conditions(
        seconds_start_B=torch.zeros(B),
        seconds_total_B=torch.full((B,), 0.5),
        text_BTE=torch.randn(B, 4, 5, generator=g),
        text_mask_BT=torch.ones(B, 4, dtype=torch.bool),
    )
    x_BLC = torch.randn(B, L, 6, generator=g)
    return x_BLC, torch.rand(B, generator=g), conditions, torch.randn(B, L, 6, generator=g)


def trained(steps: int) -> tuple[DiT, list[float]]:
    dit = model()
    add_lora(dit, LORA)
    optimizer = torch.optim.AdamW(dit.parameters(), lr=3e-3, weight_decay=0.1)
    x, t, conditions, target = clips()
    losses = []
    for _ in range(steps):
        loss = (dit(x, t, conditions) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return dit, losses


def test_a_fresh_adapter_changes_nothing() -> None:
    plain, wrapped = model(), model()
    add_lora(wrapped, LORA)
    x, t, conditions, _ = clips()
    assert torch.equal(wrapped(x, t, conditions), plain(x, t, conditions))


def test_fifty_steps_on_ten_clips_lower_their_loss_and_leave_the_base_alone() -> None:
    dit, losses = trained(50)
    assert losses[-1] < 0.8 * losses[0]
    assert all(a > b for a, b in zip(losses[::10], losses[10::10], strict=False))
    base = model().state_dict()
    for name, tensor in dit.state_dict().items():
        if name.endswith((".down", ".up")) and name.replace(".base", "") not in base:
            continue
        assert torch.equal(tensor, base[name.replace(".base.", ".")]), name


def test_only_the_targets_are_wrapped() -> None:
    dit = model()
    add_lora(dit, replace(LORA, targets=("cross_attention.kv",)))
    wrapped = [name for name, module in dit.named_modules() if isinstance(module, LoraLinear)]
    assert wrapped == ["blocks.0.cross_attention.kv", "blocks.1.cross_attention.kv"]
    learned = [name for name, _ in dit.named_parameters()]
    assert learned == [f"{name}.{part}" for name in wrapped for part in ("down", "up")]


def adapter(tmp_path: Path) -> tuple[DiT, Adapter]:
    dit, _ = trained(5)
    save_adapter(tmp_path / "a", adapter_of(dit.state_dict(), LORA, model_sha256="m"))
    return dit, load_adapter(tmp_path / "a")


def test_a_saved_adapter_merged_into_the_base_computes_the_same(tmp_path: Path) -> None:
    dit, loaded = adapter(tmp_path)
    assert loaded.config == LORA
    assert {p.name for p in (tmp_path / "a").iterdir()} == {
        "adapter.json",
        "adapter.safetensors",
    }
    plain = model()
    merge(plain, loaded, model_sha256="m")
    x, t, conditions, _ = clips()
    expected = dit(x, t, conditions)
    torch.testing.assert_close(plain(x, t, conditions), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(model()(x, t, conditions), expected, rtol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_merged_comes_out_again_to_the_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    _, loaded = adapter(tmp_path)
    plain = model().to(dtype)
    before = {k: v.clone() for k, v in plain.state_dict().items()}
    unmerge = merge(plain, loaded, model_sha256="m")
    changed = {k for k, v in plain.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {f"blocks.{i}.{target}.weight" for i in (0, 1) for target in ATTENTION}
    unmerge()
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    _, loaded = adapter(tmp_path)
    with pytest.raises(ConfigError, match="was trained on model m"):
        merge(model(), loaded, model_sha256="other")
    other = DiT(replace(CONFIG, depth=3))
    with pytest.raises(ConfigError, match=r"does not fit the model: blocks\.2"):
        merge(other, loaded, model_sha256="m")


def test_unknown_targets_are_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"self_attention\.kqv are no linear layers"):
        add_lora(model(), replace(LORA, targets=("self_attention.kqv",)))


def test_what_is_no_adapter_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no adapter folder"):
        load_adapter(tmp_path)
    (tmp_path / "other").mkdir()
    _, loaded = adapter(tmp_path)
    with pytest.raises(UserError, match="is no adapter folder"):
        save_adapter(tmp_path / "other", loaded)


def test_an_adapter_replaces_an_adapter_whole(tmp_path: Path) -> None:
    _, loaded = adapter(tmp_path)
    changed = replace(loaded, tensors={k: v + 1 for k, v in loaded.tensors.items()})
    save_adapter(tmp_path / "a", changed)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert load_adapter(tmp_path / "a").sha256 == changed.sha256 != loaded.sha256
