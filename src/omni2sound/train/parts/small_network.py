"""Training of a small network on the CPU: the loop that the vocoder and the band extension share.

In:   a network and its losses as a function of the step.
Out:  the network with its EMA weights; checkpoints and a log in the run's folder.

Initial weights come from the seed. The losses of step k must depend on the weights and k only, so
that a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from omni2sound.train.log import RunLog
from omni2sound.train.state import TrainState, latest_state, load_state, save_state
from omni2sound.train.step import update_ema

_log = logging.getLogger(__name__)

_LOG_EVERY = 50
_EMA_DECAY = 0.998
_WARM_UP_STEPS = 100


class NetworkRecipe(Protocol):
    """Fields of a recipe that the loop reads."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps; the learning rate falls to 2 % over them."""

    @property
    def lr(self) -> float:
        """Peak learning rate."""

    @property
    def seed(self) -> int:
        """Random seed of initial weights."""


def train_network(
    network: nn.Module,
    losses_of: Callable[[int], tuple[Tensor, Mapping[str, Tensor]]],
    *,
    recipe: NetworkRecipe,
    weight_decay: float,
    identity: Mapping[str, str],
    out: Path,
    max_minutes: float | None = None,
    resume: bool = False,
    save_every: int | None = None,
) -> int:
    """Train a network in place, from initial weights of the recipe's seed.

    Args:
        network: Network whose last layer is called `out`; reinitialised.
        losses_of: Function of the step (from 0): the loss to minimise, and scalars for the log,
            the same names at every step.
        recipe: Number of steps, learning rate and seed.
        weight_decay: Weight decay of AdamW.
        identity: JSON data that a resumed run must share.
        out: Folder of checkpoints and log; created if missing.
        max_minutes: Stop after this long, but after one step at the earliest.
        resume: Continue from the newest checkpoint in `out`, if there is one.
        save_every: Steps between checkpoints; None: only at the end.

    Returns:
        Number of steps done: `recipe.num_steps` unless time was up.

    Raises:
        ConfigError: If the checkpoint is of another run.
    """
    out.mkdir(parents=True, exist_ok=True)
    _reinitialise(network, recipe.seed)
    network.train()
    state = TrainState(
        model=network,
        ema={k: v.detach().clone() for k, v in network.state_dict().items()},
        optimizer=torch.optim.AdamW(
            network.parameters(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=weight_decay
        ),
    )
    found = latest_state(out) if resume else None
    step = 0 if found is None else int(load_state(found, state, identity=identity)["step"])
    log, started, logged = RunLog(out, first_step=step), time.monotonic(), []
    while step < recipe.num_steps:
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        loss, scalars = losses_of(step)
        _update(state, loss, step)
        step += 1
        logged.append([value.item() for value in scalars.values()])
        if step % _LOG_EVERY == 0:
            means = np.mean(logged, axis=0).round(4)
            line = {name: float(mean) for name, mean in zip(scalars, means, strict=True)}
            log.write(step, **line)
            shown = ", ".join(f"{name} {mean:.4f}" for name, mean in line.items())
            _log.info("step %d: %s", step, shown)
            logged.clear()
        if save_every is not None and step % save_every == 0:
            save_state(out, state, step=step, identity=identity)
        if max_minutes is not None and time.monotonic() - started >= 60 * max_minutes:
            break
    save_state(out, state, step=step, identity=identity)
    log.close()
    network.load_state_dict(state.ema)
    network.eval()
    return step


def learning_rate(recipe: NetworkRecipe, step: int) -> float:
    """Learning rate: linear warm-up, then a cosine down to 2 % of the peak."""
    warm = min(1.0, (step + 1) / _WARM_UP_STEPS)
    fall = 0.5 * (1 + math.cos(math.pi * step / recipe.num_steps))
    return recipe.lr * warm * (0.02 + 0.98 * fall)


def _update(state: TrainState, loss: Tensor, step: int) -> None:
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
    state.optimizer.step()
    update_ema(state.ema, state.model, min(_EMA_DECAY, (step + 1) / (step + 10)))


def _reinitialise(network: nn.Module, seed: int) -> None:
    """Initialise from a seed as PyTorch does, without moving the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in network.modules():
            if isinstance(module, nn.Linear | nn.Conv1d | nn.LayerNorm):
                module.reset_parameters()
    for parameter in network.get_submodule("out").parameters():
        nn.init.zeros_(parameter)
