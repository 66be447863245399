"""The training loop: exact resume, strict refusals, and a model that learns its conditions."""

from __future__ import annotations

import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.config import override
from omni2sound.data.batch import Difficulty, build_batch, sampler_for
from omni2sound.data.features import (
    ClipFeatures,
    FeatureStore,
    TextFeatures,
    describe_store,
    write_shard,
)
from omni2sound.data.sampler import TaskSampler
from omni2sound.errors import ConfigError, MissingPartError
from omni2sound.models.autoencoder import MelPcaAutoencoder, MelPcaConfig
from omni2sound.models.conditioning import ConditionerConfig
from omni2sound.models.dit import DiT, DiTConfig
from omni2sound.recipes.tiny import tiny
from omni2sound.train.loop import TrainOptions, frame_weights, learning_rate, train
from omni2sound.train.optimizer import OptimizerKind
from omni2sound.train.recipe import Recipe

RATE_HZ = 16_000


def text(role: str, words: str, rng: np.random.Generator) -> TextFeatures:
    states = rng.standard_normal((len(words.split()), 384)).astype(np.float16)
    return TextFeatures(role=role, text=words, states_TE=states)


def clip(index: int, *, video: bool, duration_s: float = 0.8) -> ClipFeatures:
    """A click at a drawn time; sync features say when, the off-screen sound is a constant."""
    rng = np.random.default_rng(index)
    samples, frames = int(duration_s * RATE_HZ), int(duration_s * 25)
    at = int(rng.integers(2, frames - 2))
    sound = np.zeros(samples, np.float32)
    sound[at * 640 : at * 640 + 320] = 0.2 * rng.standard_normal(320)
    sync = np.zeros((frames, 64), np.float16)
    sync[at] = 1
    return ClipFeatures(
        clip_id=f"clip-{index}",
        duration_s=duration_s,
        sound_N=sound,
        offscreen_N=np.full(samples, 0.25, np.float32) if video else None,
        texts=(
            text("caption", "a click", rng),
            text("dropped", "click", rng),
            text("offscreen", "a click and a hum", rng),
        ),
        vision_TV=rng.random((7, 1280)).astype(np.float16) if video else None,
        sync_LS=sync if video else None,
        classes=("click",),
        quality=index / 20 if index % 2 else None,
    )


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    folder = tmp_path / "features"
    describe_store(folder, {"made": "in a test"})
    write_shard(folder / "shard-0.arrow", [clip(i, video=True) for i in range(12)])
    write_shard(folder / "shard-1.arrow", [clip(i, video=False) for i in range(12, 18)])
    return FeatureStore([folder])


@pytest.fixture
def vae() -> MelPcaAutoencoder:
    model = MelPcaAutoencoder(MelPcaConfig(latent_dim=8))
    model.fit_pca(torch.from_numpy(clip(i, video=False).sound_N) for i in range(20))
    return model


def recipe(*, steps: int = 4) -> Recipe:
    base = tiny()
    stages = tuple(replace(s, steps=steps, warmup_steps=2) for s in base.stages)
    dit = DiTConfig(latent_dim=8, width=32, depth=1, num_heads=2, conditioner=ConditionerConfig())
    return replace(
        base, dit=dit, stages=stages, batch_seconds=3.2, precision="float32", validate_every=1000
    )


def run(
    out: Path, store: FeatureStore, vae: MelPcaAutoencoder, *, recipe: Recipe, **options: object
) -> tuple[dict[str, torch.Tensor], int]:
    torch.manual_seed(0)
    model = DiT(recipe.dit)
    settings = TrainOptions(out=out, **options)  # type: ignore[arg-type]
    weights, result = train(model, recipe, store, store, vae, settings)
    return weights, result.steps


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_is_the_same_run(
    tmp_path: Path, store: FeatureStore, vae: MelPcaAutoencoder, optimizer: OptimizerKind
) -> None:
    chosen = replace(recipe(), optimizer=optimizer)
    whole, _ = run(tmp_path / "a", store, vae, recipe=chosen)
    run(tmp_path / "b", store, vae, recipe=chosen, max_steps=5)
    parts, steps = run(tmp_path / "b", store, vae, recipe=chosen, resume=True)
    assert steps == 12
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_another_recipe_or_other_data_is_refused(
    tmp_path: Path, store: FeatureStore, vae: MelPcaAutoencoder
) -> None:
    run(tmp_path / "a", store, vae, recipe=recipe(), max_steps=1)
    with pytest.raises(ConfigError, match="add --resume or use another --out"):
        run(tmp_path / "a", store, vae, recipe=recipe())
    changed = override(recipe(), "stages.0.lr", 0.5)
    with pytest.raises(ConfigError, match=r"can't resume .* recipe was"):
        run(tmp_path / "a", store, vae, recipe=changed, resume=True)
    store.description = [{"made": "elsewhere"}]
    with pytest.raises(ConfigError, match="data was"):
        run(tmp_path / "a", store, vae, recipe=recipe(), resume=True)


