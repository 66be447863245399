"""From scenes to a feature store: rendered, encoded, written shard by shard.

In:   prepared assets, frozen encoders, a plan (how many scenes of which kind and length).
Out:  a folder that `data.features.FeatureStore` reads.

A shard is one unit of work for one process; existing shards are kept, so a stopped run
goes on where it was. Scenes are a function of (split, seed, kind, index) and encoders are
frozen, so a store is a function of its description.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from omni2sound.config import from_json
from omni2sound.data.augment import drop_words
from omni2sound.data.features import ClipFeatures, TextFeatures, describe_store, write_shard
from omni2sound.data.stage.assets import StageAssets
from omni2sound.data.stage.captions import captions
from omni2sound.data.stage.catalogue import Split
from omni2sound.data.stage.licences import attribution_tsv
from omni2sound.data.stage.render import PEAK, render_frames, render_sound
from omni2sound.data.stage.scene import draw_scene
from omni2sound.data.stage.truth import Scene, SceneEvent, SceneKind
from omni2sound.encoders.sync import SyncConfig, SyncEncoder
from omni2sound.encoders.text import TextEncoder
from omni2sound.encoders.vision import VisionEncoder
from omni2sound.errors import UserError
from omni2sound.runtime import atomic_path
from omni2sound.timebase import TimeBase
from omni2sound.weights import ATTRIBUTION_FILE, load_card, load_part

__all__ = ["ScenePlan", "build_features"]

_log = logging.getLogger(__name__)

SHARD_SCENES = 32
VISION_PX = 224
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

    path: Path
    assets: Path
    model: Path | None
    split: Split
    seed: int
    plan: ScenePlan
    first: int
    num_threads: int


def build_features(
    out: Path,
    *,
    assets: Path,
    model: Path | None,
    split: Split,
    seed: int,
    plans: Sequence[ScenePlan],
    num_workers: int = 1,
    on_shard: Callable[[int, int], None] | None = None,
) -> None:
    """Make every shard that is missing.

    Args:
        out: Store folder.
        assets: Prepared stage corpus.
        model: Model folder with the sync encoder; None if no plan has pictures.
        split: Which recordings, pictures and wordings may be used.
        seed: Of the scenes.
        plans: What to make.
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
    describe_store(
        out,
        {
            "corpus": "stage",
            "catalogue_sha256": catalogue.digest,
            "sync_sha256": load_card(model).files["sync"] if pictured and model else None,
            "split": split,
            "seed": seed,
            "plans": [asdict(p) for p in plans],
        },
    )
    attribution = attribution_tsv(
        (r for r in catalogue.recordings if r.split == split),
        (p for p in catalogue.pictures if p.split == split),
    )
    with atomic_path(out / ATTRIBUTION_FILE) as temporary:
        temporary.write_text(attribution, encoding="utf-8")
    jobs = [
        _Job(
            path=out / f"{plan.kind}-{plan.duration_s:g}s-{first:06d}.arrow",
            assets=assets,
            model=model,
            split=split,
            seed=seed,
            plan=replace(plan, count=min(SHARD_SCENES, plan.count - first)),
            first=first,
            num_threads=max(1, torch.get_num_threads() // num_workers),
        )
        for plan in plans
        for first in range(0, plan.count, SHARD_SCENES)
    ]
    missing = [job for job in jobs if not job.path.exists()]
    _log.info("%d of %d shards to make in %s", len(missing), len(jobs), out)
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
        for done, _ in enumerate(
            pool.map(_make_shard, missing), start=len(jobs) - len(missing) + 1
        ):
            if on_shard is not None:
                on_shard(done, len(jobs))


def _make_shard(job: _Job) -> None:
    torch.set_num_threads(job.num_threads)
    write_shard(job.path, _clips(job))


def _clips(job: _Job) -> Iterator[ClipFeatures]:
    encoders = _load(job.assets, job.model)
    for index in range(job.first, job.first + job.plan.count):
        scene = draw_scene(
            encoders.assets,
            split=job.split,
            seed=job.seed,
            index=index,
            kind=job.plan.kind,
            duration_s=job.plan.duration_s,
        )
        yield encoders.clip(scene)


@lru_cache(maxsize=1)
def _load(assets: Path, model: Path | None) -> _Encoders:
    return _Encoders(StageAssets.open(assets), model)


class _Encoders:
    """What one worker process holds."""

    def __init__(self, assets: StageAssets, model: Path | None) -> None:
        self.assets = assets
        self.time = TimeBase()
        self.text = TextEncoder.load()
        self._model = model

    @cached_property
    def vision(self) -> VisionEncoder:
        return VisionEncoder.load()

    @cached_property
    def sync(self) -> SyncEncoder:
        assert self._model is not None  # build_features has refused pictures without a model
        card = load_card(self._model)
        sync = SyncEncoder(from_json(SyncConfig, card.parts["sync"])).eval()
        load_part(card, "sync", sync)
        return sync

    def clip(self, scene: Scene) -> ClipFeatures:
        """Everything that training may need of one scene."""
        # Its own generator: what captions draw must not move the scene.
        rng = np.random.default_rng([scene.seed, scene.index, 77])
        sound, offscreen = _sounds(scene, self.assets, rng)
        vision = sync = None
        if scene.has_picture:
            pictures = render_frames(
                scene, self.assets, fps=self.time.vision_fps, size_px=VISION_PX
            )
            vision = self.vision.embed(pictures).half().numpy()
            size = self.sync.config.frame_px
            frames = render_frames(scene, self.assets, fps=self.time.sync_fps, size_px=size)
            # A length that is no whole number of frames may render one more than it has latents.
            num_frames = self.time.num_latent_frames(scene.duration_s)
            sync = self.sync.embed(frames)[:num_frames].half().numpy()
        return ClipFeatures(
            clip_id=scene.scene_id,
            duration_s=scene.duration_s,
            sound_N=sound,
            offscreen_N=offscreen,
            texts=self._texts(scene, rng),
            vision_TV=vision,
            sync_LS=sync,
            classes=tuple(e.class_id for e in scene.events),
        )

    def _texts(self, scene: Scene, rng: np.random.Generator) -> tuple[TextFeatures, ...]:
        on_screen = replace(scene, events=tuple(e for e in scene.events if _is_target(scene, e)))
        held_out = scene.split == "test"
        told = captions(
            on_screen, self.assets.catalogue, count=NUM_CAPTIONS, rng=rng, held_out=held_out
        )
        texts = [("caption", t) for t in told] + [("dropped", drop_words(told[0], rng))]
        if scene.kind == "offscreen":
            both = captions(scene, self.assets.catalogue, count=2, rng=rng, held_out=held_out)
            texts += [("offscreen", t) for t in both]
        tokens = self.text([t for _, t in texts])
        return tuple(
            TextFeatures(role=role, text=text, states_TE=states[mask].half().numpy())
            for (role, text), states, mask in zip(
                texts, tokens.states_BTD, tokens.mask_BT, strict=True
            )
        )


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
