"""From scenes to a feature store: rendered, encoded, written shard by shard.

In:   prepared assets, frozen encoders, a plan (how many scenes of which kind and length).
Out:  a folder that `data.features.FeatureStore` reads.

A shard is one unit of work for one process; existing shards are kept, so a stopped run
goes on where it was. Scenes are a function of (split, seed, kind, index) and encoders are
frozen, so a store is a function of its description.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omni2sound.data.augment import drop_words
from omni2sound.data.builder import BuildReport, build_store
from omni2sound.data.encode import ClipEncoders, load_encoders
from omni2sound.data.engine import EngineName
from omni2sound.data.features import ClipFeatures
from omni2sound.data.stage.assets import StageAssets
from omni2sound.data.stage.captions import captions
from omni2sound.data.stage.catalogue import Split
from omni2sound.data.stage.licences import attribution_tsv
from omni2sound.data.stage.render import PEAK, render_frames, render_sound
from omni2sound.data.stage.scene import draw_scene
from omni2sound.data.stage.truth import Scene, SceneEvent, SceneKind
from omni2sound.errors import UserError
from omni2sound.weights import load_card

__all__ = ["ScenePlan", "build_features"]

SHARD_SCENES = 32
NUM_CAPTIONS = 6
"""Wordings of each scene that training may draw."""
OFFSCREEN_SNR_DB = (-6.0, 9.0)
"""On-screen sound over off-screen sound in a mix (chosen)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScenePlan:
    """Some scenes of one kind and length."""

    kind: SceneKind
    count: int
    duration_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """One shard, as plain data that a worker process can take."""

    name: str
    assets: Path
    model: Path | None
    split: Split
    seed: int
    plan: ScenePlan
    first: int


def build_features(
    out: Path,
    *,
    assets: Path,
    model: Path | None,
    split: Split,
    seed: int,
    plans: Sequence[ScenePlan],
    engine: EngineName = "local",
    num_workers: int = 1,
    on_shard: Callable[[int, int], None] | None = None,
) -> BuildReport:
    """Make every shard that is missing.

    Args:
        out: Store folder.
        assets: Prepared stage corpus.
        model: Model folder with the sync encoder; None if no plan has pictures.
        split: Which recordings, pictures and wordings may be used.
        seed: Of the scenes.
        plans: What to make.
        engine: Where to work; the result does not depend on it.
        num_workers: Processes; the result does not depend on it.
        on_shard: Called with (shards done, shards in all).

    Raises:
        ConfigError: If the folder holds features made from something else.
        UserError: If scenes with pictures are planned and there is no model.
    """
    pictured = any(plan.kind != "audio" for plan in plans)
    if pictured and model is None:
        raise UserError("scenes with pictures need a model folder with a sync encoder")
    catalogue = StageAssets.open(assets).catalogue
    return build_store(
        out,
        description={
            "corpus": "stage",
            "catalogue_sha256": catalogue.digest,
            "sync_sha256": load_card(model).files["sync"] if pictured and model else None,
            "split": split,
            "seed": seed,
            "plans": [asdict(p) for p in plans],
            "num_captions": NUM_CAPTIONS,
        },
        attribution=attribution_tsv(
            (r for r in catalogue.recordings if r.split == split),
            (p for p in catalogue.pictures if p.split == split),
        ),
        jobs=[
            _Job(
                name=f"{plan.kind}-{plan.duration_s:g}s-{first:06d}",
                assets=assets.resolve(),
                model=None if model is None else model.resolve(),
                split=split,
                seed=seed,
                plan=replace(plan, count=min(SHARD_SCENES, plan.count - first)),
                first=first,
            )
            for plan in plans
            for first in range(0, plan.count, SHARD_SCENES)
        ],
        make=_clips,
        engine=engine,
        num_workers=num_workers,
        on_shard=on_shard,
    )


def _clips(job: _Job) -> Iterator[ClipFeatures]:
    assets, encoders = _open(job.assets), load_encoders(job.model)
    for index in range(job.first, job.first + job.plan.count):
        scene = draw_scene(
            assets,
            split=job.split,
            seed=job.seed,
            index=index,
            kind=job.plan.kind,
            duration_s=job.plan.duration_s,
        )
        yield _clip(scene, assets, encoders)


@lru_cache(maxsize=1)
def _open(assets: Path) -> StageAssets:
    return StageAssets.open(assets)


def _clip(scene: Scene, assets: StageAssets, encoders: ClipEncoders) -> ClipFeatures:
    """Everything that training may need of one scene."""
    # Its own generator: what captions draw must not move the scene.
    rng = np.random.default_rng([scene.seed, scene.index, 77])
    sound, offscreen = _sounds(scene, assets, rng)
    vision = sync = None
    if scene.has_picture:
        time = encoders.time
        vision, sync = encoders.pictures(
            render_frames(scene, assets, fps=time.vision_fps, size_px=encoders.vision_size_px[0]),
            render_frames(scene, assets, fps=time.sync_fps, size_px=encoders.sync_size_px[0]),
            duration_s=scene.duration_s,
        )
    return ClipFeatures(
        clip_id=scene.scene_id,
        duration_s=scene.duration_s,
        sound_N=sound,
        offscreen_N=offscreen,
        texts=encoders.texts(_told(scene, assets, rng)),
        vision_TV=vision,
        sync_LS=sync,
        classes=tuple(e.class_id for e in scene.events),
    )


def _told(scene: Scene, assets: StageAssets, rng: np.random.Generator) -> list[tuple[str, str]]:
    on_screen = replace(scene, events=tuple(e for e in scene.events if _is_target(scene, e)))
    held_out = scene.split == "test"
    told = captions(on_screen, assets.catalogue, count=NUM_CAPTIONS, rng=rng, held_out=held_out)
    texts = [("caption", t) for t in told] + [("dropped", drop_words(told[0], rng))]
    if scene.kind == "offscreen":
        both = captions(scene, assets.catalogue, count=2, rng=rng, held_out=held_out)
        texts += [("offscreen", t) for t in both]
    return texts


def _is_target(scene: Scene, event: SceneEvent) -> bool:
    """Whether a V2A target holds the event: unseen sounds only where there is no picture."""
    return event.on_screen or not scene.has_picture


def _sounds(
    scene: Scene, assets: StageAssets, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """What a V2A target holds, and what off-screen synthesis adds, at a drawn SNR."""
    sound = render_sound(scene, assets)
    unseen = np.array([not _is_target(scene, e) for e in scene.events], dtype=bool)
    target = sound.stems_EN[~unseen].sum(axis=0) + sound.ambience_N
    if not unseen.any():
        return target.astype(np.float32), None
    added = sound.stems_EN[unseen].sum(axis=0)
    power = np.square(target).mean(), np.square(added).mean()
    wanted = 10 ** (-rng.uniform(*OFFSCREEN_SNR_DB) / 10)
    added = added * np.sqrt(wanted * power[0] / max(power[1], 1e-12))
    # Both are turned down together: the clip's parts keep their balance, and 16 bits suffice.
    factor = min(
        1.0, PEAK / max(float(np.abs(target + added).max()), float(np.abs(added).max()), 1e-9)
    )
    return (target * factor).astype(np.float32), (added * factor).astype(np.float32)
