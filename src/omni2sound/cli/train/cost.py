"""`omni2sound cost`: what a recipe costs, as a table; nothing is allocated.

In:   a recipe, a kind and number of devices, a length of clips.
Out:  parameters, memory per device, operations per step, days.
"""

from __future__ import annotations

from typing import Annotated

import typer

from omni2sound.cli.train.settings import RECIPE_HELP, SetOption, apply_changes
from omni2sound.errors import UserError

COMFORT = 0.8
"""Share of the room that is left which activations may fill: temporary buffers need some."""


def cost(
    recipe: Annotated[str, typer.Argument(help=RECIPE_HELP)],
    on: Annotated[
        str, typer.Option(help="Kind of device: a100-40gb, a100, h100, h200, l40s or rtx4090.")
    ] = "h100",
    devices: Annotated[int, typer.Option(min=1, help="Number of devices.")] = 1,
    clip_s: Annotated[
        float, typer.Option("--clip-seconds", help="Length of the clips, 0.1 to 3600 seconds.")
    ] = 10.0,
    set_: SetOption = None,
) -> None:
    """Print parameters, memory, operations and time of a recipe."""
    from omni2sound.recipes import recipe_named
    from omni2sound.train.cost import DEVICES, UTILISATION, device_named, hours_of, recipe_cost

    device = device_named(on)
    if device is None:
        raise UserError(f"{on!r} is unknown; known: {', '.join(DEVICES)}", field="on")
    chosen = apply_changes(recipe_named(recipe), set_)
    counted = recipe_cost(chosen, clip_s=clip_s, num_devices=devices)
    size = counted.parameters
    print(f"{chosen.name}: {size / 1e6:,.1f} M parameters ({size / 1e9:.3f} B)")
    print(f"step: {counted.clips_per_step} clips of {clip_s:g} s, on {devices} x {on}")
    print("memory per device:")
    total = sum(counted.memory_bytes.values())
    for name, size_bytes in counted.memory_bytes.items():
        print(f"  {name:24s} {size_bytes / 2**30:8.2f} GiB")
    fits = "fits" if total <= device.memory_bytes else "DOES NOT FIT"
    print(f"  {'total':24s} {total / 2**30:8.2f} GiB of {device.memory_bytes / 2**30:.0f}: {fits}")
    room = device.memory_bytes - total
    if chosen.activation_checkpointing and counted.spare_bytes <= room * COMFORT:
        print("  advice: activation_checkpointing=false fits too, and computes nothing twice")
    elif room < 0 and not chosen.activation_checkpointing:
        print("  advice: activation_checkpointing=true, more devices, or a larger accumulate")
    elif room < 0:
        print("  advice: more devices, or a larger accumulate")
    print("operations per step, forward and backward (and executed):")
    for task, flops in counted.flops_by_task.items():
        executed = counted.executed_by_task[task]
        print(f"  {task:24s} {flops / 1e12:8.2f} TFLOP ({executed / 1e12:.2f})")
    print(f"time at {UTILISATION:.0%} of the peak of {device.peak_flops / 1e12:.0f} TFLOP/s:")
    hours = 0.0
    for stage in chosen.stages:
        stage_hours = hours_of(counted.stage_flops(stage), device, num_devices=devices)
        hours += stage_hours
        ms = stage_hours * 3.6e6 / stage.steps
        print(f"  {stage.name:24s} {stage.steps:9,d} steps of {ms:9.1f} ms {stage_hours:9.2f} h")
    print(f"  {'total':24s} {chosen.num_steps:9,d} steps {hours:28.2f} h ({hours / 24:.1f} days)")
