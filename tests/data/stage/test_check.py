"""The check of scenes finds what is wrong with a scene that was tampered with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from omni2sound.data.stage import check
from omni2sound.data.stage.assets import StageAssets
from omni2sound.data.stage.check import check_scene, check_scenes
from omni2sound.data.stage.scene import draw_scene
from omni2sound.errors import UserError


def test_drawn_scenes_are_what_they_say(assets: StageAssets) -> None:
    for kind in ("main", "strike", "offscreen"):
        events = check_scenes(assets, split="test", kind=kind, seed=2, num_scenes=4, duration_s=3.0)
        assert len(events) >= 4
        assert all(event.heard_s is not None and abs(event.heard_s) <= 0.005 for event in events)
        assert all((event.seen_s is not None) == event.on_screen for event in events)
        impacts = [e for e in events if e.on_screen and kind == "strike"]
        assert all(event.good for event in impacts)


def test_a_sound_or_a_picture_that_is_late_is_found(
    assets: StageAssets, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = draw_scene(assets, split="test", seed=2, index=1, kind="strike", duration_s=3.0)
    (event,) = scene.events
    late = replace(scene, events=(replace(event, onset_s=event.onset_s + 0.1),))
    stems, frames = check.render_stems, check.iter_frames
    monkeypatch.setattr(check, "render_stems", lambda s, a: stems(late, a))
    (checked,) = check_scene(scene, assets)
    assert not checked.good
    assert checked.heard_s == pytest.approx(0.1, abs=0.01)
    monkeypatch.setattr(check, "render_stems", stems)

    def later(s, a, **size):  # type: ignore[no-untyped-def]
        return frames(replace(s, events=late.events), a, **size)

    monkeypatch.setattr(check, "iter_frames", later)
    (checked,) = check_scene(scene, assets)
    assert not checked.good
    assert checked.seen_s == pytest.approx(0.1, abs=0.03)


def test_no_scene_is_no_check(assets: StageAssets) -> None:
    with pytest.raises(UserError, match="1 or more"):
        check_scenes(assets, split="test", kind="main", seed=0, num_scenes=0, duration_s=3.0)