def test_validation_falls_when_it_trains(
    tmp_path: Path, store: FeatureStore, vae: MelPcaAutoencoder
) -> None:
    settings = recipe(steps=60)
    losses = []
    torch.manual_seed(0)
    model = DiT(settings.dit)
    from omni2sound.train.loop import validation_loss

    losses.append(validation_loss(model, store, vae, settings))
    weights, result = train(model, settings, store, store, vae, TrainOptions(out=tmp_path / "a"))
    model.load_state_dict(weights)
    losses.append(validation_loss(model, store, vae, settings))
    assert result.finished
    assert all(losses[1][task] < 0.9 * losses[0][task] for task in losses[0])
    assert set(result.stage_converged) == {s.name for s in settings.stages}


def test_a_batch_does_not_depend_on_the_number_of_ranks(store: FeatureStore) -> None:
    sampler = sampler_for(store, seed=3, batch_seconds=3.2)
    draw = sampler.draw(5, {"VT2A": 1.0})
    hard = Difficulty(offscreen_prob=0.5, token_drop_sample_prob=0.5, null_prob=0.5)
    whole = build_batch(store, draw, seed=3, step=5, difficulty=hard)
    halves = [
        build_batch(store, draw, seed=3, step=5, difficulty=hard, rank=r, world_size=2)
        for r in range(2)
    ]
    for i, clip_id in enumerate(whole.clip_ids):
        part = halves[i % 2]
        assert part.clip_ids[i // 2] == clip_id
        assert part.noise_seeds_B[i // 2] == whole.noise_seeds_B[i]
        assert part.texts[i // 2] == whole.texts[i]
        assert torch.equal(part.waveform_BN[i // 2], whole.waveform_BN[i])
    with pytest.raises(ConfigError, match="can't be shared by 3 ranks"):
        draw.rank_slice(0, 3)


@pytest.mark.parametrize("task", ["T2A", "V2A", "VT2A"])
def test_unseen_sounds_and_dropped_words_touch_vt2a_only(store: FeatureStore, task: str) -> None:
    sampler = sampler_for(store, seed=0, batch_seconds=3.2)
    hard = Difficulty(offscreen_prob=0.5, token_drop_sample_prob=1.0, augment=False)
    seen: Counter[str] = Counter()
    for step in range(20):
        batch = build_batch(
            store, sampler.draw(step, {task: 1.0}), seed=0, step=step, difficulty=hard
        )
        for i, words in enumerate(batch.texts):
            mixed = bool((batch.waveform_BN[i].abs() > 0.2).float().mean() > 0.9)  # the hum
            assert mixed == batch.offscreen_B[i] == (words == "a click and a hum")
            seen[words] += 1
    expected = {"T2A": {"a click"}, "V2A": {""}, "VT2A": {"click", "a click and a hum"}}
    assert set(seen) == expected[task]


def test_few_clips_with_an_unseen_sound_serve_the_whole_share(tmp_path: Path) -> None:
    """One clip in twelve has an unseen sound; the asked half of the samples has one."""
    folder = tmp_path / "features"
    describe_store(folder, {"made": "in a test"})
    clips = [clip(0, video=True)]
    clips += [replace(clip(i, video=True), offscreen_N=None) for i in range(1, 12)]
    write_shard(folder / "shard-0.arrow", clips)
    store = FeatureStore([folder])
    sampler = sampler_for(store, seed=0, batch_seconds=8.0)
    half = Difficulty(offscreen_prob=0.5)
    mixed = []
    for step in range(40):
        draw = sampler.draw(step, {"VT2A": 1.0})
        batch = build_batch(store, draw, seed=0, step=step, difficulty=half)
        mixed += batch.offscreen_B
        assert all(
            c == "clip-0" for c, o in zip(batch.clip_ids, batch.offscreen_B, strict=True) if o
        )
    assert np.mean(mixed) == pytest.approx(0.5, abs=0.1)


def test_what_a_later_stage_needs_is_asked_for_at_once(
    tmp_path: Path, vae: MelPcaAutoencoder
) -> None:
    folder = tmp_path / "sound-only"
    describe_store(folder, {"made": "in a test"})
    write_shard(folder / "shard-0.arrow", [clip(i, video=False) for i in range(4)])
    store = FeatureStore([folder])
    with pytest.raises(ConfigError, match="no clips for tasks"):
        run(tmp_path / "a", store, vae, recipe=recipe())


def test_ctrl_c_ends_after_a_whole_step_and_the_run_goes_on_exactly(
    tmp_path: Path, store: FeatureStore, vae: MelPcaAutoencoder
) -> None:
    whole, _ = run(tmp_path / "a", store, vae, recipe=recipe())

    def interrupt(step: int, _: int) -> None:
        if step == 5:
            signal.raise_signal(signal.SIGINT)

    torch.manual_seed(0)
    model = DiT(recipe().dit)
    _, result = train(
        model, recipe(), store, store, vae, TrainOptions(out=tmp_path / "b"), on_step=interrupt
    )
    assert (result.steps, result.reason) == (5, "interrupted")
    parts, _ = run(tmp_path / "b", store, vae, recipe=recipe(), resume=True)
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_silent_frames_count_as_little_as_asked() -> None:
    waveform = torch.zeros(1, 10 * 640)
    waveform[:, 5 * 640 : 6 * 640] = 0.5
    weights = frame_weights(waveform, 10, silence=0.1)[0]
    torch.testing.assert_close(weights[[4, 5, 6]], torch.ones(3))
    torch.testing.assert_close(weights[:4], torch.full((4,), 0.1))


@given(step=st.integers(0, 10_000))
def test_a_draw_is_a_function_of_the_step(step: int) -> None:
    groups = {"T2A": {4.0: range(50), 10.0: range(50, 60)}, "V2A": {4.0: range(9)}}
    weights = {"T2A": 0.5, "V2A": 0.5}
    draws = [
        TaskSampler(seed=1, batch_seconds=40, clips_by_task=groups).draw(step, weights)
        for _ in range(2)
    ]
    assert draws[0] == draws[1]
    assert len(draws[0].clips) == 40 / draws[0].duration_s
    assert set(draws[0].clips) <= set(groups[draws[0].task][draws[0].duration_s])


def test_tasks_come_in_the_asked_proportions() -> None:
    weights = {"V2A": 0.55, "VT2A": 0.35, "T2A": 0.10}
    groups = {task: {4.0: range(10)} for task in weights}
    sampler = TaskSampler(seed=0, batch_seconds=4, clips_by_task=groups)
    counts = Counter(sampler.draw(step, weights).task for step in range(4000))
    for task, weight in weights.items():
        assert abs(counts[task] - 4000 * weight) < 4 * (4000 * weight * (1 - weight)) ** 0.5


def test_the_rate_warms_up_and_falls_to_its_end() -> None:
    stage = replace(tiny().stages[0], steps=100, warmup_steps=10, lr=1.0, final_lr=0.1)
    rates = [learning_rate(stage, i) for i in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == max(rates) == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


def test_a_store_is_what_was_written_and_is_not_mixed(tmp_path: Path, store: FeatureStore) -> None:
    first = clip(0, video=True)
    read = store[0]
    np.testing.assert_allclose(read.sound_N, first.sound_N, atol=1 / 32767)
    np.testing.assert_array_equal(read.sync_LS, first.sync_LS)
    np.testing.assert_array_equal(read.texts[2].states_TE, first.texts[2].states_TE)
    assert read.classes == ("click",)
    assert read.quality is None
    assert store.qualities[1] == store[1].quality == pytest.approx(1 / 20)
    assert store[12].sync_LS is None
    with pytest.raises(ConfigError, match="made with another made"):
        describe_store(tmp_path / "features", {"made": "another way"})
    with pytest.raises(MissingPartError, match="no features in"):
        FeatureStore([tmp_path])
