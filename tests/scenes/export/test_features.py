"""Features of scenes: complete, repeatable, resumable, and true to the tasks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from omni2sound.config import to_json
from omni2sound.data.batches.batch import build_batch, sampler_for
from omni2sound.data.batches.hard_samples import Difficulty
from omni2sound.data.store.encode import EncoderSource
from omni2sound.data.store.rows import FeatureStore
from omni2sound.encoders.sync import SyncConfig, SyncEncoder
from omni2sound.errors import ConfigError, UserError
from omni2sound.recipes import recipe_named
from omni2sound.recipes.ablations import ABLATIONS
from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.export.features import NUM_BY_EAR, NUM_CAPTIONS, ScenePlan, build_features
from omni2sound.scenes.export.sync_batches import sync_batches
from omni2sound.scenes.export.sync_pairs import sync_pairs
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, STORE_CATALOGUE, SceneAssets
from omni2sound.scenes.render.render import render_sound
from omni2sound.timebase import TimeBase
from omni2sound.weights import load_card, part_sha256, save_model
from tests.build import tiny_model_folder

SYNC = SyncConfig(frame_px=16, channels=(4, 8), feature_dim=6)
PLANS = (
    ScenePlan(kind="audio", count=2, duration_s=2.0),
    ScenePlan(kind="offscreen", count=2, duration_s=2.0),
)
ODD_S = 2.2  # just above 2.2 as a float: 56 frames of 1/25 s, but 55 latent frames


@pytest.fixture(scope="module")
def corpus(assets: SceneAssets, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "recordings").mkdir()
    (folder / "pictures").mkdir()
    for r in assets.catalogue.recordings:
        path = folder / "recordings" / f"{r.recording_id}.flac"
        soundfile.write(path, assets.waveform(r.recording_id), SAMPLE_RATE_HZ)
    for p in assets.catalogue.pictures:
        Image.fromarray(assets.rgba(p.picture_id)).save(folder / "pictures" / f"{p.picture_id}.png")
    (folder / STORE_CATALOGUE).write_text(assets.catalogue.to_json())
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "parts"
    save_model(
        folder,
        name="parts",
        parts={"sync": to_json(SYNC)},
        tensors={"sync": SyncEncoder(SYNC).state_dict()},
        defaults={},
        training={},
    )
    return folder


@pytest.fixture(scope="module")
def encoders(model: Path) -> EncoderSource:
    return EncoderSource(model=model)


@pytest.fixture(scope="module")
def built(corpus: Path, encoders: EncoderSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("features")
    build_features(out, assets=corpus, encoders=encoders, split="train", seed=0, plans=PLANS)
    return out


def test_every_planned_scene_is_there(built: Path) -> None:
    store = FeatureStore([built])
    assert len(store) == 4
    assert store.has_video.tolist() == [False, False, True, True]
    for i in (2, 3):
        clip = store[i]
        assert clip.vision_TV is not None
        assert clip.sync_LS is not None
        assert clip.vision_TV.shape == (16, 1280)
        assert clip.sync_LS.shape == (50, 6)
        assert len(clip.sound_N) == 32_000
    for clip in (store[i] for i in range(4)):
        roles = [t.role for t in clip.texts]
        assert roles == ["caption"] * NUM_CAPTIONS + ["audio-only"] * NUM_BY_EAR


def test_a_video_target_does_not_hold_the_unseen(built: Path, corpus: Path) -> None:
    """The target is the on-screen stems and ambience, up to one common factor."""
    assets = SceneAssets.open(corpus)
    store = FeatureStore([built])
    scene = draw_scene(assets, split="train", seed=0, index=0, kind="offscreen", duration_s=2.0)
    sound = render_sound(scene, assets)
    seen = np.array([e.on_screen for e in scene.events])
    assert not seen.all()
    target = sound.stems_EN[seen].sum(axis=0) + sound.ambience_N
    clip = store[2]
    factor = float(clip.sound_N @ target / (target @ target))
    np.testing.assert_allclose(clip.sound_N, factor * target, atol=2e-4)
    assert clip.classes == tuple(e.class_id for e in scene.events if e.on_screen)


def test_a_row_names_all_that_is_pictured(built: Path, corpus: Path) -> None:
    assets, store = SceneAssets.open(corpus), FeatureStore([built])
    class_of = {p.picture_id: p.class_id for p in assets.catalogue.pictures}
    for index in (0, 1):
        assert store[index].pictured == ()  # no picture
        scene = draw_scene(
            assets, split="train", seed=0, index=index, kind="offscreen", duration_s=2.0
        )
        shown = {class_of[o.picture_id] for o in scene.objects if o.picture_id is not None}
        assert set(store[2 + index].pictured) == shown
        assert {e.class_id for e in scene.events if e.on_screen} <= shown


def test_every_ablation_finds_its_captions(built: Path) -> None:
    """Features of scenes alone are enough to run each of them."""
    store = FeatureStore([built])
    for name in ABLATIONS:
        for stage in recipe_named(f"tiny+{name}").stages:
            sampler = sampler_for(store, seed=0, batch_seconds=4)
            batch = build_batch(
                store,
                sampler.draw(0, stage.task_weights),
                seed=0,
                step=0,
                difficulty=Difficulty(),
                caption_role=stage.caption_role,
            )
            wanted = {
                t.text
                for i in range(len(store))
                for t in store[i].texts
                if t.role == stage.caption_role
            }
            assert {text for text in batch.texts if text} <= wanted


def test_latents_are_kept_where_they_are_asked_for(
    corpus: Path, built: Path, tmp_path: Path
) -> None:
    whole = tiny_model_folder(tmp_path / "model")
    plans = [ScenePlan(kind="audio", count=1, duration_s=2.0)]
    arguments = {"assets": corpus, "split": "train", "seed": 0, "plans": plans, "latents": True}
    build_features(tmp_path / "f", encoders=EncoderSource(model=whole), **arguments)  # type: ignore[arg-type]
    made = FeatureStore([tmp_path / "f"])[0].latents_LC
    assert made is not None
    assert made.shape == (50, 8)
    assert FeatureStore([built])[0].latents_LC is None
    digest = part_sha256(load_card(whole), "autoencoder")
    for wanted, fits in ((digest, True), ("another", False)):
        store = FeatureStore([tmp_path / "f"], autoencoder_sha256=wanted)
        assert (store[0].latents_LC is not None) == fits


def test_a_stopped_build_goes_on_and_gives_the_same(
    built: Path, corpus: Path, encoders: EncoderSource, tmp_path: Path
) -> None:
    first = sorted(built.glob("*.arrow"))[0]
    arguments = {
        "assets": corpus,
        "encoders": encoders,
        "split": "train",
        "seed": 0,
    }
    build_features(tmp_path, plans=PLANS, **arguments)  # type: ignore[arg-type]
    before = (tmp_path / first.name).stat().st_mtime_ns
    other = sorted(tmp_path.glob("*.arrow"))[1]
    other.unlink()
    build_features(tmp_path, plans=PLANS, **arguments)  # type: ignore[arg-type]
    assert (tmp_path / first.name).stat().st_mtime_ns == before
    for path in built.glob("*.arrow"):
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_there_is_one_sync_feature_per_latent_frame(
    corpus: Path, encoders: EncoderSource, tmp_path: Path
) -> None:
    plans = [ScenePlan(kind="strike", count=1, duration_s=ODD_S)]
    build_features(
        tmp_path,
        assets=corpus,
        encoders=encoders,
        split="train",
        seed=0,
        plans=plans,
    )
    clip = FeatureStore([tmp_path])[0]
    assert clip.sync_LS is not None
    assert len(clip.sync_LS) == TimeBase().num_latent_frames(ODD_S) == 55


def test_everything_used_is_listed_with_its_licence(built: Path, corpus: Path) -> None:
    catalogue = SceneAssets.open(corpus).catalogue
    (listed,) = FeatureStore([built]).attribution
    for r in catalogue.recordings:
        assert (r.recording_id in listed) == (r.split == "train")


@pytest.mark.parametrize("duration_s", [0.0, -1.0, 1e6, float("nan")])
def test_a_length_that_no_scene_has_leaves_no_store(
    corpus: Path, encoders: EncoderSource, tmp_path: Path, duration_s: float
) -> None:
    plans = [ScenePlan(kind="main", count=2, duration_s=duration_s)]
    out = tmp_path / "out"
    with pytest.raises(UserError, match="plans: expected"):
        build_features(out, assets=corpus, encoders=encoders, split="train", seed=0, plans=plans)
    assert not out.exists()


def test_a_store_made_otherwise_is_refused(
    built: Path, corpus: Path, encoders: EncoderSource, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"other settings \(seed\)"):
        build_features(
            built,
            assets=corpus,
            encoders=encoders,
            split="train",
            seed=1,
            plans=PLANS,
        )
    save_model(tmp_path / "parts", name="p", parts={}, tensors={}, defaults={}, training={})
    sound_only = EncoderSource(model=tmp_path / "parts")
    with pytest.raises(UserError, match="encodes no pictures: it has no sync"):
        build_features(
            tmp_path / "x", assets=corpus, encoders=sound_only, split="train", seed=0, plans=PLANS
        )


def test_sync_examples_follow_the_truth(corpus: Path) -> None:
    config = replace(SYNC, frame_px=16)
    batches = list(
        sync_batches(corpus, config, split="train", seed=0, num_batches=1, num_workers=0)
    )
    assets = SceneAssets.open(corpus)
    strike = draw_scene(assets, split="train", seed=0, index=1, kind="strike", duration_s=4.0)
    assert len(batches) == 1
    assert batches[0].frames_BTHWK.shape == (8, 100, 16, 16, 3)
    assert int(batches[0].onset_BT[1].argmax()) == int(strike.events[0].onset_s * 25)
    assert batches[0].level_BT.max() <= 1


def test_pairs_of_views_share_their_onsets_and_follow_from_the_seed(corpus: Path) -> None:
    config = replace(SYNC, frame_px=16)
    (first,), (again,) = (
        list(sync_pairs(corpus, config, split="train", seed=3, num_batches=1, num_workers=0))
        for _ in range(2)
    )
    assert first.easy_BTHWK.shape == first.hard_BTHWK.shape == (8, 100, 16, 16, 3)
    assert torch.equal(first.easy_BTHWK, again.easy_BTHWK)
    assert torch.equal(first.hard_BTHWK, again.hard_BTHWK)
    # The easy view of a free motion changes most at its onsets.
    for i in (1, 3, 5, 7):
        change = first.easy_BTHWK[i].float().diff(dim=0).abs().mean(dim=(1, 2, 3))
        assert float(first.onset_BT[i, int(change.argmax()) + 1]) > 0
    scene = draw_scene(
        SceneAssets.open(corpus), split="train", seed=3, index=2, kind="strike", duration_s=4.0
    )
    assert int(first.onset_BT[2].argmax()) == int(scene.events[0].onset_s * 25)


def test_speeds_change_sound_and_description(
    built: Path, corpus: Path, encoders: EncoderSource, tmp_path: Path
) -> None:
    plans = PLANS[:1]
    build_features(
        tmp_path, assets=corpus, encoders=encoders, split="train", seed=0, plans=plans, speed=0.2
    )
    plain, sped = FeatureStore([built]), FeatureStore([tmp_path])
    assert sped.description[0]["speed"] == 0.2
    assert "speed" not in plain.description[0]
    assert not np.array_equal(plain[0].sound_N, sped[0].sound_N)
    with pytest.raises(ConfigError, match="speed"):
        build_features(
            tmp_path, assets=corpus, encoders=encoders, split="train", seed=0, plans=plans
        )
