"""Sounds of the training split, as the autoencoders learn from them, and their attribution.

In:   the opened material of the synthetic scenes.
Out:  waveforms (N,) float32 at 16 kHz; an attribution list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.material.licences import attribution_tsv
from omni2sound.scenes.render.render import render_audio

if TYPE_CHECKING:
    from omni2sound.scenes.material.assets import SceneAssets
    from omni2sound.scenes.material.catalogue import Catalogue

_NUM_SCENES, _SCENE_S = 600, 4.0


def training_sounds(
    assets: SceneAssets,
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Every recording of the training split, and 600 rendered scenes of 4 s."""
    recordings = [
        assets.waveform(r.recording_id) for r in assets.catalogue.recordings if r.split == "train"
    ]
    scenes = [
        render_audio(
            draw_scene(assets, split="train", seed=0, index=i, kind="audio", duration_s=_SCENE_S),
            assets,
        )
        for i in range(_NUM_SCENES)
    ]
    return recordings, scenes


def training_attribution(catalogue: Catalogue, *, pictures: bool = True) -> str:
    """Licence and author of each training recording and, if wanted, picture, as TSV."""
    return attribution_tsv(
        (r for r in catalogue.recordings if r.split == "train"),
        (p for p in catalogue.pictures if pictures and p.split == "train"),
    )
