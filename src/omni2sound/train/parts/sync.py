"""Training of the embedded sync encoder on rendered scenes with exact ground truth.

In:   batches of frames with onsets and levels of the on-screen sound (`sync_batches`).
Out:  a `SyncEncoder` that predicts both from the pictures alone.

Two losses: binary cross-entropy of "a sound starts in this frame" (soft targets: a triangle of
two frames on either side of the onset), and the squared error of the on-screen level. Silent
moving distractors in the scenes make the task non-trivial.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from omni2sound.config import from_json, to_json
from omni2sound.encoders.sync import SyncBatch, SyncConfig, SyncEncoder
from omni2sound.errors import UserError
from omni2sound.scenes.export.sync_batches import sync_batches
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.licences import merge_attribution
from omni2sound.train.log import RunLog
from omni2sound.train.parts.material import training_attribution
from omni2sound.weights import (
    ModelCard,
    load_card,
    load_part,
    load_tensors,
    part_sha256,
    resolve_model,
    save_model,
)

_log = logging.getLogger(__name__)

LOG_EVERY = 25
_POSITIVE_WEIGHT = 6.0
"""Onsets are rare: about one frame in thirty."""
_NUM_STEPS = 6000
_LR = 2e-3
_CONTINUED_LR = 1e-3
_SAVE_EVERY_S = 180

Batch = TypeVar("Batch")


def train_sync_model(
    corpus: Path,
    out: Path,
    *,
    parts: str | None = None,
    init_from: str | None = None,
    max_minutes: float = 20.0,
) -> Path:
    """Train the sync encoder on rendered scenes.

    Args:
        corpus: Folder of the scenes' material.
        out: Folder of the log and of `model/`.
        parts: Model whose autoencoder is written beside the encoder; None: "embedded".
        init_from: Model whose sync encoder is trained further, on other scenes than before.
        max_minutes: Time limit; the learning rate falls to zero within it.

    Returns:
        The model folder, with autoencoder and sync encoder.

    Raises:
        UserError: If the material or a model can't be read, or has no sync encoder.
    """
    card = load_card(resolve_model(parts or "embedded"))
    config, assets, start, seed = SyncConfig(), SceneAssets.open(corpus), None, 0
    training: dict[str, Any] = {
        "catalogue_sha256": assets.catalogue.digest,
        "max_minutes": max_minutes,
    }
    attributions = [card.attribution]
    if init_from is not None:
        parent = load_card(resolve_model(init_from))
        start = load_sync(parent)
        config = start.config
        attributions.append(parent.attribution)
        training["parent"] = parent.training.get("sync", {})
        training["parent_sha256"] = part_sha256(parent, "sync")
        seed = _num_ancestors(training)  # other scenes than its ancestors saw
    network = train_sync(
        config,
        sync_batches(corpus, config, split="train", seed=seed, num_batches=_NUM_STEPS),
        out=out,
        num_steps=_NUM_STEPS,
        max_minutes=max_minutes,
        lr=_LR if start is None else _CONTINUED_LR,
        start=start,
    )
    return save_sync_model(
        out,
        card,
        network,
        training=training,
        attribution=merge_attribution([*attributions, training_attribution(assets.catalogue)]),
    )


def load_sync(card: ModelCard) -> SyncEncoder:
    """Load a model's sync encoder.

    Raises:
        UserError: If the model has none.
    """
    if "sync" not in card.files:
        raise UserError(f"model {card.name!r} has no sync encoder to start from")
    network = SyncEncoder(from_json(SyncConfig, card.parts["sync"], where=f"sync of {card.name}"))
    load_part(card, "sync", network)
    return network


def save_sync_model(
    out: Path,
    card: ModelCard,
    network: SyncEncoder,
    *,
    training: Mapping[str, Any],
    attribution: str,
) -> Path:
    """Write `out/model` with a trained sync encoder beside the autoencoder of `card`.

    Args:
        out: Folder of the run.
        card: Model whose autoencoder and training record are kept.
        network: Trained encoder.
        training: Record of the encoder's training.
        attribution: TSV of all material.

    Returns:
        The model folder.
    """
    save_model(
        out / "model",
        name="parts",
        parts={"autoencoder": card.parts["autoencoder"], "sync": to_json(network.config)},
        tensors={
            "autoencoder": load_tensors(card)["autoencoder"],
            "sync": network.state_dict(),
        },
        defaults={},
        training={**card.training, "sync": training},
        attribution=attribution,
    )
    return out / "model"


def _num_ancestors(training: Mapping[str, Any]) -> int:
    """Number of runs that this one continues, directly or not."""
    return 1 + _num_ancestors(training["parent"]) if "parent" in training else 0


def train_sync(
    config: SyncConfig,
    batches: Iterable[SyncBatch],
    *,
    out: Path,
    num_steps: int,
    max_minutes: float,
    lr: float = 2e-3,
    precision: str = "bfloat16",
    start: SyncEncoder | None = None,
) -> SyncEncoder:
    """Train on batches of examples of one length.

    Args:
        config: Shape of the network.
        batches: At least `num_steps` batches, each of examples of one length.
        out: Folder of the log.
        num_steps: Optimizer steps; the learning rate falls to zero over them.
        max_minutes: Time limit; the learning rate follows the further of steps and time.
        lr: Peak learning rate.
        precision: "bfloat16" or "float32" for the forward pass.
        start: Encoder to train further, in place; None: random weights.
    """
    torch.manual_seed(0)  # the only place that could draw from it is the initialisation below
    network = (SyncEncoder(config) if start is None else start).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.01)

    def losses_of(batch: SyncBatch) -> Mapping[str, Tensor]:
        onset, level = sync_loss(network, batch, precision=precision)
        return {"onset": onset, "level": level}

    fit(
        network,
        batches,
        losses_of,
        optimizer=optimizer,
        out=out,
        lr=lr,
        num_steps=num_steps,
        max_minutes=max_minutes,
    )
    return network.eval()


def fit(
    network: SyncEncoder,
    batches: Iterable[Batch],
    losses_of: Callable[[Batch], Mapping[str, Tensor]],
    *,
    optimizer: torch.optim.Optimizer,
    out: Path,
    lr: float,
    max_minutes: float,
    num_steps: float = math.inf,
    save: Callable[[], object] | None = None,
) -> None:
    """Minimise the sum of losses over batches, in place, and log their means.

    Args:
        network: Encoder whose parameters the optimizer has.
        batches: Batches; the training ends with them.
        losses_of: Function of a batch: its losses by name, the same names for each.
        optimizer: Optimizer.
        out: Folder of the log.
        lr: Peak learning rate: a short warm-up, then half a cosine down to zero.
        max_minutes: Time limit.
        num_steps: Limit of steps; the learning rate follows the further of steps and time.
        save: Called every three minutes.
    """
    log, logged = RunLog(out), []
    started = saved = time.monotonic()
    for step, batch in enumerate(batches):
        progress = max(step / num_steps, (time.monotonic() - started) / (60 * max_minutes))
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 50) * 0.5 * (1 + np.cos(np.pi * progress))
        losses = losses_of(batch)
        optimizer.zero_grad(set_to_none=True)
        sum(losses.values()).backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        logged.append([loss.item() for loss in losses.values()])
        if (step + 1) % LOG_EVERY == 0:
            means = dict(zip(losses, np.mean(logged, axis=0).tolist(), strict=True))
            rounded = {name: round(mean, 5) for name, mean in means.items()}
            log.write(step + 1, **rounded, progress=round(progress, 3))
            shown = ", ".join(f"{name} {mean:.4f}" for name, mean in means.items())
            _log.info("step %d: %s", step + 1, shown)
            logged.clear()
        if save is not None and time.monotonic() - saved > _SAVE_EVERY_S:
            save()
            saved = time.monotonic()
    log.close()


def sync_loss(network: SyncEncoder, batch: SyncBatch, *, precision: str) -> tuple[Tensor, Tensor]:
    """Onset loss and level loss of one batch."""
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        _, answers_BT2 = network(batch.frames_BTHWK)
    answers_BT2 = answers_BT2.float()
    level_loss = (answers_BT2[..., 1] - batch.level_BT).square().mean() * 4
    return onset_loss(answers_BT2, batch.onset_BT), level_loss


def onset_loss(answers_BT2: Tensor, onset_BT: Tensor) -> Tensor:
    """Binary cross-entropy of onset logits (the first of two answers); onsets weigh more."""
    weight_BT = 1 + (_POSITIVE_WEIGHT - 1) * onset_BT
    return F.binary_cross_entropy_with_logits(answers_BT2[..., 0], onset_BT, weight=weight_BT)
