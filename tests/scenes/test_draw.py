"""Scenes: what the seed fixes, what a kind promises."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.errors import ConfigError, UserError
from omni2sound.scenes.draw import KINDS, STRIKE_MARGINS_S, draw_scene
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import SPLITS, Catalogue
from omni2sound.scenes.material.levels import level_of, measure_level
from omni2sound.scenes.scene import Scene, SceneKind

ANY_SCENE = {
    "split": st.sampled_from(SPLITS),
    "seed": st.integers(0, 2**31),
    "index": st.integers(0, 10_000),
    "kind": st.sampled_from(KINDS),
    "duration_s": st.floats(1.5, 10),
}


def draw_many(assets: SceneAssets, kind: SceneKind, count: int = 40) -> list[Scene]:
    return [
        draw_scene(assets, split="train", seed=5, index=i, kind=kind, duration_s=4.0)
        for i in range(count)
    ]


@settings(max_examples=25)
@given(**ANY_SCENE)
def test_a_scene_is_a_function_of_its_arguments(assets: SceneAssets, **arguments: object) -> None:
    scene = draw_scene(assets, **arguments)  # type: ignore[arg-type]

    assert scene == draw_scene(assets, **arguments)  # type: ignore[arg-type]
    assert Scene.from_json(scene.to_json()) == scene
    assert pickle.loads(pickle.dumps(scene)) == scene


@settings(max_examples=25)
@given(**ANY_SCENE)
def test_events_lie_inside_the_scene_and_come_from_the_split(
    assets: SceneAssets, **arguments: object
) -> None:
    scene = draw_scene(assets, **arguments)  # type: ignore[arg-type]
    split_of = {r.recording_id: r.split for r in assets.catalogue.recordings}
    split_of |= {p.picture_id: p.split for p in assets.catalogue.pictures}

    assert scene.events
    assert [e.onset_s for e in scene.events] == sorted(e.onset_s for e in scene.events)
    for event in scene.events:
        assert event.onset_s < event.offset_s <= scene.duration_s
        # A bed may have been sounding before the scene began.
        assert event.onset_s >= 0 or scene.kind == "bed"
        assert event.on_screen == (event.picture_id is not None) == (event.motion is not None)
    used = [e.recording_id for e in scene.events]
    used += [o.picture_id for o in scene.objects if o.picture_id is not None]
    assert {split_of[name] for name in used} == {scene.split}


def test_seed_index_kind_and_split_each_change_the_scene(assets: SceneAssets) -> None:
    base = draw_scene(assets, split="train", seed=0, index=0, kind="main", duration_s=4.0)
    others = [
        draw_scene(assets, split="train", seed=1, index=0, kind="main", duration_s=4.0),
        draw_scene(assets, split="train", seed=0, index=1, kind="main", duration_s=4.0),
        draw_scene(assets, split="train", seed=0, index=0, kind="strike", duration_s=4.0),
        draw_scene(assets, split="test", seed=0, index=0, kind="main", duration_s=4.0),
    ]

    assert all(replace(o, scene_id=base.scene_id).background != base.background for o in others)


@pytest.mark.parametrize("kind", ["main", "strike"])
def test_nothing_unseen_is_heard_on_the_main_track(assets: SceneAssets, kind: SceneKind) -> None:
    for scene in draw_many(assets, kind):
        sources = {o.source for o in scene.objects if o.role == "source"}
        assert all(e.on_screen and e.source in sources for e in scene.events)


def test_what_sounds_is_never_a_silent_distractor(assets: SceneAssets) -> None:
    class_of = {p.picture_id: p.class_id for p in assets.catalogue.pictures}
    for kind in ("main", "strike", "offscreen"):
        for scene in draw_many(assets, kind):
            sounding = {e.class_id for e in scene.events}
            silent = {
                class_of.get(o.picture_id or "") for o in scene.objects if o.role == "distractor"
            }
            assert not sounding & silent


def test_a_strike_is_one_impact_among_moving_silent_things(assets: SceneAssets) -> None:
    for scene in draw_many(assets, "strike"):
        (event,) = scene.events
        assert assets.catalogue.sound_class(event.class_id).kind == "impulsive"
        assert STRIKE_MARGINS_S[0] <= event.onset_s <= scene.duration_s - STRIKE_MARGINS_S[1]
        assert 2 <= sum(o.role == "distractor" for o in scene.objects) <= 3
        assert all(abs(cut - event.onset_s) > 0.2 for cut in scene.cuts_s)


def test_strikes_come_at_any_time(assets: SceneAssets) -> None:
    onsets = [s.events[0].onset_s for s in draw_many(assets, "strike", 200)]

    counts, _ = np.histogram(onsets, bins=5, range=(0.4, 3.4))
    assert counts.min() >= 20


def test_offscreen_scenes_hold_one_seen_and_one_unseen_source(assets: SceneAssets) -> None:
    for scene in draw_many(assets, "offscreen"):
        seen = {e.source for e in scene.events if e.on_screen}
        unseen = {e.source for e in scene.events if not e.on_screen}
        assert len(seen) == len(unseen) == 1
        assert not seen & unseen


def test_sound_only_scenes_have_nothing_to_see(assets: SceneAssets) -> None:
    for scene in draw_many(assets, "audio"):
        assert not scene.objects
        assert not scene.has_picture
        assert len({e.source for e in scene.events}) in (1, 2)


def test_impulsive_things_repeat_with_one_event_a_hit(assets: SceneAssets) -> None:
    counts = set()
    for scene in draw_many(assets, "main"):
        for source in {e.source for e in scene.events}:
            counts.add(sum(e.source == source for e in scene.events))

    assert counts == {1, 2, 3, 4}


@pytest.mark.parametrize(
    "change", [{"duration_s": 0.5}, {"seed": -1}, {"index": -1}, {"kind": "x"}, {"split": "x"}]
)
def test_arguments_out_of_range_are_refused(assets: SceneAssets, change: dict[str, object]) -> None:
    arguments = {"split": "train", "seed": 0, "index": 0, "kind": "main", "duration_s": 4.0}

    with pytest.raises(UserError):
        draw_scene(assets, **(arguments | change))  # type: ignore[arg-type]


def test_a_split_without_pictures_makes_no_strike(assets: SceneAssets) -> None:
    blind = SceneAssets.from_arrays(
        Catalogue(
            version="blind",
            classes=assets.catalogue.classes,
            recordings=assets.catalogue.recordings,
            pictures=(),
        ),
        {r.recording_id: assets.waveform(r.recording_id) for r in assets.catalogue.recordings},
        {},
    )

    with pytest.raises(ConfigError, match="too few classes"):
        draw_scene(blind, split="train", seed=0, index=0, kind="strike", duration_s=4.0)
    assert draw_scene(blind, split="train", seed=0, index=0, kind="audio", duration_s=4.0).events


def test_other_text_is_not_a_scene() -> None:
    for text in ("", "[]", "{}", '{"scene_id": 3}'):
        with pytest.raises(ConfigError, match="not a scene"):
            Scene.from_json(text)


def test_a_level_knows_onset_hits_and_loudness() -> None:
    time_s = np.arange(16_000) / 16_000
    click = np.exp(-time_s / 0.02) * np.sin(2 * np.pi * 800 * time_s)
    two = np.zeros(24_000, dtype=np.float32)
    two[800:16_800] += 0.4 * click.astype(np.float32)
    two[8_800:24_000] += 0.4 * click[:15_200].astype(np.float32)

    level = measure_level(two)

    assert level.onset_s == pytest.approx(0.05, abs=0.002)
    assert level.hits_s == pytest.approx((0.5,), abs=0.02)
    assert not level.single
    assert measure_level(two[:8_000]).single


def test_a_level_is_measured_once(assets: SceneAssets) -> None:
    assert level_of(assets, "bell-0") is level_of(assets, "bell-0")
