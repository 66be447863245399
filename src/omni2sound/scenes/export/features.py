"""Feature stores of scenes: rendered, encoded, written shard by shard.

In:   the prepared corpus, frozen encoders, plans (number, kind and length of scenes).
Out:  a folder that `data.store.rows.FeatureStore` reads.

A shard is one job of one process; existing shards are kept, so an interrupted run resumes. Scenes
are a function of (split, seed, kind, index) and encoders are frozen, so a store is a function of
its description.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omni2sound.data.store.builder import BuildReport, build_store
from omni2sound.data.store.encode import ClipEncoders, EncoderSource, load_encoders
from omni2sound.data.store.rows import ClipFeatures
from omni2sound.data.workers import Workers
from omni2sound.errors import ConfigError
from omni2sound.readers import real_path
from omni2sound.scenes.captions import audio_only_caption, captions
from omni2sound.scenes.draw import check_duration, draw_scene
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import KindSet, Split
from omni2sound.scenes.material.licences import attribution_tsv
from omni2sound.scenes.render.render import PEAK, render_frames, render_sound
from omni2sound.scenes.scene import Scene, SceneEvent, SceneKind
from omni2sound.scenes.typed import typed_prompt

SHARD_SCENES = 32
NUM_CAPTIONS = 8
"""Captions of each scene that training draws from."""
NUM_TYPED = 6
"""Typed prompts of each scene of all kinds, beside its captions."""
NUM_BY_EAR = 2
"""Captions by ear alone; only an ablation reads them."""
NUM_SPEEDS = 16
"""Number of speed factors of each recording with speed perturbation; shards take turns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScenePlan:
    """Scenes of one kind and length."""

    kind: SceneKind
    count: int
    duration_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """One shard, as plain data that a worker process can take."""

    name: str
    assets: Path
    encoders: EncoderSource
    split: Split
    seed: int
    plan: ScenePlan
    latents: bool
    first: int
    classes: tuple[str, ...] | None
    speed: float
    kinds: KindSet


def build_features(
    out: Path,
    *,
    assets: Path,
    encoders: EncoderSource,
    split: Split,
    seed: int,
    plans: Sequence[ScenePlan],
    latents: bool = False,
    classes: Sequence[str] | None = None,
    speed: float = 0.0,
    kinds: KindSet = "bench",
    workers: Workers = Workers(),
    on_shard: Callable[[int, int], None] | None = None,
) -> BuildReport:
    """Build every missing shard.

    Args:
        out: Store folder; created if missing.
        assets: Folder of recordings and pictures that `fetch` prepared.
        encoders: Encoders of the model to train.
        split: Split whose recordings, pictures and prompt templates are used.
        seed: Random seed of the scenes.
        plans: Scenes to make.
        latents: Store the latents of the waveform too, for recipes that do not augment.
        classes: Classes of the sources. Default: all.
        speed: Speed perturbation: play recordings faster or slower by up to this fraction, with
            other factors in each shard (`SceneAssets.at_other_speeds`).
        kinds: "all": scenes of all kinds of sound, with typed prompts beside the captions.
            "bench": of those of the benchmark scenes.
        workers: Make the shards.
        on_shard: Called with (shards done, number of shards).

    Raises:
        ConfigError: If the folder holds other features, or a class is unknown.
    """
    for plan in plans:
        check_duration(
            plan.duration_s, "plans"
        )  # before the folder is made: no scene would be drawn
    pictured = any(plan.kind not in ("audio", "bed") for plan in plans)
    chosen = None if classes is None else tuple(classes)
    catalogue = _open(assets, chosen, kinds).catalogue
    return build_store(
        out,
        description={
            "corpus": "stage",
            "catalogue_sha256": catalogue.digest,
            **encoders.describe(pictures=pictured, latents=latents),
            "split": split,
            "seed": seed,
            "plans": [asdict(p) for p in plans],
            **({"speed": speed} if speed else {}),
            "texts": _num_texts(kinds),
        },
        attribution=attribution_tsv(
            (r for r in catalogue.recordings if r.split == split),
            (p for p in catalogue.pictures if p.split == split),
        ),
        jobs=[
            _Job(
                name=f"{plan.kind}-{plan.duration_s:g}s-{first:06d}",
                assets=real_path(assets),
                encoders=encoders,
                latents=latents,
                split=split,
                seed=seed,
                plan=replace(plan, count=min(SHARD_SCENES, plan.count - first)),
                first=first,
                classes=chosen,
                speed=speed,
                kinds=kinds,
            )
            for plan in plans
            for first in range(0, plan.count, SHARD_SCENES)
        ],
        make=_clips,
        workers=workers,
        on_shard=on_shard,
    )


def _num_texts(kinds: KindSet) -> dict[str, int]:
    typed = {"typed": NUM_TYPED} if kinds == "all" else {}
    return {"caption": NUM_CAPTIONS, "audio-only": NUM_BY_EAR, **typed}


