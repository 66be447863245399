"""The baselines one by one, and the clips that they are shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from omni2sound.bench.systems import baseline_files as baseline_sounds
from omni2sound.bench.systems.baseline_files import Embedders, stage_baselines
from omni2sound.bench.systems.baselines import (
    Baselines,
    TrainingMemory,
    motion_peaks_s,
    noise_like,
    shuffled_place,
)
from omni2sound.bench.tracks.scene_clips import draw_clips
from omni2sound.bench.tracks.scenes import is_impulsive_seen, scene_clip, seen_caption
from omni2sound.bench.tracks.track import Track
from omni2sound.errors import UserError
from omni2sound.scenes.material.assets import SceneAssets
from tests.bench.embeds import colours_embed, words_embed


def test_noise_like_a_sound_has_its_spectrum_and_level_and_no_events() -> None:
    rng = np.random.default_rng(0)
    time_s = np.arange(32_000) / 16_000
    sound = (np.sin(2 * np.pi * 1000 * time_s) * (time_s < 0.25)).astype(np.float32)
    noise = noise_like(sound, rng)
    assert noise.shape == sound.shape
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(np.sqrt(np.mean(sound**2)), rel=1e-3)
    power = np.abs(np.fft.rfft(noise)) ** 2
    hz = np.fft.rfftfreq(len(noise), 1 / 16_000)
    assert power[(hz > 900) & (hz < 1100)].sum() > 0.95 * power.sum()
    first, rest = np.mean(noise[:4000] ** 2), np.mean(noise[4000:] ** 2)
    assert 0.5 < first / rest < 2
    assert not noise_like(np.zeros(1000, np.float32), rng).any()


def test_the_seen_caption_leaves_out_what_is_only_heard(assets: SceneAssets) -> None:
    clips = list(draw_clips(assets, "offscreen", split="test", seed=0, num_clips=8, duration_s=3))
    names = {c.class_id: c.held_out_names for c in assets.catalogue.classes}
    for clip in clips:
        unseen = next(e.class_id for e in clip.scene.events if not e.on_screen)
        told = clip.seen_caption.lower()
        assert any(name.lower() in clip.caption.lower() for name in names[unseen])
        assert not any(name.lower() in told for name in names[unseen])
        assert len(clip.seen_impulsive) == sum(e.on_screen for e in clip.scene.events)
    for clip in draw_clips(assets, "main", split="test", seed=0, num_clips=4, duration_s=3):
        assert clip.seen_caption == clip.caption


def test_a_track_knows_seen_captions_and_impulsive_events_without_the_corpus(
    scene_track: Track, tonal_assets: SceneAssets
) -> None:
    for clip in scene_track.clips:
        drawn = scene_clip(scene_track, clip, tonal_assets)
        assert seen_caption(scene_track, clip) == drawn.seen_caption
        assert is_impulsive_seen(scene_track, clip) == drawn.seen_impulsive


def test_motion_peaks_are_where_the_picture_jumps() -> None:
    frames = np.zeros((50, 4, 4, 3), np.uint8)
    frames[10:], frames[30:] = 80, 160
    frames[20:] += 5
    assert motion_peaks_s(frames, 25) == (0.4, 1.2)
    assert motion_peaks_s(np.zeros((25, 4, 4, 3), np.uint8), 25) == ()
    assert motion_peaks_s(np.zeros((1, 4, 4, 3), np.uint8), 25) == ()


def test_retrieval_plays_the_training_scene_that_is_told_of_alike(assets: SceneAssets) -> None:
    remembered = list(
        draw_clips(assets, "main", split="train", seed=9, num_clips=4, duration_s=2.0)
    )
    words, colours = words_embed(), colours_embed()
    memory = TrainingMemory(
        assets=assets,
        scenes=tuple(clip.scene for clip in remembered),
        by_caption_MD=np.stack([words(clip) for clip in remembered]),
        by_look_MD=np.stack([colours(clip) for clip in remembered]),
    )
    baselines = Baselines(memory=memory, embed_caption=words, embed_look=colours)
    for clip in remembered:  # each finds itself
        sounds = baselines.sounds(clip)
        np.testing.assert_array_equal(sounds["retrieval"], clip.sound_N)
        assert {len(s) for s in sounds.values()} == {len(clip.sound_N)}


@pytest.mark.parametrize("num_clips", [2, 3, 8, 9])
def test_no_clip_keeps_its_own_sound_when_shuffled(num_clips: int) -> None:
    places = [shuffled_place(at, num_clips) for at in range(num_clips)]
    assert sorted(places) == list(range(num_clips))
    assert all(place != at for at, place in enumerate(places))


def test_captions_of_test_clips_are_in_held_out_words(assets: SceneAssets) -> None:
    told = {
        split: " ".join(
            clip.caption.lower()
            for clip in draw_clips(
                assets, "offscreen", split=split, seed=0, num_clips=6, duration_s=2.0
            )
        )
        for split in ("train", "test")
    }
    assert "some" in told["test"]
    assert "some" not in told["train"]


EMBED = Embedders(caption=words_embed, look=colours_embed)


@pytest.mark.slow
def test_baselines_of_other_embeddings_or_renderers_are_refused(
    scene_track: Track, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    track = scene_track.limited(4)

    def play(embed: Embedders) -> list[str]:
        systems = stage_baselines(track, store, tmp_path, embed=embed, num_remembered=2)
        return [f.sha256 for system in systems for f in system.sounds.values()]

    assert play(EMBED) == play(EMBED)
    with pytest.raises(UserError, match="another run, caption_embedding 'words' and not"):
        play(replace(EMBED, caption=colours_embed))
    with pytest.raises(UserError, match="another run, look_embedding 'colours' and not"):
        play(replace(EMBED, look=words_embed))
    monkeypatch.setattr(baseline_sounds, "RENDER_VERSION", "another")
    with pytest.raises(UserError, match="another run, render_version"):
        play(EMBED)
