"""Batches: what was drawn is what can be heard and read, and nothing else was touched."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.robustness.click_corpus import click_clip, click_store
from omni2sound.data.batches.batch import Batch, Source, build_batch, sampler_for
from omni2sound.data.batches.hard_samples import (
    Difficulty,
    add_embedding_noise,
    cut_offscreen,
    draw_dropped_tokens,
    join_captions,
    mix_offscreen,
    order_by_unlikeness,
)
from omni2sound.data.batches.sampler import TaskSampler
from omni2sound.data.store.index import describe_store
from omni2sound.data.store.rows import FeatureStore, TextFeatures, write_shard
from omni2sound.encoders.text import TextEncoder
from omni2sound.errors import ConfigError, MissingPartError

HARD = Difficulty(offscreen_prob=0.5, token_drop_sample_prob=0.5, null_prob=0.5, augment=False)


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder.load()


@pytest.fixture(scope="module")
def store(encoder: TextEncoder, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return click_store(tmp_path_factory.mktemp("corpus") / "features", encoder)


def batches(
    store: FeatureStore,
    encoder: TextEncoder | None,
    *,
    task: str,
    difficulty: Difficulty,
    steps: int = 12,
) -> list[Batch]:
    sampler = sampler_for(store, seed=0, batch_seconds=3.2)
    return [
        build_batch(
            store,
            sampler.draw(step, {task: 1.0}),
            seed=0,
            step=step,
            difficulty=difficulty,
            prompts=encoder,
        )
        for step in range(steps)
    ]


def by_id(store: FeatureStore) -> dict[str, np.ndarray]:
    return {store[i].clip_id: store[i].sound_N for i in range(len(store.durations_s))}


def test_a_batch_does_not_depend_on_the_number_of_parts(
    store: FeatureStore, encoder: TextEncoder
) -> None:
    draw = sampler_for(store, seed=3, batch_seconds=3.2).draw(5, {"VT2A": 1.0})
    hard = replace(HARD, augment=True, text_noise=0.5, text_drop=0.5)
    whole = build_batch(store, draw, seed=3, step=5, difficulty=hard, prompts=encoder)
    halves = [
        build_batch(
            store, draw, seed=3, step=5, difficulty=hard, prompts=encoder, part=r, num_parts=2
        )
        for r in range(2)
    ]
    for i, clip_id in enumerate(whole.clip_ids):
        half, at = halves[i % 2], i // 2
        assert half.clip_ids[at] == clip_id
        assert half.noise_seeds_B[at] == whole.noise_seeds_B[i]
        assert half.texts[at] == whole.texts[i]
        assert half.mixes[at] == whole.mixes[i]
        assert half.dropped_tokens[at] == whole.dropped_tokens[i]
        assert torch.equal(half.waveform_BN[at], whole.waveform_BN[i])
        mask = whole.conditions.text_mask_BT[i]
        states, part = whole.conditions.text_BTE[i][mask], half.conditions.text_BTE[at]
        assert torch.equal(part[half.conditions.text_mask_BT[at]], states)
    with pytest.raises(ConfigError, match="can't be divided into 3 micro-batches"):
        draw.part(0, 3)


@pytest.mark.parametrize("task", ["T2A", "V2A"])
def test_tasks_other_than_vt2a_are_left_as_they_are(store: FeatureStore, task: str) -> None:
    """Sound, prompt and features are those of the store, with everything turned up."""
    certain = replace(HARD, offscreen_prob=1.0, token_drop_sample_prob=1.0)
    sounds = by_id(store)
    clips = {store[i].clip_id: store[i] for i in range(len(store.durations_s))}
    for batch in batches(store, None, task=task, difficulty=certain):
        assert set(batch.mixes) == {None}
        assert set(batch.dropped_tokens) == {()}
        for i, clip_id in enumerate(batch.clip_ids):
            np.testing.assert_array_equal(batch.waveform_BN[i].numpy(), sounds[clip_id])
            clip = clips[clip_id]
            if task == "V2A":
                assert batch.texts[i] == ""
                assert batch.conditions.text_BTE is None
                np.testing.assert_array_equal(batch.conditions.sync_BLS[i], clip.sync_LS)
            else:
                states = {t.text: t.states_TE for t in clip.texts}[batch.texts[i]]
                mask = batch.conditions.text_mask_BT[i]
                np.testing.assert_array_equal(batch.conditions.text_BTE[i][mask], states)
                assert batch.conditions.sync_BLS is None


@pytest.mark.slow
def test_what_was_mixed_can_be_heard_where_and_how_loud_it_was_drawn(
    store: FeatureStore, encoder: TextEncoder
) -> None:
    sounds = by_id(store)
    count, snrs_db, onsets = Counter(), [], []
    for batch in batches(store, encoder, task="VT2A", difficulty=HARD, steps=40):
        for i, mix in enumerate(batch.mixes):
            count[mix is not None] += 1
            heard = batch.waveform_BN[i].numpy().astype(np.float64)
            own = sounds[batch.clip_ids[i]].astype(np.float64)
            if mix is None:
                np.testing.assert_array_equal(heard, own)
                continue
            added = heard / mix.level - own
            assert np.abs(added[: mix.onset_sample]).max(initial=0) < 1e-6
            assert np.abs(added[mix.onset_sample + mix.num_samples :]).max(initial=0) < 1e-6
            # It begins within the fade and the gate of its own beginning.
            loud = np.abs(added) >= 0.04 * np.abs(added).max()
            assert 0 <= int(np.argmax(loud)) - mix.onset_sample <= 2 * 160
            piece = added[mix.onset_sample : mix.onset_sample + mix.num_samples]
            ratio_db = 10 * np.log10(np.square(own).mean() / np.square(piece).mean())
            assert ratio_db == pytest.approx(mix.snr_db, abs=0.05)
            # It is the sound that the record names, and the prompt tells it.
            source = cut_offscreen(sounds[mix.clip_id], len(piece))
            assert np.corrcoef(source, piece)[0, 1] > 0.999
            assert mix.caption.lower() in batch.texts[i].lower()
            own_class, other_class = (
                int(c.removeprefix("clip-")) % 4 for c in (batch.clip_ids[i], mix.clip_id)
            )
            assert own_class != other_class
            snrs_db.append(mix.snr_db)
            onsets.append(mix.onset_sample / len(own))
    assert stats.binomtest(count[True], count.total(), 0.5).pvalue > 1e-3
    low, high = HARD.offscreen_snr_db
    assert stats.kstest(snrs_db, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    assert stats.kstest(onsets, stats.uniform(0, 0.6).cdf).pvalue > 1e-3


@pytest.mark.parametrize("shown", [pytest.param("noise", marks=pytest.mark.slow), "low tone"])
def test_what_is_seen_and_silent_is_never_told_as_unseen(
    tmp_path: Path, encoder: TextEncoder, shown: str
) -> None:
    describe_store(tmp_path / "f", {"made": "in code"})
    clips = [replace(click_clip(i, encoder, video=True), pictured=(shown,)) for i in range(8)]
    write_shard(tmp_path / "f" / "shard.arrow", clips)
    store = FeatureStore([tmp_path / "f"])
    certain = replace(HARD, offscreen_prob=1.0)
    mixes = [
        mix
        for batch in batches(store, encoder, task="VT2A", difficulty=certain)
        for mix in batch.mixes
        if mix is not None
    ]
    assert len(mixes) > 10
    assert all(shown not in mix.caption for mix in mixes)


def test_add_embedding_noise_are_fewer_and_as_far_away_as_asked() -> None:
    rng = np.random.default_rng(0)
    states = (3 * rng.standard_normal((400, 64)) + 1).astype(np.float16)
    same = add_embedding_noise(states, noise=0, drop=0, rng=rng)
    np.testing.assert_array_equal(same, states)
    fewer = add_embedding_noise(states, noise=0, drop=0.7, rng=rng)
    assert 90 < len(fewer) < 150
    assert {row.tobytes() for row in fewer} <= {row.tobytes() for row in states}
    assert len(add_embedding_noise(states[:2], noise=0, drop=0.999, rng=rng)) >= 1
    added = add_embedding_noise(states, noise=0.5, drop=0, rng=rng).astype(float) - states
    added /= states.astype(float).std(axis=1, keepdims=True)
    # One draw that all tokens share, and one for each, both of the asked size.
    assert added.mean(axis=0).std() == pytest.approx(0.5, rel=0.25)
    assert (added - added.mean(axis=0)).std() == pytest.approx(0.5, rel=0.02)


def test_dropped_tokens_are_dropped_before_the_encoder(
    store: FeatureStore, encoder: TextEncoder
) -> None:
    no_mix = replace(HARD, offscreen_prob=0.0)
    lost = kept = changed = total = 0
    for batch in batches(store, encoder, task="VT2A", difficulty=no_mix, steps=40):
        ids_of = encoder.token_ids(batch.texts)
        rests = [
            [token for place, token in enumerate(ids) if place not in places]
            for ids, places in zip(ids_of, batch.dropped_tokens, strict=True)
        ]
        expected_BTD = encoder.encode_ids(rests).states_BTD
        for i, places in enumerate(batch.dropped_tokens):
            total += 1
            ids, rest = ids_of[i], rests[i]
            mask = batch.conditions.text_mask_BT[i]
            states = batch.conditions.text_BTE[i][mask]
            assert len(states) == len(rest)
            expected = expected_BTD[i, : len(rest)]
            torch.testing.assert_close(states.float(), expected, atol=2e-3, rtol=2e-3)
            if places:
                changed += 1
                lost += len(places)
                kept += len(rest) - 2  # start and end are never lost
                assert 0 not in places
                assert len(ids) - 1 not in places
    # Both draws have the asked rates; prompts that lost nothing by luck are few (2^-6).
    assert stats.binomtest(changed, total, 0.5 * (1 - 2**-6)).pvalue > 1e-3
    assert stats.binomtest(lost, lost + kept, 0.5).pvalue > 1e-3


@given(
    ids=st.lists(st.integers(0, 20), max_size=30),
    probability=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_a_prompt_keeps_its_frame_and_one_word(
    ids: list[int], probability: float, seed: int
) -> None:
    special = frozenset({0, 1})
    lost = draw_dropped_tokens(ids, special, probability, np.random.default_rng(seed))
    assert list(lost) == sorted(set(lost))
    assert not any(ids[place] in special for place in lost)
    words = [token for token in ids if token not in special]
    assert len(lost) < len(words) or not words
    if probability == 0:
        assert lost == ()
    if probability == 1 and words:
        assert len(lost) == len(words) - 1


@given(
    snr_db=st.floats(-20, 20),
    onset=st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 50),
)
def test_a_mix_is_what_its_record_says(snr_db: float, onset: float, seed: int) -> None:
    own, other = click_clip(seed, video=False).sound_N, click_clip(seed + 1, video=False).sound_N
    found = mix_offscreen(own, other, clip_id="x", caption="y", snr_db=snr_db, onset=onset)
    assert found is not None
    mix_N, record = found
    assert np.abs(mix_N).max() <= 1 + 1e-6
    part = cut_offscreen(other, len(own) - record.onset_sample)
    rebuilt = own.astype(np.float64)
    rebuilt[record.onset_sample : record.onset_sample + record.num_samples] += record.gain * part
    np.testing.assert_allclose(mix_N, rebuilt * record.level, atol=1e-6)


def test_silence_is_not_mixed() -> None:
    sound, silence = click_clip(0, video=False).sound_N, np.zeros(12_800, np.float32)
    for own, other in ((sound, silence), (silence, sound)):
        assert mix_offscreen(own, other, clip_id="", caption="", snr_db=0, onset=0) is None


@given(choice=st.floats(0, 1, exclude_max=True))
def test_a_join_captions_tells_both(choice: float) -> None:
    told = join_captions("A dog barks.", "A bell rings.", choice)
    first, last = ("A dog barks", "a bell rings.")
    if told.startswith("A bell"):
        first, last = ("A bell rings", "a dog barks.")
    assert told.startswith(first)
    assert told.endswith(last)
    assert ".." not in told
    assert "USA today" in join_captions("x", "USA today", choice)


def test_prompts_are_filled_up_or_cut_where_a_model_has_no_masks(store: FeatureStore) -> None:
    draw = sampler_for(store, seed=0, batch_seconds=3.2).draw(0, {"T2A": 1.0})
    for length in (3, 20):
        batch = build_batch(
            store, draw, seed=0, step=0, difficulty=Difficulty(), text_tokens=length
        )
        assert batch.conditions.text_BTE.shape[1] == length
        assert batch.conditions.text_mask_BT.sum(dim=1).max() <= length


def test_clips_shorter_than_their_window_are_filled_up(tmp_path: Path) -> None:
    """A store holds a clip of half its window: its pictures end there, and so do masks."""
    describe_store(tmp_path, {"made": "in code"})
    whole = click_clip(0, video=True)
    short = replace(
        whole,
        clip_id="short",
        valid_s=0.4,
        vision_TV=whole.vision_TV[:4],
        sync_LS=whole.sync_LS[:10],
    )
    write_shard(tmp_path / "shard.arrow", [whole, short])
    store = FeatureStore([tmp_path])
    seen = {}
    for batch in batches(store, None, task="V2A", difficulty=Difficulty()):
        for i, clip_id in enumerate(batch.clip_ids):
            frames = 20 if batch.valid_frames_B is None else int(batch.valid_frames_B[i])
            mask = batch.conditions.vision_mask_BT
            pictures = 7 if mask is None else int(mask[i].sum())
            seconds = float(batch.conditions.seconds_total_B[i])
            seen[clip_id] = (frames, pictures, pytest.approx(seconds))
            assert batch.conditions.sync_BLS.shape[1] == 20
    assert seen == {"clip-0": (20, 7, 0.8), "short": (10, 4, 0.4)}


def test_a_missing_text_or_encoder_is_named(store: FeatureStore) -> None:
    draw = sampler_for(store, seed=0, batch_seconds=3.2).draw(0, {"VT2A": 1.0})
    with pytest.raises(ConfigError, match=r"no text of role 'audio-only'; it has \['caption'\]"):
        build_batch(store, draw, seed=0, step=0, difficulty=Difficulty(), caption_role="audio-only")
    with pytest.raises(ConfigError, match="needs a text encoder"):
        build_batch(store, draw, seed=0, step=0, difficulty=replace(HARD, offscreen_prob=1.0))


def test_text_to_audio_takes_the_best_scored_share(store: FeatureStore) -> None:
    """Clips with odd numbers are scored, later ones higher; pictures are served by all."""
    sampler = sampler_for(store, seed=0, batch_seconds=3.2, t2a_best_share=1 / 3)
    drawn = {i for step in range(60) for i in sampler.draw(step, {"T2A": 1.0}).clips}
    assert drawn == {13, 15, 17}
    pictured = {i for step in range(60) for i in sampler.draw(step, {"V2A": 1.0}).clips}
    assert pictured == set(range(12))


def test_scores_are_asked_for_only_where_they_are_needed(tmp_path: Path) -> None:
    describe_store(tmp_path, {"made": "in code"})
    clips = [replace(click_clip(i, video=True), quality=None) for i in range(3)]
    write_shard(tmp_path / "shard.arrow", clips)
    store = FeatureStore([tmp_path])
    sampler_for(store, seed=0, batch_seconds=3.2)
    with pytest.raises(ConfigError, match="no clip of the features has a quality"):
        sampler_for(store, seed=0, batch_seconds=3.2, t2a_best_share=0.5)


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
    observed = [counts[task] for task in weights]
    assert stats.chisquare(observed, [4000 * w for w in weights.values()]).pvalue > 1e-3


def test_a_store_is_what_was_written_and_is_not_mixed(tmp_path: Path, store: FeatureStore) -> None:
    first = click_clip(1, video=True)
    write_shard(tmp_path / "one.arrow", [first])
    describe_store(tmp_path, {"made": "in code"})
    read = FeatureStore([tmp_path])[0]
    np.testing.assert_allclose(read.sound_N, first.sound_N, atol=1 / 32767)
    np.testing.assert_array_equal(read.sync_LS, first.sync_LS)
    np.testing.assert_array_equal(read.texts[1].states_TE, first.texts[1].states_TE)
    assert read.classes == ("low tone",)
    assert read.quality == pytest.approx(1 / 20)
    assert store[12].sync_LS is None
    with pytest.raises(ConfigError, match="features made with other settings"):
        describe_store(tmp_path, {"made": "another way"})
    with pytest.raises(MissingPartError, match="no features in"):
        FeatureStore([tmp_path / "nowhere"])


def test_a_stage_draws_from_its_sources_by_weight(
    store: FeatureStore, encoder: TextEncoder, tmp_path: Path
) -> None:
    describe_store(tmp_path / "more", {"made": "in code"})
    clips = [replace(click_clip(i, video=False), clip_id=f"more-{i}") for i in range(6)]
    write_shard(tmp_path / "more" / "shard.arrow", clips)
    both = FeatureStore([store.folders[0], f"broad={tmp_path / 'more'}"])
    name = store.folders[0].name
    assert both.spans == {name: range(18), "broad": range(18, 24)}

    def drawn(task: str, sources: tuple[Source, ...]) -> Counter[bool]:
        sampler = sampler_for(both, seed=0, batch_seconds=32, sources=sources)
        return Counter(i >= 18 for k in range(60) for i in sampler.draw(k, {task: 1.0}).clips)

    mixed = (Source(store="broad", weight=3, tasks=("T2A",)), Source(store=name))
    counts = drawn("T2A", mixed)
    share = counts[True] / counts.total()
    assert share == pytest.approx(0.75, abs=3 * (0.75 * 0.25 / counts.total()) ** 0.5)
    assert drawn("V2A", mixed)[True] == 0
    assert drawn("T2A", mixed[:1])[False] == 0
    best = (Source(store=name, tasks=("T2A",), min_quality=0.8),)
    sampler = sampler_for(both, seed=0, batch_seconds=32, sources=best)
    assert {i for k in range(20) for i in sampler.draw(k, {"T2A": 1.0}).clips} == {17}
    with pytest.raises(ConfigError, match=r"no features named 'x'; the run has .*broad"):
        drawn("T2A", (Source(store="x"),))
    heard = (Source(store="broad"),)
    with pytest.raises(ConfigError, match="source 'broad' has no clips for V2A"):
        drawn("V2A", heard)
    # A stage that draws text to audio alone asks nothing else of it.
    sampler = sampler_for(both, seed=0, batch_seconds=32, sources=heard, tasks=["T2A"])
    assert min(sampler.draw(0, {"T2A": 1.0}).clips) >= 18


def test_without_classes_an_unseen_sound_is_one_that_means_something_else(
    encoder: TextEncoder,
) -> None:
    words = (
        "a dog barks in the yard",
        "the barking of a puppy",
        "a hound is howling and growling",
        "rain falls on a tin roof",
        "a car engine idles",
    )
    own, *others = (texts_of(word, encoder) for word in words)
    places = order_by_unlikeness([own], others)
    assert 0 not in places  # "barking" shares a word
    assert places[-1] == 1  # another dog is the last choice
    assert set(places[:-1]) == {2, 3}


def texts_of(words: str, encoder: TextEncoder) -> TextFeatures:
    tokens = encoder([words])
    states_TE = tokens.states_BTD[0][tokens.mask_BT[0]].half().numpy()
    return TextFeatures(role="caption", text=words, states_TE=states_TE)
