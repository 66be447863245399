"""`stage-v1` on sounds built to be right, late, incomplete, or full of inventions."""

from __future__ import annotations

import numpy as np
import pytest

from omni2sound.bench.metrics.scene_v1 import ClipScore, TrueEvent, score_clip, stage_scores
from omni2sound.bench.metrics.scene_v1 import true_events as events_of
from omni2sound.bench.metrics.tagging import RealTags, Tags
from omni2sound.bench.stats.estimate import Score
from omni2sound.errors import UserError
from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.scenes.material.levels import level_of
from omni2sound.scenes.render.render import render_audio
from tests.bench.metrics.test_onsets import clicks

DOG = TrueEvent(class_id="dog", onset_s=1.0, offset_s=1.4, hits_s=(1.2,), on_screen=True)
BELL = TrueEvent(class_id="bell", onset_s=2.5, offset_s=3.0, hits_s=(), on_screen=False)


def hears(*classes: str, music: bool = False) -> Tags:
    return Tags(classes=frozenset(classes), somewhere=frozenset(classes), speech=False, music=music)


NOTHING = hears()
REAL = RealTags(
    tags={
        "dog": [hears("dog")] * 3,
        "bell": [hears("bell", music=True)] * 3,
        "wind": [NOTHING] * 3,
    }
)


def named(scores: tuple[Score, ...]) -> dict[str, float]:
    return {score.name: score.estimate.value for score in scores}


def scored(times_s: tuple[float, ...], heard: Tags = NOTHING) -> ClipScore:
    return score_clip(clicks(times_s), (DOG, BELL), heard, REAL)


def test_the_right_sound_scores_full_marks() -> None:
    both = hears("dog", "bell", music=True)
    score = scored((1.0, 1.2, 2.5), both)
    assert (score.num_true, score.num_found, score.pairs, score.pairs_close) == (3, 3, 3, 3)
    assert (score.seen_heard, score.unseen_heard, score.num_invented) == (1.0, 1.0, 0)
    assert score.music is None  # a real bell is taken for music: not asked
    assert score.speech is False
    values = named(stage_scores([score, score]))
    assert values["onset F1 50 ms"] == values["in sync"] == values["unseen heard"] == 1
    assert values["median |offset|"] < 5
    assert "music" not in values


def test_late_missing_and_invented_sounds_are_told_apart() -> None:
    late = scored((1.07, 1.27, 2.57))
    assert (late.pairs, late.pairs_close, late.num_invented) == (3, 0, 0)
    assert named(stage_scores([late]))["median |offset|"] == pytest.approx(70, abs=5)
    invented = scored((0.3, 1.0, 1.2, 2.5, 3.6))
    assert (invented.pairs, invented.num_invented) == (3, 2)
    silent = score_clip(np.zeros(64_000, np.float32), (DOG, BELL), NOTHING, REAL)
    values = named(stage_scores([silent]))
    assert (values["onset F1 100 ms"], values["in sync"], values["median |offset|"]) == (0, 0, 500)


def test_a_class_the_judge_does_not_know_is_not_asked() -> None:
    wind = TrueEvent(class_id="wind", onset_s=1.0, offset_s=2.0, hits_s=(), on_screen=True)
    score = score_clip(clicks((1.0,)), (wind,), NOTHING, REAL)
    assert score.seen_heard is None
    assert score.unseen_heard is None
    assert score.music is False
    assert REAL.rates == {"dog": 1.0, "bell": 1.0, "wind": 0.0}
    assert REAL.never_music == {"dog", "wind"}


def test_true_events_hold_the_rises_inside_a_recording(assets: SceneAssets) -> None:
    scene = draw_scene(assets, split="test", seed=0, index=4, kind="main", duration_s=3.0)
    for event, true in zip(scene.events, events_of(scene, assets), strict=True):
        inside = level_of(assets, event.recording_id).hits_s
        assert (true.onset_s, true.on_screen) == (event.onset_s, True)
        assert len(true.hits_s) <= len(inside)
        assert all(event.onset_s < t < event.offset_s for t in true.hits_s)


def test_scenes_own_sounds_score_high_and_other_scenes_low(assets: SceneAssets) -> None:
    scenes = [
        draw_scene(assets, split="test", seed=1, index=i, kind="strike", duration_s=2.5)
        for i in range(16)
    ]
    sounds = [render_audio(scene, assets) for scene in scenes]
    real = RealTags(tags={c: [NOTHING] for c in assets.catalogue.class_ids})
    own = [
        score_clip(x, events_of(s, assets), NOTHING, real)
        for x, s in zip(sounds, scenes, strict=True)
    ]
    wrong = [
        score_clip(x, events_of(s, assets), NOTHING, real)
        for x, s in zip(sounds[1:], scenes, strict=False)
    ]
    assert named(stage_scores(own))["in sync"] > 0.9
    assert named(stage_scores(wrong))["in sync"] < 0.5


def test_broken_sounds_are_refused() -> None:
    with pytest.raises(UserError, match="NaN"):
        score_clip(np.full(SAMPLE_RATE_HZ, np.nan, np.float32), (DOG,), NOTHING, REAL)
