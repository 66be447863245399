"""The check of scenes finds what is wrong with a scene that was tampered with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omni2sound.errors import UserError
from omni2sound.scenes import check
from omni2sound.scenes.check import check_scene, check_scenes, measure_attack
from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.material import levels
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets


def test_drawn_scenes_are_what_they_say(assets: SceneAssets) -> None:
    for kind in ("main", "strike", "offscreen"):
        events = check_scenes(assets, split="test", kind=kind, seed=2, num_scenes=4, duration_s=3.0)
        assert len(events) >= 4
        assert all((event.seen_s is not None) == event.on_screen for event in events)
        assert all(event.good for event in events)


def test_a_sound_or_a_picture_that_is_late_is_found(
    assets: SceneAssets, monkeypatch: pytest.MonkeyPatch
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


@pytest.mark.parametrize("late_s", [-0.02, -0.01, 0.01, 0.02])
def test_a_stem_that_was_moved_is_found_by_loudness_alone(
    assets: SceneAssets, monkeypatch: pytest.MonkeyPatch, late_s: float
) -> None:
    scene = draw_scene(assets, split="test", seed=2, index=1, kind="strike", duration_s=3.0)
    stems = check.render_stems
    moved = round(late_s * SAMPLE_RATE_HZ)
    # The rule that placed the event says that all is well.
    monkeypatch.setattr(check, "_heard_s", lambda *given: 0.0)
    assert all(event.good for event in check_scene(scene, assets))
    monkeypatch.setattr(check, "render_stems", lambda s, a: np.roll(stems(s, a), moved, axis=1))
    (checked,) = check_scene(scene, assets)
    assert not checked.good
    assert checked.attack is not None
    assert checked.attack.half_s == pytest.approx(late_s, abs=0.005)


def test_a_bad_rule_for_onsets_is_found(
    assets: SceneAssets, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A whisper that leads to a blow: by a rule of 20 dB the blow is the onset, by one of 50 dB
    # the whisper.
    time_s = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    blow = np.where(time_s >= 0.1, np.exp(-np.maximum(time_s - 0.1, 0) / 0.2), 0.006)
    sound = (0.3 * blow * np.sin(2 * np.pi * 700 * time_s)).astype(np.float32)
    names = [r.recording_id for r in assets.catalogue.recordings]
    pictures = {p.picture_id: assets.rgba(p.picture_id) for p in assets.catalogue.pictures}
    found = {}
    for below_db in (20.0, 50.0):
        monkeypatch.setattr(levels, "ONSET_BELOW_PEAK_DB", below_db)
        whispers = SceneAssets.from_arrays(assets.catalogue, dict.fromkeys(names, sound), pictures)
        (found[below_db],) = check_scenes(
            whispers, split="test", kind="strike", seed=0, num_scenes=1, duration_s=3.0
        )
    assert found[20.0].good
    assert found[50.0].heard_s == pytest.approx(0, abs=0.005)
    assert found[50.0].attack is not None
    assert found[50.0].attack.audible_s == pytest.approx(0.1, abs=0.005)
    assert not found[50.0].good


def test_no_scene_is_no_check(assets: SceneAssets) -> None:
    with pytest.raises(UserError, match="1 or more"):
        check_scenes(assets, split="test", kind="main", seed=0, num_scenes=0, duration_s=3.0)


def test_scenes_of_recordings_at_other_speeds_are_what_they_say(assets: SceneAssets) -> None:
    """Motion follows what is played, not the recording as it was."""
    other = assets.at_other_speeds(0.2, seed=3)
    for kind in ("main", "strike"):
        events = check_scenes(other, split="train", kind=kind, seed=2, num_scenes=4, duration_s=3.0)
        assert len(events) >= 4
        assert all(event.good for event in events)


def test_every_recording_has_its_own_rate(assets: SceneAssets) -> None:
    same, other = (assets.at_other_speeds(0.2, seed=seed) for seed in (3, 4))
    ratios = []
    for recording in assets.catalogue.recordings:
        plain, played = (a.waveform(recording.recording_id) for a in (assets, same))
        ratios.append(len(plain) / len(played))
        # What is played twice as fast sounds for half as long, and begins as it did.
        before, after = (levels.measure_level(w).onset_s for w in (plain, played))
        assert after == pytest.approx(before / ratios[-1], abs=0.002)
        assert not np.array_equal(played, other.waveform(recording.recording_id))
        again = assets.at_other_speeds(0.2, seed=3).waveform(recording.recording_id)
        assert np.array_equal(played, again)
    assert 1 / 1.21 < min(ratios) < 0.9
    assert 1.1 < max(ratios) < 1.21
    assert same.of_classes(["bell"]).catalogue.class_ids == ("bell",)
    bell = same.catalogue.recordings_of("bell", "train")[0].recording_id
    assert np.array_equal(same.of_classes(["bell"]).waveform(bell), same.waveform(bell))


SECOND = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ


def stem(sound_N: np.ndarray, at_s: float, duration_s: float = 2.0) -> np.ndarray:
    stem_N = np.zeros(round(duration_s * SAMPLE_RATE_HZ), dtype=np.float32)
    first = round(at_s * SAMPLE_RATE_HZ)
    piece = sound_N[: len(stem_N) - first]
    stem_N[first : first + len(piece)] = piece
    return stem_N


HIT = 0.3 * np.exp(-SECOND / 0.1) * np.sin(2 * np.pi * 440 * SECOND)
NOISE = 0.1 * np.random.default_rng(0).standard_normal(SAMPLE_RATE_HZ)
SWELL = NOISE * np.minimum(SECOND / 0.2, 1)


@pytest.mark.parametrize("late_s", [-0.1, -0.02, -0.008, 0.008, 0.02, 0.1])
@pytest.mark.parametrize("sound_N", [HIT, NOISE])
def test_an_abrupt_sound_is_found_where_it_is(sound_N: np.ndarray, late_s: float) -> None:
    there = measure_attack(stem(sound_N, 0.7), 0.7)
    late = measure_attack(stem(sound_N, 0.7 + late_s), 0.7)

    assert there is not None and late is not None
    assert there.is_at_onset(0.005)
    assert not late.is_at_onset(0.005)
    assert late.audible_s == pytest.approx(late_s, abs=0.004)
    assert late.half_s == pytest.approx(late_s, abs=0.004)


def test_a_swelling_sound_has_its_onset_between_the_two_times() -> None:
    attack = measure_attack(stem(SWELL, 0.5), 0.52)

    assert attack is not None
    assert attack.audible_s < 0 < attack.half_s
    assert attack.is_at_onset(0.005)
    for late_s in (-0.06, 0.06):
        moved = measure_attack(stem(SWELL, 0.5 + late_s), 0.52)
        assert moved is not None
        assert not moved.is_at_onset(0.005)


@pytest.mark.parametrize("at_s", [0.0, 0.05, 1.9, 1.99])
def test_a_sound_at_the_border_is_found(at_s: float) -> None:
    attack = measure_attack(stem(HIT, at_s), at_s)

    assert attack is not None
    assert attack.is_at_onset(0.005)


def test_silence_does_not_begin() -> None:
    assert measure_attack(np.zeros(8000, dtype=np.float32), 0.2) is None
    assert measure_attack(stem(HIT, 1.5), 0.5) is None
