"""What a recipe costs: counted numbers against closed forms."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.robustness.click_corpus import click_recipe
from omni2sound.data.batches.batch import build_batch, sampler_for
from omni2sound.data.batches.hard_samples import Difficulty
from omni2sound.data.store.rows import FeatureStore
from omni2sound.errors import ConfigError
from omni2sound.models.autoencoder import MelPcaAutoencoder
from omni2sound.models.dit import DiT
from omni2sound.recipes.paper import paper
from omni2sound.timebase import TimeBase
from omni2sound.train.cost import (
    UTILISATION,
    blank_conditions,
    device_named,
    hours_of,
    recipe_cost,
    task_flops,
)
from omni2sound.train.parallel import World, prepare_model
from omni2sound.train.step import batch_loss


def test_the_paper_has_its_size_and_runs_forward_and_backward_on_meta() -> None:
    recipe = paper()
    with torch.device("meta"):
        model = DiT(recipe.dit)
    assert 1.1e9 < sum(p.numel() for p in model.parameters()) < 1.2e9
    conditions = blank_conditions(
        recipe.dit, "VT2A", 10.0, text_tokens=recipe.text_tokens, device="meta", batch_size=2
    )
    prediction = model(
        torch.zeros(2, 250, 64, device="meta"), torch.zeros(2, device="meta"), conditions
    )
    assert prediction.shape == (2, 250, 64)
    prediction.square().mean().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())


def test_hours_are_operations_by_the_assumed_share_of_the_peak() -> None:
    device = device_named("h100")
    assert device is not None
    hours = hours_of(3600 * device.peak_flops, device, num_devices=4)
    assert hours == pytest.approx(1 / (4 * UTILISATION))


def test_operations_are_those_of_the_matrix_products() -> None:
    """A block has 20 width^2 weights; 16 meet every frame, 4 every frame or context token."""
    recipe = click_recipe()
    frames, tokens = 20 + 1, 7 + 32 + 2
    deeper = replace(recipe, dit=replace(recipe.dit, depth=recipe.dit.depth + 1))
    block = task_flops(deeper, "VT2A", 0.8) - task_flops(recipe, "VT2A", 0.8)
    width = recipe.dit.width
    weights = 2 * width**2 * (18 * frames + 2 * tokens)
    attention = 4 * width * frames * (frames + tokens)
    assert block == pytest.approx(3 * (weights + attention), rel=0.05)


def test_memory_is_shared_by_devices_and_saved_by_checkpointing() -> None:
    recipe = replace(click_recipe(), batch_seconds=6.4)
    one, two = (recipe_cost(recipe, clip_s=0.8, num_devices=n) for n in (1, 2))
    assert two.memory_bytes["optimizer"] * 2 == one.memory_bytes["optimizer"]
    assert two.memory_bytes["activations"] * 2 == one.memory_bytes["activations"]
    assert two.flops_by_task == one.flops_by_task
    assert one.memory_bytes["weights"] == 4 * one.parameters
    kept = recipe_cost(replace(recipe, activation_checkpointing=True), clip_s=0.8, num_devices=1)
    assert kept.memory_bytes["activations"] < one.memory_bytes["activations"]
    parts = recipe_cost(replace(recipe, accumulate=4), clip_s=0.8, num_devices=2)
    assert parts.memory_bytes["activations"] * 8 == one.memory_bytes["activations"]
    assert parts.memory_bytes["gradients"] == 2 * two.memory_bytes["gradients"]
    copies = recipe_cost(replace(recipe, replicas=2), clip_s=0.8, num_devices=2)
    assert copies.memory_bytes["weights"] == one.memory_bytes["weights"]
    # Of three blocks or more, two at a time are gathered.
    assert two.memory_bytes["gathered weights"] == 4 * one.parameters
    with pytest.raises(ConfigError, match="replicas=3 must divide the number of devices, 2"):
        recipe_cost(replace(recipe, replicas=3), clip_s=0.8, num_devices=2)


def test_clips_that_devices_cannot_share_are_refused() -> None:
    with pytest.raises(ConfigError, match="which 3 devices times"):
        recipe_cost(click_recipe(), clip_s=0.8, num_devices=3)


@pytest.mark.parametrize(
    ("name", "tflops"),
    [("NVIDIA H100 80GB HBM3", 989), ("A100-SXM4-40GB", 312), ("NVIDIA GeForce RTX 4090", 165)],
)
def test_devices_are_known_by_their_drivers_names(name: str, tflops: float) -> None:
    device = device_named(name)
    assert device is not None
    assert device.peak_flops == tflops * 1e12
    assert device_named("abacus") is None


@pytest.mark.parametrize("checkpointing", [False, True])
def test_executed_operations_are_those_of_a_real_step(
    checkpointing: bool, store: FeatureStore, vae: MelPcaAutoencoder
) -> None:
    recipe = replace(click_recipe(), activation_checkpointing=checkpointing, text_tokens=16)
    model = DiT(recipe.dit)
    cpu = torch.device("cpu")
    prepare_model(model, World(), cpu, activation_checkpointing=checkpointing)
    counted = recipe_cost(recipe, clip_s=0.8, num_devices=1)
    sampler = sampler_for(store, seed=0, batch_seconds=recipe.batch_seconds)
    for task in recipe.tasks:
        batch = build_batch(
            store,
            sampler.draw(0, {task: 1.0}),
            seed=0,
            step=0,
            difficulty=Difficulty(),
            text_tokens=recipe.text_tokens,
        )
        frames = TimeBase().num_latent_frames(0.8)
        known = (torch.zeros(frames, recipe.dit.latent_dim),) * len(batch.clip_ids)
        # The counter does not know the fused attention of CPUs.
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            loss_B, _ = batch_loss(model, replace(batch, latents=known), vae, recipe, cpu)
            loss_B.mean().backward()  # type: ignore[no-untyped-call]
        assert counter.get_total_flops() == pytest.approx(counted.executed_by_task[task], rel=0.05)
    share = counted.executed_by_task["VT2A"] / counted.flops_by_task["VT2A"]
    # A third more, less what lies outside of the blocks.
    assert 1.1 < share < 4 / 3 if checkpointing else share == 1
