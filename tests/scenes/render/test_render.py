"""Sound and picture follow the same truth."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from omni2sound.errors import UserError
from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.scenes.material.catalogue import Motion
from omni2sound.scenes.material.levels import envelope_of, onset_of
from omni2sound.scenes.render.motion import poses_of
from omni2sound.scenes.render.render import PEAK, render_audio, render_frames, render_sound
from omni2sound.scenes.scene import Scene, SceneKind, SceneObject

FPS = 25
TOLERANCE_S = 0.04


def draw(assets: SceneAssets, kind: SceneKind, index: int, duration_s: float = 3.0) -> Scene:
    return draw_scene(assets, split="train", seed=9, index=index, kind=kind, duration_s=duration_s)


def alone(scene: Scene, thing: SceneObject) -> Scene:
    """The same thing before a fixed camera without noise."""
    shot = replace(
        scene.shots[0],
        from_x=scene.aspect / 2,
        to_x=scene.aspect / 2,
        from_y=0.5,
        to_y=0.5,
        from_zoom=1.0,
        to_zoom=1.0,
        shake=0.0,
    )
    look = replace(scene.look, noise=0.0, flicker=0.0, blockiness=0.0, exposure=1.0)
    return replace(scene, objects=(thing,), shots=(shot,), look=look)


def motion_of(frames_THWC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean change from each frame to the next."""
    return np.abs(np.diff(frames_THWC.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))


def test_stems_and_ambience_make_the_mix(assets: SceneAssets) -> None:
    for index in range(20):
        scene = draw(assets, "offscreen", index)
        sound = render_sound(scene, assets)

        assert sound.mix_N.dtype == np.float32
        assert sound.mix_N.shape == (3 * SAMPLE_RATE_HZ,)
        assert np.abs(sound.mix_N).max() <= PEAK + 1e-6
        total = sound.stems_EN.sum(axis=0) + sound.ambience_N
        np.testing.assert_allclose(sound.mix_N, total, atol=1e-5)


def test_a_loud_scene_is_turned_down_as_a_whole(assets: SceneAssets) -> None:
    scene = draw(assets, "strike", 0)
    loud = replace(scene, events=(replace(scene.events[0], gain_db=60.0),), ambience=None)
    sound = render_sound(loud, assets)

    assert np.abs(sound.mix_N).max() == pytest.approx(PEAK, abs=1e-4)
    np.testing.assert_array_equal(sound.mix_N, sound.stems_EN[0])


