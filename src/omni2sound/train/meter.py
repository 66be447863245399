"""Speed of a run: steps, seconds of sound and operations per second.

In:   the batches of each step, a clock.
Out:  numbers for the log; model FLOP utilisation (MFU) where the device's peak is known.

Operations are those of the network alone, counted once per task and length on the meta device
(`train.cost`). Recomputed activations do not count, so checkpointing lowers the MFU.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from omni2sound.data.batches.batch import Batch
from omni2sound.timebase import TimeBase
from omni2sound.train.cost import device_named, task_flops
from omni2sound.train.parallel import World
from omni2sound.train.recipe import Recipe


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
            num_clips, num_samples = batch.waveform_BN.shape
            duration_s = num_samples / TimeBase().sample_rate_hz
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
