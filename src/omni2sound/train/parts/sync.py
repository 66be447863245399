"""Training of the embedded sync encoder on rendered scenes with exact ground truth.

In:   batches of frames with onsets and levels of the on-screen sound (`sync_batches`).
Out:  a `SyncEncoder` that predicts both from the pictures alone.

Two losses: binary cross-entropy of "a sound starts in this frame" (soft targets: a triangle of
two frames on either side of the onset), and the squared error of the on-screen level. Silent
moving distractors in the scenes make the task non-trivial.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

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
    load_card,
    load_part,
    load_tensors,
    part_sha256,
    resolve_model,
    save_model,
)

_log = logging.getLogger(__name__)

LOG_EVERY = 25
POSITIVE_WEIGHT = 6.0
"""Onsets are rare: about one frame in thirty."""
_NUM_STEPS = 6000
_LR = 2e-3
_CONTINUED_LR = 1e-3


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
        if "sync" not in parent.files:
            raise UserError(f"model {parent.name!r} has no sync encoder to start from")
        config = from_json(SyncConfig, parent.parts["sync"], where=f"sync of {parent.name}")
        start = SyncEncoder(config)
        load_part(parent, "sync", start)
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
    save_model(
        out / "model",
        name="parts",
        parts={"autoencoder": card.parts["autoencoder"], "sync": to_json(config)},
        tensors={
            "autoencoder": load_tensors(card)["autoencoder"],
            "sync": network.state_dict(),
        },
        defaults={},
        training={**card.training, "sync": training},
        attribution=merge_attribution([*attributions, training_attribution(assets.catalogue)]),
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
    log = RunLog(out)
    started, sums = time.monotonic(), np.zeros(3)
    for step, batch in enumerate(batches):
        progress = max(step / num_steps, (time.monotonic() - started) / (60 * max_minutes))
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 50) * 0.5 * (1 + np.cos(np.pi * progress))
        onset_loss, level_loss = sync_loss(network, batch, precision=precision)
        optimizer.zero_grad(set_to_none=True)
        (onset_loss + level_loss).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        sums += (onset_loss.item(), level_loss.item(), 1)
        if (step + 1) % LOG_EVERY == 0:
            onset, level = sums[:2] / sums[2]
            log.write(
                step + 1, onset=round(onset, 5), level=round(level, 5), progress=round(progress, 3)
            )
            _log.info("step %d: onset %.4f, level %.4f", step + 1, onset, level)
            sums[:] = 0
    log.close()
    return network.eval()


def sync_loss(network: SyncEncoder, batch: SyncBatch, *, precision: str) -> tuple[Tensor, Tensor]:
    """Onset loss and level loss of one batch."""
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        _, answers_BT2 = network(batch.frames_BTHWK)
    onset_BT, answers_BT2 = batch.onset_BT, answers_BT2.float()
    weight_BT = 1 + (POSITIVE_WEIGHT - 1) * onset_BT
    onset_loss = F.binary_cross_entropy_with_logits(answers_BT2[..., 0], onset_BT, weight=weight_BT)
    level_loss = (answers_BT2[..., 1] - batch.level_BT).square().mean() * 4
    return onset_loss, level_loss