def test_every_event_is_heard_at_its_onset_and_not_before(assets: SceneAssets) -> None:
    for kind in ("main", "strike", "offscreen", "audio"):
        for index in range(10):
            scene = draw(assets, kind, index)
            for event, stem in zip(scene.events, render_sound(scene, assets).stems_EN, strict=True):
                begin = max(0, round((event.onset_s - 0.05) * SAMPLE_RATE_HZ))
                heard_s = begin / SAMPLE_RATE_HZ + onset_of(stem[begin:])
                assert heard_s == pytest.approx(event.onset_s, abs=0.005)
                assert not stem[: max(0, begin - SAMPLE_RATE_HZ // 10)].any()
                assert not stem[round(event.offset_s * SAMPLE_RATE_HZ) + 1 :].any()


def test_the_picture_of_an_impact_moves_most_at_its_onset(assets: SceneAssets) -> None:
    checked = 0
    for index in range(12):
        scene = draw(assets, "strike", index)
        (event,) = scene.events
        thing = next(o for o in scene.objects if o.role == "source")
        motion = motion_of(render_frames(alone(scene, thing), assets, fps=FPS, size_px=112))
        times = (np.arange(len(motion)) + 1) / FPS
        near = np.abs(times - event.onset_s) < 0.4

        peak_s = times[near][np.argmax(motion[near])]
        assert peak_s == pytest.approx(event.onset_s, abs=TOLERANCE_S), scene.scene_id
        assert motion[near].max() > 3 * np.median(motion)
        checked += 1
    assert checked == 12


def chirping(assets: SceneAssets, motion: Motion, onsets_s: tuple[float, ...]) -> Scene:
    """One thing before an empty picture; its recording has three short chirps in 0.1 s."""
    scene = draw(assets, "main", 3, 4.0)
    source = next(o for o in scene.objects if o.role == "source")
    first = next(e for e in scene.events if e.source == source.source)
    assert source.response is not None
    still = replace(
        source,
        knots=(replace(source.knots[0], y=0.5),),
        sway=replace(source.sway, x=0.0, y=0.0, angle=0.0),
        visible_from_s=0.0,
        response=replace(source.response, strength=1.3, decay_s=0.15),
    )
    events = tuple(
        replace(first, motion=motion, gain_db=0.0, onset_s=at_s, offset_s=at_s + 0.3)
        for at_s in onsets_s
    )
    return replace(scene, events=events, objects=(still,))


def chirps_only(assets: SceneAssets) -> SceneAssets:
    time_s = np.arange(SAMPLE_RATE_HZ // 2) / SAMPLE_RATE_HZ
    on = (np.mod(time_s, 0.035) < 0.012) & (time_s < 0.1)
    sound = (0.2 * on * np.sin(2 * np.pi * 3000 * time_s)).astype(np.float32)
    names = [r.recording_id for r in assets.catalogue.recordings]
    pictures = {p.picture_id: assets.rgba(p.picture_id) for p in assets.catalogue.pictures}
    return SceneAssets.from_arrays(assets.catalogue, dict.fromkeys(names, sound), pictures)


@pytest.mark.parametrize("motion", ["strike", "bounce", "shake", "pulse", "speak", "open"])
def test_nothing_outdoes_the_jolt_of_an_onset_soon_after_it(
    assets: SceneAssets, motion: Motion
) -> None:
    scene = chirping(assets, motion, (1.5,))
    step_s = 0.02
    times = 1.5 + np.arange(-0.3, 0.3, step_s) + 0.5 * step_s
    poses = poses_of(scene, scene.objects[0], times, chirps_only(assets))
    size = scene.objects[0].height
    moved = sum(
        np.abs(np.diff(values)) / scale
        for values, scale in (
            (poses.x, size), (poses.y, size), (poses.angle, 1),
            (poses.stretch_x, 1), (poses.stretch_y, 1),
        )
    )  # fmt: skip
    between = times[1:] - 0.5 * step_s - 1.5

    jolt = moved[np.abs(between) < 0.02].max()
    assert jolt > 2 * moved[between > 0.04].max()
    assert jolt > 2 * moved[between < -0.04].max()


def test_a_thing_is_not_lifted_for_its_next_fall_while_it_shows_the_last(
    assets: SceneAssets,
) -> None:
    scene = chirping(assets, "bounce", (1.5, 1.9, 3.4))
    things, material = scene.objects[0], chirps_only(assets)

    def height_at(*times_s: float) -> NDArray[np.float64]:
        poses = poses_of(scene, things, times_s, material)
        bottom: NDArray[np.float64] = poses.y + 0.5 * things.height * poses.stretch_y
        return (bottom[0] - bottom[1:]) / things.height

    # It lies where it landed, but for a hop of a hand's breadth.
    assert np.abs(height_at(1.52, 1.55, 1.6, 1.7, 1.8, 1.89)).max() < 0.1
    # With 1.5 s of room it is lifted as high as ever.
    assert height_at(1.92, 3.4 - 0.28)[0] > 0.4


def test_what_falls_lands_in_the_picture(assets: SceneAssets) -> None:
    landed = 0
    for index in range(60):
        scene = draw(assets, "main", index)
        motions = {e.source: e.motion for e in scene.events}
        for thing in scene.objects:
            if thing.role == "source" and motions[thing.source] == "bounce":
                assert thing.knots[0].y + 0.5 * thing.height <= 1 + 1e-9
                landed += 1
    assert landed >= 3


def test_distractors_are_never_abrupt(assets: SceneAssets) -> None:
    times = np.arange(0, 3, 0.01)
    jumps = {"source": 0.0, "distractor": 0.0}
    for index in range(30):
        scene = draw(assets, "strike", index)
        for thing in scene.objects:
            if thing.role == "striker":
                continue
            poses = poses_of(scene, thing, times, assets)
            speed = np.hypot(np.diff(poses.x), np.diff(poses.y))
            jumps[thing.role] = max(jumps[thing.role], float(np.abs(np.diff(speed)).max()))

    assert jumps["distractor"] < 0.3 * jumps["source"]


def test_sustained_things_move_as_long_as_they_sound(assets: SceneAssets) -> None:
    scenes = [draw(assets, "main", index, 4.0) for index in range(60)]
    checked = 0
    for scene in scenes:
        for thing in scene.objects:
            events = [
                e for e in scene.events if thing.role == "source" and e.source == thing.source
            ]
            if not events or events[0].motion not in ("shake", "pulse"):
                continue
            if assets.catalogue.sound_class(events[0].class_id).kind != "sustained":
                continue
            times = np.arange(0, scene.duration_s, 0.02)
            poses = poses_of(scene, replace(thing, knots=thing.knots[:1]), times, assets)
            moving = np.abs(np.diff(poses.stretch_y)) + np.abs(np.diff(poses.angle))
            inside = (times[1:] > events[0].onset_s) & (times[1:] < events[0].offset_s)
            before = times[1:] < events[0].onset_s - 0.4
            if before.sum() > 5:
                checked += 1
                assert moving[inside].mean() > 2 * moving[before].mean()
    assert checked >= 5


def test_the_same_scene_gives_the_same_arrays(assets: SceneAssets) -> None:
    scene = draw(assets, "main", 1)

    first = render_frames(scene, assets, fps=8, size_px=64)
    np.testing.assert_array_equal(first, render_frames(scene, assets, fps=8, size_px=64))
    np.testing.assert_array_equal(render_audio(scene, assets), render_audio(scene, assets))


def test_every_size_and_rate_shows_the_same_scene(assets: SceneAssets) -> None:
    for index in range(3):
        scene = draw(assets, "main", index, 1.5)
        scene = replace(scene, look=replace(scene.look, noise=0.0, blockiness=0.0))
        small = render_frames(scene, assets, fps=FPS, size_px=112)
        large = render_frames(scene, assets, fps=Fraction(25, 3), size_px=224)

        # Frame i at 25/3 fps is looked at when frame 3 i + 1 at 25 fps is.
        shrunk = large.reshape(len(large), 112, 2, 112, 2, 3).mean(axis=(2, 4))
        apart = np.abs(shrunk - small[1::3][: len(large)]).mean()
        assert apart < 4


def test_frames_cover_the_scene(assets: SceneAssets) -> None:
    scene = draw(assets, "main", 2, 2.05)
    frames = render_frames(scene, assets, fps=8, size_px=48, width_px=80)

    assert frames.shape == (17, 48, 80, 3)
    assert frames.dtype == np.uint8


def test_cuts_change_the_picture_at_once(assets: SceneAssets) -> None:
    scene = next(s for s in (draw(assets, "main", i) for i in range(99)) if s.cuts_s)
    still = replace(scene, objects=(), look=replace(scene.look, noise=0.0, flicker=0.0))
    motion = motion_of(render_frames(still, assets, fps=FPS, size_px=64))

    assert (np.argmax(motion) + 1) / FPS == pytest.approx(scene.cuts_s[0], abs=TOLERANCE_S)


def test_a_sound_only_scene_cannot_be_shown(assets: SceneAssets) -> None:
    with pytest.raises(UserError, match="sound only"):
        render_frames(draw(assets, "audio", 0), assets, fps=8, size_px=64)


def test_the_level_of_the_envelope_never_rises_early() -> None:
    sound = np.zeros(4000, dtype=np.float32)
    sound[2000:] = 0.5

    envelope = envelope_of(sound)

    assert not envelope[:2000].any()
    assert envelope[2080] == pytest.approx(0.5, abs=1e-3)
