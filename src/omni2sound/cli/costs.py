"""`omni2sound train RECIPE --dry-run`: what a recipe costs, as a table.

In:   a recipe, a kind and number of devices, a length of clips.
Out:  parameters, memory per device, operations per step, days; nothing is allocated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from omni2sound.errors import UserError

if TYPE_CHECKING:
    from omni2sound.train.recipe import Recipe

__all__ = ["print_costs"]

UTILISATION = 0.4
"""Share of a device's peak that a run is reckoned to reach; a run logs its own as `mfu`."""


def print_costs(recipe: Recipe, *, on: str, devices: int, clip_s: float) -> None:
    """Print the table.

    Raises:
        UserError: If the device is unknown.
    """
    from omni2sound.train.cost import DEVICES, device_named, recipe_cost

    device = device_named(on)
    if device is None:
        raise UserError(f"device {on!r} is unknown; known: {', '.join(DEVICES)}")
    cost = recipe_cost(recipe, clip_s=clip_s, num_devices=devices)
    print(
        f"{recipe.name}: {cost.parameters / 1e6:,.1f} M parameters ({cost.parameters / 1e9:.3f} B)"
    )
    print(f"step: {cost.clips_per_step} clips of {clip_s:g} s, on {devices} x {on}")
    print("memory per device:")
    total = sum(cost.memory_bytes.values())
    for name, size in cost.memory_bytes.items():
        print(f"  {name:24s} {size / 2**30:8.2f} GiB")
    fits = "fits" if total <= device.memory_bytes else "DOES NOT FIT"
    print(f"  {'total':24s} {total / 2**30:8.2f} GiB of {device.memory_bytes / 2**30:.0f}: {fits}")
    print("operations per step, forward and backward:")
    for task, flops in cost.flops_by_task.items():
        print(f"  {task:24s} {flops / 1e12:8.2f} TFLOP")
    rate = devices * device.peak_flops * UTILISATION
    print(f"time at {UTILISATION:.0%} of the peak of {device.peak_flops / 1e12:.0f} TFLOP/s:")
    hours = 0.0
    for stage in recipe.stages:
        stage_hours = cost.stage_flops(stage) / rate / 3600
        hours += stage_hours
        ms = stage_hours * 3.6e6 / stage.steps
        print(f"  {stage.name:24s} {stage.steps:9,d} steps of {ms:9.1f} ms {stage_hours:9.2f} h")
    print(f"  {'total':24s} {recipe.num_steps:9,d} steps {hours:28.2f} h ({hours / 24:.1f} days)")
