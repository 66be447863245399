"""Samples task and clips of a step: a pure function of (seed, step).

In:   a seed, task weights, and for each task its clips grouped by length.
Out:  for a step, one task and the clips of the whole batch.

There is no iterator state. Resuming at step k means calling ``draw(k)``, on any number of ranks
that divides the batch. Task and length come from (seed, step); each clip from (seed, step, its
index in the batch).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from omni2sound.errors import ConfigError


def step_rng(seed: int, step: int, *purpose: int) -> np.random.Generator:
    """Make the generator of one step, and one purpose or sample within it."""
    words = (seed, step, *purpose)
    # The same entropy as that of the list, in half the time: larger numbers are several words.
    small = min(words) >= 0 and max(words) < 2**32
    return np.random.default_rng(np.array(words, np.uint32) if small else words)


@dataclass(frozen=True, slots=True)
class StepDraw:
    """Task and clips of one optimizer step.

    Attributes:
        task: "T2A", "V2A" or "VT2A".
        duration_s: Length of every clip in the batch.
        clips: Indices of the clips of the whole batch, over all ranks.
    """

    task: str
    duration_s: float
    clips: tuple[int, ...]

    def part(self, part: int, num_parts: int) -> tuple[int, ...]:
        """Return the positions of one of several equal micro-batches.

        Raises:
            ConfigError: If the batch can't be divided equally.
        """
        check_parts(len(self.clips), num_parts)
        return tuple(range(part, len(self.clips), num_parts))


def check_parts(batch_size: int, num_parts: int) -> None:
    """Refuse a batch that can't be divided equally.

    Raises:
        ConfigError: If it can't.
    """
    if batch_size % num_parts:
        raise ConfigError(
            f"a batch of {batch_size} clips can't be divided into {num_parts} micro-batches (ranks "
            "times accumulate); change batch_seconds or the number of ranks"
        )


@dataclass(frozen=True, slots=True)
class MixedPool:
    """Clips of one length from several sources.

    Attributes:
        pools: Clips of each source.
        masses: Weight of each source's clips of this length, among all of its clips of the task.
    """

    pools: tuple[Sequence[int], ...]
    masses: tuple[float, ...]

    def __len__(self) -> int:
        return sum(len(pool) for pool in self.pools)

    def draw(self, rng: np.random.Generator) -> int:
        """Draw a source by its mass, then one of its clips."""
        weights = np.array(self.masses)
        pool = self.pools[int(rng.choice(len(weights), p=weights / weights.sum()))]
        return int(pool[int(rng.integers(len(pool)))])


Pool = Sequence[int] | MixedPool


def mix_pools(
    sources: Sequence[tuple[float, Mapping[float, Sequence[int]]]],
) -> dict[float, MixedPool]:
    """Mix sources by their weights, each by seconds within itself.

    Args:
        sources: For each its weight, and its clips by length.
    """
    found: dict[float, list[tuple[Sequence[int], float]]] = {}
    for weight, by_length in sources:
        total_s = sum(length * len(clips) for length, clips in by_length.items())
        for length, clips in by_length.items():
            mass = weight * length * len(clips) / total_s
            found.setdefault(length, []).append((clips, mass))
    return {
        length: MixedPool(tuple(pool for pool, _ in some), tuple(mass for _, mass in some))
        for length, some in found.items()
    }


class TaskSampler:
    """Samples task and clips of a step."""

    def __init__(
        self,
        *,
        seed: int,
        batch_seconds: float,
        clips_by_task: Mapping[str, Mapping[float, Pool]],
    ) -> None:
        """`clips_by_task` maps task -> length in seconds -> clip indices.

        Raises:
            ConfigError: If a length has no clips.
        """
        for task, by_length in clips_by_task.items():
            if not by_length or not all(len(clips) for clips in by_length.values()):
                raise ConfigError(f"no clips for task {task}; build more of the corpus")
        self._seed = seed
        self._batch_seconds = batch_seconds
        self._clips_by_task = clips_by_task

    def draw(self, step: int, task_weights: Mapping[str, float]) -> StepDraw:
        """Sample the batch of one step.

        Raises:
            ConfigError: If a weighted task has no clips.
        """
        missing = sorted(t for t, w in task_weights.items() if w and t not in self._clips_by_task)
        if missing:
            raise ConfigError(
                f"no clips for tasks {missing}; the corpus serves {sorted(self._clips_by_task)}"
            )
        rng = step_rng(self._seed, step)
        tasks = sorted(task_weights)
        weights = np.array([task_weights[t] for t in tasks])
        task = tasks[int(rng.choice(len(tasks), p=weights / weights.sum()))]
        by_length = self._clips_by_task[task]
        lengths = sorted(by_length)
        # By seconds, so that every second of the corpus is equally likely to be trained on.
        seconds = np.array([_mass(length, by_length[length]) for length in lengths])
        duration_s = lengths[int(rng.choice(len(lengths), p=seconds / seconds.sum()))]
        pool = by_length[duration_s]
        count = self._batch_size(duration_s)
        clips = tuple(_clip_of(pool, step_rng(self._seed, step, 1, i)) for i in range(count))
        return StepDraw(task, duration_s, clips)

    def _batch_size(self, duration_s: float) -> int:
        return max(1, int(self._batch_seconds / duration_s))

    def check_parts(self, num_parts: int) -> None:
        """Refuse a number of micro-batches that does not divide every batch.

        Raises:
            ConfigError: If it does not.
        """
        for by_length in self._clips_by_task.values():
            for duration_s in by_length:
                check_parts(self._batch_size(duration_s), num_parts)


def _mass(length: float, pool: Pool) -> float:
    return sum(pool.masses) if isinstance(pool, MixedPool) else length * len(pool)


def _clip_of(pool: Pool, rng: np.random.Generator) -> int:
    if isinstance(pool, MixedPool):
        return pool.draw(rng)
    return int(pool[int(rng.integers(len(pool)))])
