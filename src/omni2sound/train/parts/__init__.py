"""Training of single components from the synthetic scenes, each into a model folder.

In:   the folder of the scenes' material (`omni2sound scenes fetch`), an output folder, limits.
Out:  `OUT/model`, a model folder that holds the component.

Example:
    ``COMPONENTS["sync"](Path("corpus"), Path("runs/sync"), max_minutes=5)``
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from omni2sound.train.parts.autoencoder import train_autoencoder_model
from omni2sound.train.parts.band import train_band_model
from omni2sound.train.parts.joint import train_joint_model
from omni2sound.train.parts.oobleck import train_oobleck_model
from omni2sound.train.parts.sync import train_sync_model
from omni2sound.train.parts.sync_files import train_sync_files_model
from omni2sound.train.parts.tagger import train_tagger_model

__all__ = ["COMPONENTS"]

COMPONENTS: Mapping[str, Callable[..., Path]] = {
    "autoencoder": train_autoencoder_model,
    "oobleck": train_oobleck_model,
    "band": train_band_model,
    "sync": train_sync_model,
    "sync-files": train_sync_files_model,
    "joint": train_joint_model,
    "tagger": train_tagger_model,
}
"""Trainers by the name that `omni2sound train-part` takes: `(corpus, out, **options)`, which
return the model folder. Options differ; each function documents its own."""
