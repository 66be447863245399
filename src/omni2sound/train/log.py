"""Where numbers of a run go: one JSON line per event, and TensorBoard if it is installed.

In:   a step and named numbers.
Out:  `log.jsonl` in the run's folder, appended and flushed; `events.*` beside it.
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

__all__ = ["LossBins", "RunLog"]


class RunLog:
    """Append-only log of one run."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / "log.jsonl").open("a", encoding="utf-8")
        self._board: Any = None
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(folder / "tensorboard")

    def write(self, step: int, **numbers: float | str) -> None:
        """One line; numbers go to TensorBoard too."""
        line = {"step": step, "time": round(time.time(), 1), **numbers}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in numbers.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close; the log may be reopened by a later run."""
        self._file.close()
        if self._board is not None:
            self._board.close()


class LossBins:
    """Mean loss by task and by quarter of the noise time, since the last `take`."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])

    def add(self, task: str, times: list[float], losses: list[float]) -> None:
        """Losses of one batch, sample by sample."""
        for time_, loss in zip(times, losses, strict=True):
            for name in ("loss", f"loss/{task}", f"loss/t{min(int(time_ * 4), 3)}"):
                self._sums[name][0] += loss
                self._sums[name][1] += 1

    def take(self) -> dict[str, float]:
        """The means, rounded; starts anew."""
        means = {name: round(total / count, 5) for name, (total, count) in self._sums.items()}
        self._sums.clear()
        return dict(sorted(means.items()))
