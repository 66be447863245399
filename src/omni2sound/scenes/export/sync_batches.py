"""Batches for the sync encoder: scenes rendered in worker processes while it trains.

In:   the prepared corpus, a split, a seed.
Out:  `SyncBatch`es of one length, in order.

Scene i depends on (split, seed, kind) only, so a run sees the same scenes with any number of
workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from torch.utils.data import DataLoader, Dataset

from omni2sound.encoders.sync import (
    SyncBatch,
    SyncConfig,
    SyncExample,
    level_target,
    onset_target,
    stack_examples,
)
from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import Split
from omni2sound.scenes.render.render import render_frames, render_sound
from omni2sound.scenes.scene import SceneKind

DURATION_S = 4.0
BATCH_SCENES = 8
KINDS: tuple[SceneKind, ...] = ("main", "strike", "main", "offscreen")
"""Kinds of scenes in turn; off-screen events stay out of the targets."""


Example = TypeVar("Example")
Batch = TypeVar("Batch")


@lru_cache(maxsize=1)
def _assets(corpus: Path) -> SceneAssets:
    return SceneAssets.open(corpus)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Examples(Dataset[Example]):
    make: Callable[[SceneAssets, SyncConfig, Split, int, int], Example]
    corpus: Path
    config: SyncConfig
    split: Split
    seed: int
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        return self.make(_assets(self.corpus), self.config, self.split, self.seed, index)


def render_batches(
    make: Callable[[SceneAssets, SyncConfig, Split, int, int], Example],
    stack: Callable[[Sequence[Example]], Batch],
    *,
    corpus: Path,
    config: SyncConfig,
    split: Split,
    seed: int,
    num_batches: int,
    num_workers: int,
) -> Iterator[Batch]:
    """Yield batches of `BATCH_SCENES` examples, in order, made in worker processes.

    Args:
        make: Function of assets, config, split, seed and index of the example, importable by name.
        stack: Makes a batch of examples; importable by name.
        corpus: Folder of recordings and pictures that `fetch` prepared.
        config: Size and rate of frames.
        split: Split whose recordings and pictures are used.
        seed: Random seed of the scenes.
        num_batches: Number of batches.
        num_workers: Number of processes that render; 0 renders in this one.
    """
    yield from DataLoader(
        _Examples(
            make=make,
            corpus=corpus,
            config=config,
            split=split,
            seed=seed,
            count=BATCH_SCENES * num_batches,
        ),
        batch_size=BATCH_SCENES,
        num_workers=num_workers,
        collate_fn=stack,
        multiprocessing_context="spawn" if num_workers else None,
        prefetch_factor=3 if num_workers else None,
    )


def _example(
    assets: SceneAssets, config: SyncConfig, split: Split, seed: int, index: int
) -> SyncExample:
    scene = draw_scene(
        assets,
        split=split,
        seed=seed,
        index=index,
        kind=KINDS[index % len(KINDS)],
        duration_s=DURATION_S,
    )
    frames = render_frames(scene, assets, fps=config.fps, size_px=config.frame_px)
    on_screen = np.array([e.on_screen for e in scene.events], dtype=bool)
    sound = render_sound(scene, assets).stems_EN[on_screen].sum(axis=0, dtype=np.float32)
    onsets = [e.onset_s for e in scene.events if e.on_screen]
    return SyncExample(
        frames_THWK=frames,
        onset_T=onset_target(onsets, len(frames), config.fps),
        level_T=level_target(np.asarray(sound, np.float32), len(frames)),
    )


def sync_batches(
    corpus: Path,
    config: SyncConfig,
    *,
    split: Split,
    seed: int,
    num_batches: int,
    num_workers: int = 1,
) -> Iterator[SyncBatch]:
    """Yield batches of `BATCH_SCENES` rendered scenes.

    Args:
        corpus: Folder of recordings and pictures that `fetch` prepared.
        config: Size and rate of frames.
        split: Split whose recordings and pictures are used.
        seed: Random seed of the scenes.
        num_batches: Number of batches.
        num_workers: Number of processes that render; 0 renders in this one.
    """
    return render_batches(
        _example,
        stack_examples,
        corpus=corpus,
        config=config,
        split=split,
        seed=seed,
        num_batches=num_batches,
        num_workers=num_workers,
    )
