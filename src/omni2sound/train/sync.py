"""Training of the embedded "when" encoder on rendered scenes with exact truth.

In:   a stream of (frames, when on-screen sounds start, how loud they are), made by `batches`.
Out:  a `SyncEncoder` that answers both from the picture alone.

Two losses: binary cross-entropy on "a sound starts in this frame" (soft targets: a triangle
of two frames either side of the exact onset), and squared error on the level of what is on
screen. Moving silent distractors in the scenes are what makes the answer non-trivial.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from omni2sound.encoders.sync import SyncConfig, SyncEncoder
from omni2sound.encoders.sync_targets import SyncBatch
from omni2sound.train.log import RunLog

__all__ = ["sync_loss", "train_sync"]

_log = logging.getLogger(__name__)

LOG_EVERY = 25
POSITIVE_WEIGHT = 6.0
"""Onsets are rare: about one frame in thirty."""


def train_sync(
    config: SyncConfig,
    batches: Iterable[SyncBatch],
    *,
    out: Path,
    num_steps: int,
    max_minutes: float,
    lr: float = 2e-3,
    precision: str = "bfloat16",
    seed: int = 0,
    start: SyncEncoder | None = None,
) -> SyncEncoder:
    """Train on batches of examples of one length.

    Args:
        config: Shape of the network.
        batches: Examples of one length each; at least `num_steps` of them.
        out: Folder of the log.
        num_steps: Optimizer steps; the learning rate falls to zero over them.
        max_minutes: Hard limit; the rate follows whichever of steps and time is further.
        lr: Peak learning rate.
        precision: "bfloat16" or "float32" for the forward pass.
        seed: Of the weights.
        start: Train this one on, in place, instead of new weights.
    """
    torch.manual_seed(seed)  # the only place that could draw from it is the initialisation below
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
    """Onset and level loss of one batch."""
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        _, answers_BT2 = network(batch.frames_BTHWK)
    onset_BT, answers_BT2 = batch.onset_BT, answers_BT2.float()
    weight_BT = 1 + (POSITIVE_WEIGHT - 1) * onset_BT
    onset_loss = F.binary_cross_entropy_with_logits(answers_BT2[..., 0], onset_BT, weight=weight_BT)
    level_loss = (answers_BT2[..., 1] - batch.level_BT).square().mean() * 4
    return onset_loss, level_loss
