"""Batches made on a device: by the rules of `build_batch`, and nothing else is touched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.robustness.click_corpus import click_clip, click_store
from omni2sound.data.batches.batch import Batch, sampler_for
from omni2sound.data.batches.hard_samples import LATEST_ONSET, Difficulty, mix_offscreen
from omni2sound.data.batches.on_device import DeviceFeatures
from omni2sound.data.store.index import describe_store
from omni2sound.data.store.rows import ClipFeatures, FeatureStore, write_shard
from omni2sound.encoders.text import TextEncoder
from omni2sound.errors import ConfigError

PLAIN = Difficulty(augment=False)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder.load()


@pytest.fixture(scope="module")
def store(encoder: TextEncoder, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return click_store(tmp_path_factory.mktemp("corpus") / "features", encoder)


@pytest.fixture(scope="module")
def resident(store: FeatureStore) -> DeviceFeatures:
    return DeviceFeatures(store, CPU)


def batch(
    store: FeatureStore,
    resident: DeviceFeatures,
    task: str,
    difficulty: Difficulty,
    *,
    step: int = 0,
    seconds: float = 12.8,
    encoder: TextEncoder | None = None,
) -> Batch:
    draw = sampler_for(store, seed=0, batch_seconds=seconds).draw(step, {task: 1.0})
    return resident.batch(draw, seed=0, step=step, difficulty=difficulty, prompts=encoder)


@pytest.mark.parametrize("task", ["T2A", "V2A", "VT2A"])
def test_without_difficulty_a_batch_is_what_the_store_holds(
    store: FeatureStore, resident: DeviceFeatures, task: str
) -> None:
    clips = {store[i].clip_id: store[i] for i in range(len(store))}
    made = batch(store, resident, task, PLAIN)
    assert not made.drop_B.any()
    for i, clip_id in enumerate(made.clip_ids):
        clip = clips[clip_id]
        np.testing.assert_allclose(made.waveform_BN[i].numpy(), clip.sound_N, atol=1e-7)
        c = made.conditions
        assert float(c.seconds_total_B[i]) == pytest.approx(clip.duration_s)
        if task == "V2A":
            assert (c.text_BTE, made.texts[i]) == (None, "")
        else:
            states = {t.text: t.states_TE for t in clip.texts}[made.texts[i]]
            assert c.text_BTE is not None
            assert c.text_mask_BT is not None
            np.testing.assert_array_equal(c.text_BTE[i][c.text_mask_BT[i]], states)
            assert not c.text_BTE[i][~c.text_mask_BT[i]].any()
        if task == "T2A":
            assert c.sync_BLS is None
        else:
            np.testing.assert_array_equal(c.sync_BLS[i], clip.sync_LS)
            np.testing.assert_array_equal(c.vision_BTV[i], clip.vision_TV)


def test_a_batch_is_a_function_of_seed_and_step(
    store: FeatureStore, resident: DeviceFeatures, encoder: TextEncoder
) -> None:
    hard = Difficulty(
        offscreen_prob=0.5,
        token_drop_sample_prob=0.5,
        null_prob=0.5,
        text_noise=0.5,
        text_drop=0.5,
        speed=0.2,
    )

    def made(step: int, task: str) -> Batch:
        return batch(store, resident, task, hard, step=step, encoder=encoder)

    for task in ("T2A", "V2A", "VT2A"):
        once, again, later = made(3, task), made(3, task), made(4, task)
        assert torch.equal(once.waveform_BN, again.waveform_BN)
        assert once.noise_seeds_B == again.noise_seeds_B != later.noise_seeds_B
        assert not torch.equal(once.waveform_BN, later.waveform_BN)
        if once.conditions.text_BTE is not None:
            assert torch.equal(once.conditions.text_BTE, again.conditions.text_BTE)


def test_an_unseen_sound_is_mixed_in_as_loud_as_drawn_and_told(
    store: FeatureStore, resident: DeviceFeatures, encoder: TextEncoder
) -> None:
    clips = {store[i].clip_id: store[i] for i in range(len(store))}
    certain = replace(PLAIN, offscreen_prob=1.0, offscreen_snr_db=(3.0, 3.0))
    made = batch(store, resident, "VT2A", certain, encoder=encoder)
    count = 0
    for i, clip_id in enumerate(made.clip_ids):
        own = clips[clip_id].sound_N.astype(np.float64)
        added = made.waveform_BN[i].numpy() - own
        if not np.abs(added).max() > 1e-6:
            continue  # eight tries found nothing of another class
        count += 1
        assert np.abs(made.waveform_BN[i].numpy()).max() < 1  # so nothing was turned down
        own_words = {t.text for t in clips[clip_id].texts}
        assert any(words in made.texts[i] for words in own_words)
        assert made.texts[i] not in own_words
        # One of the others, mixed in by the host's function where it begins here.
        first = int(np.flatnonzero(np.abs(added) > 1e-7)[0])
        found = [
            mix_offscreen(
                clips[clip_id].sound_N,
                other.sound_N,
                clip_id=other.clip_id,
                caption="",
                snr_db=3.0,
                onset=(start + 0.5) / (LATEST_ONSET * len(own)),
            )
            for other in clips.values()
            if other.classes != clips[clip_id].classes
            for start in range(first - lead(other) - 2, first - lead(other) + 3)
            if start >= 0
        ]
        away = [np.abs(made.waveform_BN[i].numpy() - f[0]).max() for f in found if f is not None]
        assert min(away) < 1e-5
        states = encoder([made.texts[i]]).states_BTD[0].half().float()
        told = made.conditions.text_BTE[i][made.conditions.text_mask_BT[i]]
        torch.testing.assert_close(told, states, atol=2e-3, rtol=0)
    assert count >= len(made.clip_ids) // 2


def lead(clip: ClipFeatures) -> int:
    """Samples of silence at the start of what is cut out of a clip."""
    loud_N = np.abs(clip.sound_N)
    begin = max(0, int(np.argmax(loud_N >= 0.05 * loud_N.max())) - 160)
    return int(np.argmax(loud_N > 0)) - begin


@pytest.mark.parametrize("task", ["T2A", "V2A"])
def test_other_tasks_are_not_made_harder(
    store: FeatureStore, resident: DeviceFeatures, task: str
) -> None:
    certain = replace(PLAIN, offscreen_prob=1.0, token_drop_sample_prob=1.0)
    plain, hard = (batch(store, resident, task, d) for d in (PLAIN, certain))
    assert torch.equal(plain.waveform_BN, hard.waveform_BN)
    assert plain.texts == hard.texts


def test_only_clips_that_nobody_sees_are_played_at_other_rates(
    store: FeatureStore, resident: DeviceFeatures
) -> None:
    fast = replace(PLAIN, speed=0.2)
    for task in ("V2A", "VT2A"):
        plain, made = (batch(store, resident, task, d) for d in (PLAIN, fast))
        assert torch.equal(plain.waveform_BN, made.waveform_BN)
    plain, made = (batch(store, resident, "T2A", d) for d in (PLAIN, fast))
    rates = []
    for before, after in zip(plain.waveform_BN, made.waveform_BN, strict=True):
        starts = [int(torch.argmax((x.abs() > 0.02).int())) for x in (before, after)]
        rates.append(starts[0] / starts[1])
    assert 1 / 1.21 < min(rates) < 0.95
    assert 1.05 < max(rates) < 1.21
    # What is played faster is over sooner, and its end is masked.
    assert made.valid_frames_B is not None
    for rate, frames, seconds in zip(
        rates, made.valid_frames_B.tolist(), made.conditions.seconds_total_B.tolist(), strict=True
    ):
        assert seconds == pytest.approx(0.8 / max(1, rate), rel=0.03)
        assert frames == int(25 * seconds + 1e-6)
    quiet = made.waveform_BN[torch.tensor(rates).argmax()]
    assert not quiet[640 * int(made.valid_frames_B.min() + 1) :].any()


def test_dropped_tokens_are_dropped_before_the_encoder(
    store: FeatureStore, resident: DeviceFeatures, encoder: TextEncoder
) -> None:
    losing = replace(PLAIN, token_drop_sample_prob=1.0, token_drop_prob=0.6)
    made = batch(store, resident, "VT2A", losing, encoder=encoder)
    mask_BT = made.conditions.text_mask_BT
    whole = [len(encoder.token_ids([t])[0]) for t in made.texts]
    left = mask_BT.sum(dim=1).tolist()
    assert all(3 <= n <= w for n, w in zip(left, whole, strict=True))
    assert 0.3 < (sum(whole) - sum(left)) / (sum(whole) - 2 * len(whole)) < 0.8


def test_perturbed_prompts_keep_a_token_and_spread_as_asked(
    store: FeatureStore, resident: DeviceFeatures
) -> None:
    plain = batch(store, resident, "T2A", PLAIN, seconds=160)
    dropped = batch(store, resident, "T2A", replace(PLAIN, text_drop=0.5), seconds=160)
    before, after = (b.conditions.text_mask_BT for b in (plain, dropped))
    assert (after <= before).all()
    assert after.any(dim=1).all()
    assert 0.45 < float(after.sum() / before.sum()) < 0.65
    noisy = batch(store, resident, "T2A", replace(PLAIN, text_noise=0.5), seconds=160)
    added = noisy.conditions.text_BTE - plain.conditions.text_BTE
    spread = plain.conditions.text_BTE.std(dim=2, correction=0)[before]
    ratio = added.std(dim=2, correction=0)[before] / spread
    # Two draws of .5 each, one shared by the tokens of a text and one of each token.
    assert float(ratio.mean()) == pytest.approx(0.5 * 2**0.5, rel=0.03)


def test_filled_up_clips_are_refused(tmp_path: Path) -> None:
    describe_store(tmp_path, {"made": "here"})
    clip = replace(click_clip(0, video=True), valid_s=0.5)
    write_shard(tmp_path / "shard.arrow", [clip])
    with pytest.raises(ConfigError, match="filled up with silence"):
        DeviceFeatures(FeatureStore([tmp_path]), CPU)


def test_changed_prompts_need_an_encoder(store: FeatureStore, resident: DeviceFeatures) -> None:
    with pytest.raises(ConfigError, match="needs a text encoder"):
        batch(store, resident, "VT2A", replace(PLAIN, token_drop_sample_prob=1.0))
