"""Rows of a feature store that take no time to make, in a module that workers can import."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omni2sound.data.store.index import ClipFailure
from omni2sound.data.store.rows import ClipFeatures, TextFeatures

FAILING = 7
"""The number of a clip that can't be read."""


@dataclass(frozen=True, kw_only=True)
class SmallJob:
    """A shard of three clips; `made` gets a line each time that it is made."""

    name: str
    first: int
    made: Path
    kill_before: bool = False


def jobs(folder: Path, count: int, *, kill_at: int | None = None) -> list[SmallJob]:
    return [
        SmallJob(name=f"s{k:03d}", first=3 * k, made=folder / "made", kill_before=k == kill_at)
        for k in range(count)
    ]


def rows(job: SmallJob) -> Iterator[ClipFeatures | ClipFailure]:
    if job.kill_before:
        os.kill(os.getpid(), signal.SIGKILL)
    with job.made.open("a") as file:
        file.write(f"{job.name}\n")
    for number in range(job.first, job.first + 3):
        if number == FAILING:
            yield ClipFailure(clip_id=f"clip-{number}", reason="no sound")
        else:
            yield clip(number)


def clip(number: int) -> ClipFeatures:
    rng = np.random.default_rng(number)
    text = TextFeatures(
        role="caption",
        text=f"number {number}",
        states_TE=rng.standard_normal((3, 8)).astype(np.float16),
        token_ids_T=np.array([1, number, 2], dtype=np.int32),
    )
    return ClipFeatures(
        clip_id=f"clip-{number}",
        duration_s=0.04,
        sound_N=rng.uniform(-1, 1, 640).astype(np.float32),
        texts=(text,),
        vision_TV=rng.random((1, 5)).astype(np.float16) if number % 2 else None,
        sync_LS=rng.random((1, 4)).astype(np.float16) if number % 2 else None,
        classes=("number",),
        valid_s=0.03,
        latents_LC=rng.random((1, 6)).astype(np.float16),
        quality=number / 100,
        source=f"counting:{number}",
    )
