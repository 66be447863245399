"""Log of a run: one JSON line per event, TensorBoard if it is installed, and the run's speed.

In:   a step and named numbers; the batches of each step.
Out:  `log.jsonl` in the run's folder, appended and flushed; `tensorboard/` beside it.

Operations of the model FLOP utilisation (MFU) are those of the network alone, counted once per task
and length on the meta device (`train.cost`). Recomputed activations do not count, so checkpointing
lowers it.

A resumed run repeats the steps since its last checkpoint, so their lines are removed first:
each step appears in the log once.
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from omni2sound.data.batches.batch import Batch
from omni2sound.files import split_lines, write_text, writing
from omni2sound.readers import MAX_TABLE_BYTES, loads, read_text
from omni2sound.train.cost import device_named, task_flops
from omni2sound.train.parallel import World
from omni2sound.train.recipe import TASKS, Recipe

OnLog = Callable[[int, Mapping[str, float | str]], None]


class RunLog:
    """Append-only log of one run; only the first rank writes."""

    def __init__(
        self,
        folder: Path,
        *,
        first_step: int = 0,
        world: World | None = None,
        on_log: OnLog | None = None,
    ) -> None:
        """Open the log of a run that continues after `first_step` steps.

        `on_log` is called with (step, numbers) of each line, e.g. `wandb.log` by way of
        ``lambda step, numbers: wandb.log(numbers, step=step)``.
        """
        self._on_log = on_log
        self._file: Any = None
        self._board: Any = None
        if not (world or World()).is_first:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "log.jsonl"
        _cut(self._path, first_step)
        self._file = self._path.open("a", encoding="utf-8")
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(folder / "tensorboard", purge_step=first_step + 1)

    def write(self, step: int, **numbers: float | str) -> None:
        """Write one line; numbers also go to TensorBoard."""
        if self._file is None:
            return
        line = {"step": step, "time": round(time.time(), 1), **numbers}
        with writing(self._path):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        if self._on_log is not None:
            self._on_log(step, numbers)
        if self._board is not None:
            with writing(self._path.with_name("tensorboard")):
                for name, value in numbers.items():
                    if isinstance(value, int | float):
                        self._board.add_scalar(name, value, step)

    def rewind(self, last_step: int) -> None:
        """Remove the lines after a step, which are done anew."""
        if self._file is not None:
            self._file.close()
            _cut(self._path, last_step)
            self._file = self._path.open("a", encoding="utf-8")

    def close(self) -> None:
        """Flush and close; a later run may reopen the log."""
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()


def _cut(path: Path, last_step: int) -> None:
    """Keep the complete lines up to `last_step`."""
    if not path.exists():
        return
    kept = []
    for line in split_lines(read_text(path, max_bytes=MAX_TABLE_BYTES)):
        try:
            if loads(line, not_finite=True)["step"] <= last_step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue  # cut by a kill
    write_text(path, "".join(kept))


class LossBins:
    """Mean loss by task and by quarter of the noise time, since the last `take`."""

    _QUARTERS = 4

    def __init__(self) -> None:
        self._sums = torch.zeros(len(TASKS), self._QUARTERS, 2, dtype=torch.float64)

    def add(self, task: str, times: Sequence[float], losses: Sequence[float]) -> None:
        """Add the losses of a batch, one per sample."""
        row = self._sums[[*TASKS].index(task)]  # type: ignore[arg-type]
        for time_, loss in zip(times, losses, strict=True):
            quarter = min(int(time_ * self._QUARTERS), self._QUARTERS - 1)
            row[quarter] += torch.tensor([loss, 1.0], dtype=torch.float64)

    def take(self, world: World) -> dict[str, float]:
        """Return the means over all ranks, and reset."""
        sums = world.sum(self._sums)
        self._sums = torch.zeros_like(self._sums)
        named = {"loss": sums.sum(dim=(0, 1))}
        named |= {f"loss/{task}": sums[i].sum(dim=0) for i, task in enumerate(TASKS)}
        named |= {f"loss/t{i}": sums[:, i].sum(dim=0) for i in range(self._QUARTERS)}
        return {
            name: float(f"{float(total / count):.7g}")
            for name, (total, count) in named.items()
            if count
        }

    def to_json(self, world: World) -> list[Any]:
        """Sums for a checkpoint, so that a resumed run logs what an uninterrupted one would."""
        data: list[Any] = world.sum(self._sums).tolist()
        return data

    def restore(self, data: Sequence[Any], world: World) -> None:
        """Restore the sums of `to_json`; the first rank takes those of all ranks."""
        if world.is_first:
            self._sums = torch.tensor(data, dtype=torch.float64)


class Meter:
    """Counters between two log lines."""

    def __init__(self, recipe: Recipe, device: torch.device, world: World) -> None:
        self._recipe, self._world = recipe, world
        self._flops: dict[tuple[str, float], float] = {}
        known = None
        if device.type == "cuda":
            known = device_named(torch.cuda.get_device_name(device))
        self._peak_flops = known.peak_flops if known is not None else None
        self._reset()

    def _reset(self) -> None:
        self._started, self._steps, self._sound_s, self._done_flops = time.monotonic(), 0, 0.0, 0.0

    def count(self, micro_batches: Sequence[Batch]) -> None:
        """Count one step of this rank."""
        self._steps += 1
        for batch in micro_batches:
            num_clips, duration_s = len(batch.clip_ids), batch.duration_s
            key = (batch.task, duration_s)
            if key not in self._flops:
                self._flops[key] = task_flops(self._recipe, *key)
            self._sound_s += num_clips * duration_s
            self._done_flops += num_clips * self._flops[key]

    def take(self) -> dict[str, float]:
        """Return the speed since the last `take`; ranks have equal shares, so one is enough."""
        elapsed_s = max(time.monotonic() - self._started, 1e-9)
        numbers = {
            "s_per_step": _short(elapsed_s / max(1, self._steps)),
            "sound_s_per_s": _short(self._sound_s * self._world.size / elapsed_s),
            "tflops_per_device": _short(self._done_flops / elapsed_s / 1e12),
        }
        if self._peak_flops is not None:
            numbers["mfu"] = _short(self._done_flops / elapsed_s / self._peak_flops)
        self._reset()
        return numbers


def _short(value: float) -> float:
    """Round to four significant digits, the accuracy of the clock."""
    return float(f"{value:.4g}")
