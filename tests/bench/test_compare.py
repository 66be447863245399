"""Paired tests: equal systems are equal, a better one is found, p-values mean what they say."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from omni2sound.bench.compare import (
    choose_system,
    compare_runs,
    comparison_as_markdown,
    holm,
    swap_test,
)
from omni2sound.bench.report.results import ScoredRun
from omni2sound.bench.run import Submission, score_folders
from omni2sound.bench.scoring.options import ScoringOptions
from omni2sound.bench.tracks.scenes import TrackPlan, build_scene_track
from omni2sound.bench.tracks.track import Track
from omni2sound.errors import UserError

pytestmark = pytest.mark.slow


def ratio_table(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    ones = np.ones(len(a))
    return np.stack([np.stack([a, ones], axis=1), np.stack([b, ones], axis=1)], axis=1)


def test_p_of_equal_systems_is_uniform_and_never_zero() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(100):
        clip = rng.normal(0, 3, 40)  # clips differ more than systems do
        table = ratio_table(clip + rng.normal(0, 1, 40), clip + rng.normal(0, 1, 40))
        found.append(swap_test(table))
    assert 0.01 <= np.mean(np.array(found) < 0.1) <= 0.2
    assert min(found) > 0
    same = rng.normal(0, 1, 10)
    assert swap_test(ratio_table(same, same)) == 1


def test_a_small_difference_on_the_same_clips_is_found() -> None:
    rng = np.random.default_rng(1)
    clip = rng.normal(0, 10, 60)
    table = ratio_table(clip + 0.5 + rng.normal(0, 0.5, 60), clip)
    assert swap_test(table) < 0.001


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.fixture(scope="module")
def runs(
    scene_track: Track, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ScoredRun, ScoredRun, ScoringOptions]:
    """One system hands in the real sounds, the other noise, and lacks a clip."""
    top = tmp_path_factory.mktemp("compare")
    for name in ("real", "noise"):
        (top / name).mkdir()
    rng = np.random.default_rng(0)
    for clip in scene_track.clips:
        shutil.copyfile(scene_track.path(clip.audio), top / "real" / f"{clip.clip_id}.wav")
        noise = 0.1 * rng.standard_normal(32_000)
        soundfile.write(top / "noise" / f"{clip.clip_id}.wav", noise, 16_000)
    (top / "noise" / f"{scene_track.clips[0].clip_id}.wav").unlink()
    options = ScoringOptions(taggers=("yamnet",), cache_folder=top / "cache")
    scored = [
        score_folders(
            scene_track,
            [Submission(name=name, task="VT2A", folder=top / name)],
            top / f"run-{name}",
            options,
            limit=None,
            on_step=lambda step: lambda done, total: None,
        )
        for name in ("real", "noise")
    ]
    return scored[0], scored[1], options


def test_numbers_of_other_networks_are_not_compared(
    runs: tuple[ScoredRun, ScoredRun, ScoringOptions],
) -> None:
    """Cosines of PE-AV's sizes are on scales of their own."""

    def scored(run: ScoredRun, weights: str, number: float) -> ScoredRun:
        numbers = {"sound-text": number, "enjoyment": number}
        evaluation = replace(
            run.evaluation,
            facts={
                **run.evaluation.facts,
                "clip_networks": {"pe_av": weights, "aesthetics": "same"},
            },
            clips=tuple(replace(record, metrics=numbers) for record in run.evaluation.clips),
        )
        return replace(run, evaluation=evaluation)

    a, options = scored(runs[0], "base", 0.3), runs[2]
    for weights, found in (("base", {"sound-text", "enjoyment"}), ("large", {"enjoyment"})):
        b = scored(runs[1], weights, 0.2)
        result = compare_runs(a, choose_system(a, None), b, choose_system(b, None), options)
        names = {d.name for d in result.differences}
        assert names & {"sound-text", "enjoyment"} == found


def test_the_truth_beats_noise_and_the_missing_clip_is_named(
    runs: tuple[ScoredRun, ScoredRun, ScoringOptions], scene_track: Track
) -> None:
    real, noise, options = runs
    result = compare_runs(
        real, choose_system(real, None), noise, choose_system(noise, None), options
    )
    assert result.only_a == (scene_track.clips[0].clip_id,)
    assert result.only_b == ()
    found = {(d.part, d.name): d for d in result.differences}
    for part, clips in (("main", 3), ("offscreen", 4)):
        if clips >= 4:
            f1 = found[part, "onset F1 100 ms"]
            assert f1.a > f1.b and f1.difference.num_clips == clips
            assert found[part, "KL"].difference.value < 0
    fd = found["offscreen", "FD"]
    assert fd.a == pytest.approx(0, abs=1e-6) and fd.b > 1
    assert fd.verdict == "none under 500 clips"
    assert all(d.p <= d.p_holm <= 1 for d in result.differences)
    swapped = compare_runs(
        noise, choose_system(noise, None), real, choose_system(real, None), options
    )
    for there, back in zip(result.differences, swapped.differences, strict=True):
        assert there.difference.value == pytest.approx(-back.difference.value, abs=1e-9)
        assert there.p == pytest.approx(back.p)
    assert "Only A has" in comparison_as_markdown(result)


def test_a_system_and_itself_do_not_differ(
    runs: tuple[ScoredRun, ScoredRun, ScoringOptions],
) -> None:
    real, _, options = runs
    system = choose_system(real, "VT2A")
    result = compare_runs(real, system, real, system, options)
    assert all(d.difference.value == 0 and d.p == 1 for d in result.differences)
    assert {d.verdict for d in result.differences} <= {
        "no difference shown",
        "none under 500 clips",
    }


def test_baselines_can_be_chosen_and_vague_choices_are_refused(
    runs: tuple[ScoredRun, ScoredRun, ScoringOptions],
) -> None:
    real, _, _ = runs
    assert choose_system(real, "VT2A", "silence").is_baseline
    with pytest.raises(UserError, match="found 0"):
        choose_system(real, "T2A")


def test_other_tracks_are_not_compared(
    runs: tuple[ScoredRun, ScoredRun, ScoringOptions], store: Path, tmp_path: Path
) -> None:
    real, noise, options = runs
    other = build_scene_track(store, tmp_path, TrackPlan(num_clips=4, seed=9, duration_s=2.0))
    moved = replace(noise, track=other.folder)
    with pytest.raises(UserError, match="different tracks"):
        compare_runs(real, choose_system(real, None), moved, choose_system(noise, None), options)