def _clips(job: _Job) -> Iterator[ClipFeatures]:
    turn = job.first // SHARD_SCENES % NUM_SPEEDS if job.speed else 0
    assets = _open(job.assets, job.classes, job.kinds)
    if job.speed:
        assets = _at_speeds(job.assets, job.classes, job.kinds, job.speed, turn)
    encoders = load_encoders(job.encoders)
    for index in range(job.first, job.first + job.plan.count):
        scene = draw_scene(
            assets,
            split=job.split,
            seed=job.seed,
            index=index,
            kind=job.plan.kind,
            duration_s=job.plan.duration_s,
        )
        num_typed = NUM_TYPED if job.kinds == "all" else 0
        yield _clip(scene, assets, encoders, latents=job.latents, num_typed=num_typed)


@lru_cache(maxsize=2)  # all turns together would take gigabytes in every worker
def _at_speeds(
    assets: Path, classes: tuple[str, ...] | None, kinds: KindSet, speed: float, turn: int
) -> SceneAssets:
    return _open(assets, classes, kinds).at_other_speeds(speed, seed=turn)


@lru_cache(maxsize=1)
def _open(assets: Path, classes: tuple[str, ...] | None, kinds: KindSet) -> SceneAssets:
    opened = SceneAssets.open(assets, kinds=kinds)
    if classes is None:
        return opened
    known = opened.catalogue.class_ids
    unknown = [c for c in classes if c not in known]
    if unknown:
        raise ConfigError(f"no classes {', '.join(unknown)}; the corpus has {', '.join(known)}")
    return opened.of_classes(classes)


def _clip(
    scene: Scene, assets: SceneAssets, encoders: ClipEncoders, *, latents: bool, num_typed: int
) -> ClipFeatures:
    """Render and encode one scene."""
    # A separate generator: drawing captions must not change the scene.
    rng = np.random.default_rng([scene.seed, scene.index, 77])
    sound_N = _target(scene, assets)
    vision = sync = None
    if scene.has_picture:
        time, (vision_px, sync_px) = encoders.time, encoders.rendered_px
        vision, sync = encoders.pictures(
            render_frames(scene, assets, fps=time.vision_fps, size_px=vision_px),
            render_frames(scene, assets, fps=time.sync_fps, size_px=sync_px),
            duration_s=scene.duration_s,
        )
    return ClipFeatures(
        clip_id=scene.scene_id,
        duration_s=scene.duration_s,
        sound_N=sound_N,
        texts=encoders.texts(_caption_texts(scene, assets, rng, num_typed)),
        vision_TV=vision,
        sync_LS=sync,
        classes=tuple(e.class_id for e in scene.events if _is_target(scene, e)),
        latents_LC=encoders.latents(sound_N) if latents else None,
        pictured=_pictured(scene, assets),
    )


def _pictured(scene: Scene, assets: SceneAssets) -> tuple[str, ...]:
    """List the classes in the picture; drawn tools have none."""
    if not scene.has_picture:
        return ()
    class_of = {p.picture_id: p.class_id for p in assets.catalogue.pictures}
    shown = {class_of[o.picture_id] for o in scene.objects if o.picture_id is not None}
    return tuple(sorted(shown))


def _caption_texts(
    scene: Scene, assets: SceneAssets, rng: np.random.Generator, num_typed: int
) -> list[tuple[str, str]]:
    heard = replace(scene, events=tuple(e for e in scene.events if _is_target(scene, e)))
    catalogue, held_out = assets.catalogue, scene.split == "test"
    written = captions(heard, catalogue, count=NUM_CAPTIONS, rng=rng, held_out=held_out)
    by_ear = [
        audio_only_caption(heard, catalogue, rng=rng, held_out=held_out) for _ in range(NUM_BY_EAR)
    ]
    typed = [typed_prompt(heard, catalogue, rng=rng) for _ in range(num_typed)]
    return [*(("caption", t) for t in (*written, *typed)), *(("audio-only", t) for t in by_ear)]


def _is_target(scene: Scene, event: SceneEvent) -> bool:
    """Whether a V2A target holds the event: off-screen sounds only if there is no picture."""
    return event.on_screen or not scene.has_picture


def _target(scene: Scene, assets: SceneAssets) -> NDArray[np.float32]:
    """Mix the V2A target: training itself adds off-screen sounds, and names them."""
    sound = render_sound(scene, assets)
    heard = np.array([_is_target(scene, e) for e in scene.events], dtype=bool)
    target_N = sound.stems_EN[heard].sum(axis=0) + sound.ambience_N
    # Without off-screen sounds, peaks that cancelled may stand out.
    peak = float(np.abs(target_N).max())
    limited_N: NDArray[np.float32] = np.float32(min(1.0, PEAK / max(peak, 1e-9))) * target_N
    return limited_N
