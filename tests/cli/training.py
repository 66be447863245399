"""`omni2sound train` as the tests of this folder call it: a small network, a few steps."""

from __future__ import annotations

import json
from pathlib import Path

from omni2sound.cli.train.recipe import train

__all__ = ["command"]


def command(out: Path, *, steps: int = 2, lr: float = 1e-3, **options: object) -> None:
    """Train on `features` beside `out`; options are those of the command."""
    stage = {
        "name": "1-pretraining",
        "steps": steps,
        "lr": lr,
        "final_lr": lr,
        "warmup_steps": 0,
        "task_weights": {"T2A": 0.5, "V2A": 0.5},
    }
    small = [
        f"stages={json.dumps([stage])}",
        "dit.width=32",
        "dit.depth=1",
        "dit.num_heads=2",
        "batch_seconds=3.2",
        "precision=float32",
    ]
    arguments = {
        "recipe": "tiny",
        "data": [out.parent / "features"],
        "out": out,
        "device": "cpu",
        "set_": small,
    }
    train(**(arguments | options))  # type: ignore[arg-type]
