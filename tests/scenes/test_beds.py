"""Beds sound from the start of a scene to its end."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from omni2sound.scenes.beds import bed_classes
from omni2sound.scenes.captions import captions
from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.scenes.render.render import render_sound
from omni2sound.scenes.scene import Scene

SEEDS = range(12)
DURATION_S = 8.0


@pytest.fixture(scope="module")
def beds(assets: SceneAssets) -> SceneAssets:
    """The same sounds; the wind goes on by itself, and dogs bark in rows."""
    kinds = {"wind": "continuous", "dog": "repeated"}
    whole = assets.catalogue
    classes = tuple(replace(c, kind=kinds.get(c.class_id, c.kind)) for c in whole.classes)
    return SceneAssets.from_arrays(
        replace(whole, classes=classes),
        {r.recording_id: assets.waveform(r.recording_id) for r in whole.recordings},
        {p.picture_id: assets.rgba(p.picture_id) for p in whole.pictures},
    )


def scene_of(beds: SceneAssets, seed: int) -> Scene:
    return draw_scene(beds, split="train", seed=seed, index=seed, kind="bed", duration_s=DURATION_S)


def bed_of(scene: Scene, beds: SceneAssets) -> np.ndarray:
    own = np.array([e.source == 0 for e in scene.events])
    return render_sound(scene, beds).stems_EN[own].sum(axis=0)


def test_what_goes_on_by_itself_fills_the_scene(beds: SceneAssets) -> None:
    filled = 0
    for scene in (scene_of(beds, seed) for seed in SEEDS):
        first = scene.events[0]
        if first.class_id not in ("wind", "water"):
            continue
        filled += 1
        assert first.onset_s <= 0
        assert first.offset_s == DURATION_S
        levels = np.abs(bed_of(scene, beds)).reshape(-1, SAMPLE_RATE_HZ // 10).max(axis=1)
        assert (levels > 0.02 * levels.max()).mean() >= 0.98
    assert filled > 2


def test_rows_go_from_the_start_to_the_end(beds: SceneAssets) -> None:
    rows = 0
    for scene in (scene_of(beds, seed) for seed in SEEDS):
        own = [e for e in scene.events if e.source == 0]
        if own[0].class_id != "dog":
            continue
        rows += 1
        times = [0.0, *(e.onset_s for e in own), DURATION_S]
        assert max(b - a for a, b in pairwise(times)) <= 1.1
        assert all(0 <= e.onset_s < e.offset_s <= DURATION_S for e in own)
        assert len({e.recording_id.split("-")[0] for e in own}) == 1
    assert rows > 2


def test_a_bed_has_no_picture_and_often_something_over_it(beds: SceneAssets) -> None:
    scenes = [scene_of(beds, seed) for seed in SEEDS]
    assert not any(s.has_picture or s.objects for s in scenes)
    over = sum(any(e.source for e in s.events) for s in scenes)
    assert 0 < over < len(scenes)


def test_only_what_can_fill_a_scene_is_a_bed(beds: SceneAssets) -> None:
    assert [c.class_id for c in bed_classes(beds.catalogue.classes)] == ["dog", "water", "wind"]


def test_captions_never_say_that_a_bed_begins_or_how_often_a_row_is_hit(
    beds: SceneAssets,
) -> None:
    wrong = ("at the beginning", "at first", "near the end", "towards the end", "four times")
    for scene in (scene_of(beds, seed) for seed in SEEDS):
        alone = replace(scene, events=tuple(e for e in scene.events if e.source == 0))
        for text in captions(
            alone, beds.catalogue, rng=np.random.default_rng(0), held_out=False, count=20
        ):
            if alone.events[0].onset_s <= 0:
                assert not any(w in text for w in wrong), text
            assert "times" not in text
