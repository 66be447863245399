"""Execution settings of scoring, shared by runs and comparisons.

In:   names of judges, folders, workers.
Out:  `Means`, and the type of a progress report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from omni2sound.bench.scoring.avbench import PublishedJudges
from omni2sound.bench.systems.baseline_files import NUM_REMEMBERED, Embedders
from omni2sound.data.workers import EngineName


class OnStep(Protocol):
    """Progress of a run."""

    def __call__(self, step: str, /) -> Callable[[int, int], None]:
        """A function of (jobs done, jobs in all) for one step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Means:
    """Execution settings; only `judges` and `num_remembered` affect results."""

    judges: tuple[str, ...]
    cache_folder: Path
    published: PublishedJudges | None = None
    """The judges of avbench-8s-v1; None leaves that protocol out."""
    assets: Path | None = None
    """The scene corpus, for baselines and for `copies-v1`; None leaves them out."""
    num_remembered: int = NUM_REMEMBERED
    """Training scenes of each part to retrieve from."""
    embed: Embedders = field(default_factory=Embedders)
    engine: EngineName = "local"
    num_workers: int = 1
