"""Training of the embedded "when" encoder on rendered scenes with exact truth.

In:   a stream of (frames, when on-screen sounds start, how loud they are), made by `examples`.
Out:  a `SyncEncoder` that answers both from the picture alone.

Two losses: binary cross-entropy on "a sound starts in this frame" (soft targets: a triangle
of +-1 frame around the exact onset), and squared error on the level of the on-screen sound.
Moving silent distractors in the scenes are what makes the answer non-trivial.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from omni2sound.encoders.sync import SyncConfig, SyncEncoder
from omni2sound.train.log import RunLog

__all__ = ["SyncExample", "level_target", "onset_target", "train_sync"]

_log = logging.getLogger(__name__)

LOG_EVERY = 25
LEVEL_FLOOR_DB = -60.0
"""Level that counts as silence; levels are scaled so that it is 0 and full scale is 1."""
POSITIVE_WEIGHT = 6.0
"""Onsets are rare: about one frame in thirty."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SyncExample:
    """One rendered scene.

    Attributes:
        frames_THWK: uint8 pictures, 25 a second.
        onset_T: Soft onset targets in [0, 1].
        level_T: Scaled level of the on-screen sound in [0, 1].
    """

    frames_THWK: NDArray[np.uint8]
    onset_T: NDArray[np.float32]
    level_T: NDArray[np.float32]


def onset_target(onsets_s: Iterable[float], num_frames: int, fps: int) -> NDArray[np.float32]:
    """1 in the frame whose centre is the onset, falling to 0 two frames away."""
    centres_s = (np.arange(num_frames) + 0.5) / fps
    target = np.zeros(num_frames, np.float32)
    for onset_s in onsets_s:
        target = np.maximum(target, 1 - np.abs(centres_s - onset_s) * fps / 2)
    return target.astype(np.float32)


def level_target(sound_N: NDArray[np.float32], num_frames: int) -> NDArray[np.float32]:
    """Root mean square per frame in dB, scaled so that the floor is 0 and full scale 1."""
    hop = len(sound_N) // num_frames
    frames = sound_N[: hop * num_frames].reshape(num_frames, hop)
    level_db = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-12)
    scaled = np.clip(1 - level_db / LEVEL_FLOOR_DB, 0, 1)
    return np.asarray(scaled, np.float32)


def train_sync(
    config: SyncConfig,
    examples: Iterable[list[SyncExample]],
    *,
    out: Path,
    num_steps: int,
    max_minutes: float,
    lr: float = 2e-3,
    precision: str = "bfloat16",
    seed: int = 0,
) -> SyncEncoder:
    """Train from scratch on batches of examples of one length.

    Args:
        config: Shape of the network.
        examples: Batches; at least `num_steps` of them.
        out: Folder of the log.
        num_steps: Optimizer steps; the learning rate falls to zero over them.
        max_minutes: Hard limit; the rate follows whichever of steps and time is further.
        lr: Peak learning rate.
        precision: "bfloat16" or "float32" for the forward pass.
        seed: Of the weights.
    """
    torch.manual_seed(seed)  # the only place that could draw from it is the initialisation below
    network = SyncEncoder(config).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.01)
    log = RunLog(out)
    started, sums = time.monotonic(), np.zeros(3)
    for step, batch in enumerate(examples):
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


def sync_loss(
    network: SyncEncoder, batch: list[SyncExample], *, precision: str
) -> tuple[Tensor, Tensor]:
    """Onset and level loss of one batch."""
    frames = torch.from_numpy(np.stack([e.frames_THWK for e in batch]))
    onset_BT = torch.from_numpy(np.stack([e.onset_T for e in batch]))
    level_BT = torch.from_numpy(np.stack([e.level_T for e in batch]))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        _, answers_BT2 = network(frames)
    answers_BT2 = answers_BT2.float()
    weight_BT = 1 + (POSITIVE_WEIGHT - 1) * onset_BT
    onset_loss = F.binary_cross_entropy_with_logits(answers_BT2[..., 0], onset_BT, weight=weight_BT)
    level_loss = (answers_BT2[..., 1] - level_BT).square().mean() * 4
    return onset_loss, level_loss
