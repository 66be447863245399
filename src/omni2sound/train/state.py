"""All that a checkpoint holds: weights, averaged weights, optimizer moments, step, digests.

In:   a model, its optimizer, the averaged weights.
Out:  a folder ``step-00001200/`` with `state.safetensors` and `state.json`.

The JSON is written last and the folder renamed into place, so a folder that exists is
whole. Loading is strict: another recipe, other data or another set of tensors is refused
with the difference named. No pickles.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from omni2sound.errors import ConfigError
from omni2sound.train.optimizer import moment_names

__all__ = ["TrainState", "latest_state", "load_state", "save_state"]

KEEP_LAST = 2
"""Checkpoints kept in a run's folder."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrainState:
    """What a step leaves behind for the next.

    Attributes:
        model: The network in training.
        average: Exponential moving average of its weights, by name.
        optimizer: Over all of the model's parameters.
    """

    model: nn.Module
    average: dict[str, Tensor]
    optimizer: torch.optim.Optimizer


def _tensors(state: TrainState) -> dict[str, Tensor]:
    tensors = {f"model.{k}": v for k, v in state.model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in state.average.items()}
    for name, parameter in state.model.named_parameters():
        for key, value in state.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = value
    return tensors


def save_state(runs: Path, state: TrainState, *, step: int, identity: Mapping[str, Any]) -> Path:
    """Write the state after `step` steps; older checkpoints beyond `KEEP_LAST` go.

    Args:
        runs: The run's folder.
        state: What to write.
        step: Steps done.
        identity: Digests and settings that a resumed run must share.
    """
    target = runs / f"step-{step:08d}"
    staging = Path(tempfile.mkdtemp(dir=runs, prefix=".state."))
    try:
        tensors = {k: v.detach().contiguous() for k, v in _tensors(state).items()}
        save_file(tensors, staging / "state.safetensors")
        description = {"step": step, "identity": dict(identity)}
        (staging / "state.json").write_text(json.dumps(description, indent=2), encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    for old in sorted(runs.glob("step-*"))[:-KEEP_LAST]:
        shutil.rmtree(old)
    return target


def latest_state(runs: Path) -> Path | None:
    """The newest checkpoint of a run, if there is one."""
    found = sorted(runs.glob("step-*"))
    return found[-1] if found else None


def load_state(folder: Path, state: TrainState, *, identity: Mapping[str, Any]) -> int:
    """Restore everything exactly and return the number of steps done.

    Raises:
        ConfigError: If the checkpoint is of another run, or its tensors do not fit.
    """
    description = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    before = description["identity"]
    for key in sorted({*before, *identity}):
        if before.get(key) != identity.get(key):
            raise ConfigError(
                f"can't resume {folder.parent}: {key} was {before.get(key)}, "
                f"is {identity.get(key)}; use the same recipe and data, "
                "or a new --out folder with --init-from"
            )
    stored = load_file(folder / "state.safetensors")
    moments = moment_names(state.optimizer)
    parameters = dict(state.model.named_parameters())
    wanted = {f"model.{k}" for k in state.model.state_dict()} | {
        f"average.{k}" for k in state.average
    }
    # A run that stopped before its first update has no moments yet.
    fresh = not any(name.startswith("optimizer.") for name in stored)
    if not fresh:
        wanted |= {f"optimizer.{m}.{n}" for n, p in parameters.items() for m in moments[p]}
    if set(stored) != wanted:
        difference = sorted(set(stored) ^ wanted)
        raise ConfigError(
            f"checkpoint {folder} does not fit the model: {', '.join(difference[:5])}"
        )
    state.model.load_state_dict({k: stored[f"model.{k}"] for k in state.model.state_dict()})
    for name in state.average:
        state.average[name].copy_(stored[f"average.{name}"])
    for name, parameter in ({} if fresh else parameters).items():
        # AdamW wants its moments where the parameter is, and its step count on the CPU.
        state.optimizer.state[parameter] = {
            m: stored[f"optimizer.{m}.{name}"].to("cpu" if m == "step" else parameter.device)
            for m in moments[parameter]
        }
    return int(description["step"])
