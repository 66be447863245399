"""Examples for the joint embedding heads: frozen features of scenes.

In:   the prepared corpus, a split, the number of scenes with and without pictures.
Out:  `JointExamples`, cached in one safetensors file.

Scenes with pictures are of kind "main": everything that is heard can be seen. Two frames a scene,
five views a frame (`encoders.joint.views_of`).

Shape suffixes: B scenes, P patches, V views, K sentences, D features, C classes, N samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from omni2sound.encoders.joint import VIEWS, JointSpace, heard_patches, views_of
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.encoders.text import TextEncoder
from omni2sound.encoders.vision import VisionEncoder
from omni2sound.errors import ShapeError
from omni2sound.files import atomic_path, save_tensors
from omni2sound.readers import interpreting, read_tensors
from omni2sound.scenes.captions import captions
from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import Split
from omni2sound.scenes.render.render import render_audio, render_frames
from omni2sound.scenes.scene import Scene, SceneKind

_SENTENCES = 6
_FRAMES = 2
_HEIGHT_PX = 240
_SEED = 0x101
_PURPOSE = 4


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class JointExamples:
    """Frozen features of scenes; views are zero without picture."""

    sounds_BPD: Tensor
    """YAMNet embeddings."""
    heard_BP: Tensor
    """True where a patch holds sound."""
    sentences_BKD: Tensor
    views_BVD: Tensor
    pictured_B: Tensor
    classes_BC: Tensor
    """True for classes that sound in the scene."""

    def __post_init__(self) -> None:
        count = len(self.sounds_BPD)
        for name in self.__dataclass_fields__:
            if len(getattr(self, name)) != count:
                raise ShapeError(f"{name}: expected {count} scenes, got {len(getattr(self, name))}")

    def __len__(self) -> int:
        return len(self.sounds_BPD)

    def at(self, places_B: Tensor) -> JointExamples:
        """Select examples."""
        return JointExamples(**{n: getattr(self, n)[places_B] for n in self.__dataclass_fields__})


@dataclass(frozen=True, kw_only=True, slots=True)
class JointPlan:
    """Number, split and length of scenes."""

    split: Split
    seed: int = 0
    num_pictured: int = 700
    num_unseen: int = 700
    duration_s: float = 5.0


def joint_examples(
    corpus: Path,
    plan: JointPlan,
    *,
    cache: Path,
    on_scene: Callable[[int, int], None] | None = None,
) -> JointExamples:
    """Compute the features of all scenes, or read them from `cache`.

    Args:
        corpus: Folder of recordings and pictures that `fetch` prepared.
        plan: Number, split and length of scenes.
        cache: A .safetensors file of the same plan; written if missing.
        on_scene: Called with (scenes done, number of scenes).
    """
    if cache.is_file():
        with interpreting(cache, "examples of this release; delete it"):
            return JointExamples(**read_tensors(cache))
    assets = SceneAssets.open(corpus)
    hearing, reading, seeing = YamNet.load(), TextEncoder.load(), VisionEncoder.load()
    counts: list[tuple[SceneKind, int]] = [("main", plan.num_pictured), ("audio", plan.num_unseen)]
    total = sum(count for _, count in counts)
    rows: list[dict[str, Tensor]] = []
    for kind, count in counts:
        for index in range(count):
            scene = draw_scene(
                assets,
                split=plan.split,
                seed=plan.seed + _SEED,
                index=index,
                kind=kind,
                duration_s=plan.duration_s,
            )
            rows.append(_row(scene, assets, hearing, reading, seeing))
            if on_scene is not None:
                on_scene(len(rows), total)
    tensors = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    with atomic_path(cache) as temporary:
        save_tensors(temporary, tensors)
    return JointExamples(**tensors)


def _row(
    scene: Scene, assets: SceneAssets, hearing: YamNet, reading: TextEncoder, seeing: VisionEncoder
) -> dict[str, Tensor]:
    waveform = render_audio(scene, assets)
    _, embeddings_PD = hearing.scores_and_embeddings(waveform)
    rng = np.random.default_rng([scene.seed, scene.index, _PURPOSE])
    sentences = [
        *captions(scene, assets.catalogue, rng=rng, held_out=False, count=_SENTENCES - 2),
        *captions(scene, assets.catalogue, rng=rng, held_out=False, style="label", count=2),
    ]
    views_VD = torch.zeros(_FRAMES * VIEWS, VisionEncoder.dim)
    if scene.has_picture:
        frames = render_frames(
            scene,
            assets,
            fps=Fraction(_FRAMES) / Fraction(scene.duration_s),
            size_px=_HEIGHT_PX,
            width_px=round(_HEIGHT_PX * scene.aspect),
        )
        views_VD = torch.cat([seeing.embed(views_of(frame)) for frame in frames])
    inside = {e.class_id for e in scene.events}
    return {
        "sounds_BPD": torch.from_numpy(embeddings_PD.copy()),
        "heard_BP": torch.from_numpy(heard_patches(waveform, len(embeddings_PD))),
        "sentences_BKD": JointSpace.mean_states(reading(sentences)),
        "views_BVD": views_VD,
        "pictured_B": torch.tensor(scene.has_picture),
        "classes_BC": torch.tensor([c in inside for c in assets.catalogue.class_ids]),
    }
