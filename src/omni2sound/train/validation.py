"""Validation loss of the EMA weights, over fixed batches with fixed noise.

In:   a model in training, its EMA weights, held-out features.
Out:  the mean loss of each task, equal on every rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from omni2sound.data.batches.batch import Batch, build_batch, sampler_for
from omni2sound.data.batches.hard_samples import Difficulty
from omni2sound.data.batches.on_device import DeviceFeatures
from omni2sound.data.store.rows import FeatureStore
from omni2sound.models.autoencoder import AudioVAE
from omni2sound.train.parallel import World, forget_gathered, local
from omni2sound.train.recipe import Recipe
from omni2sound.train.state import TrainState
from omni2sound.train.step import batch_loss

VALIDATION_BATCHES = 4
"""Batches of each task in one validation."""


@torch.no_grad()
def validation_loss(
    model: nn.Module,
    store: FeatureStore,
    vae: AudioVAE,
    recipe: Recipe,
    *,
    device: torch.device | None = None,
    world: World | None = None,
    on_device: DeviceFeatures | None = None,
) -> dict[str, float]:
    """Mean loss of every trained task, over the same batches in every call.

    With `on_device`, the store's features on the device, batches are built there.
    """
    device, world = device or torch.device("cpu"), world or World()
    sampler = sampler_for(store, seed=recipe.seed + 1, batch_seconds=recipe.batch_seconds)
    means = {}
    was_training = model.training
    model.eval()
    build: Callable[..., Batch] = partial(build_batch, store, part=world.rank, num_parts=world.size)
    if on_device is not None:
        build = on_device.batch
    for task in recipe.tasks:
        total = torch.zeros(2, dtype=torch.float64)
        for step in range(VALIDATION_BATCHES):
            batch = build(
                sampler.draw(step, {task: 1.0}),
                seed=recipe.seed + 1,
                step=step,
                difficulty=Difficulty(augment=False),
                text_tokens=recipe.text_tokens,
            )
            loss_B, _ = batch_loss(model, batch, vae, recipe, device)
            total += torch.tensor([loss_B.sum().item(), len(loss_B)])
        loss, count = world.sum(total).tolist()
        means[task] = loss / count
    model.train(was_training)
    return means


@contextmanager
def ema_weights(state: TrainState) -> Iterator[None]:
    """Give the model its EMA weights while the block runs."""
    model = state.model.state_dict()
    current = {name: local(value).detach().clone() for name, value in model.items()}
    _put(state, state.ema)
    try:
        yield
    finally:
        _put(state, current)


@torch.no_grad()
def _put(state: TrainState, weights: Mapping[str, Tensor]) -> None:
    for name, value in state.model.state_dict().items():
        local(value).copy_(local(weights[name]))
    forget_gathered(state.model)
