"""The whole stage table on material made in code, and its baselines one by one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from omni2sound.bench.baselines import Baselines, TrainingMemory, motion_peaks_s
from omni2sound.bench.report import stage_as_text
from omni2sound.bench.stage_clips import StageClip, draw_clips
from omni2sound.bench.stage_run import REAL_ELSEWHERE, StageReport, run_stage
from omni2sound.data.stage.assets import StageAssets
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.errors import UserError

SYSTEMS = (
    "oracle",
    "shuffled",
    "silence",
    "retrieval",
    "motion-energy",
    "motion + retrieval",
    "again",
)


def words(clip: StageClip) -> NDArray[np.float32]:
    """Letter counts: near captions share words, and no network is needed."""
    counts = np.zeros(26, np.float32)
    for letter in clip.caption.lower():
        if letter.isascii() and letter.isalpha():
            counts[ord(letter) - ord("a")] += 1
    return counts


def colours(clip: StageClip) -> NDArray[np.float32]:
    return clip.motion_frames_THWK.mean(axis=(0, 1, 2)).astype(np.float32)


def again(clips: Sequence[StageClip]) -> Sequence[NDArray[np.float32]]:
    """A model that knows the answer."""
    return [clip.sound_N for clip in clips]


def run(assets: StageAssets, **changes: Any) -> StageReport:
    settings: dict[str, Any] = {
        "num_scenes": 8,
        "seed": 3,
        "batch_size": 3,
        "num_remembered": 2,
        **changes,
    }
    return run_stage(
        assets,
        YamNet.load(),
        duration_s=2.5,
        embed_caption=words,
        embed_look=colours,
        models={"again": again},
        **settings,
    )


@pytest.fixture(scope="module")
def report(tonal_assets: StageAssets) -> StageReport:
    return run(tonal_assets)


def test_every_system_is_scored_on_every_track(report: StageReport) -> None:
    assert [row.system for row in report.rows if row.track == "main"] == list(SYSTEMS)
    assert [row.system for row in report.rows if row.track == "offscreen"] == list(SYSTEMS)
    assert {r.system for r in report.rows if r.track == "all"} == {*SYSTEMS, REAL_ELSEWHERE}
    main = next(row for row in report.rows if row.track == "main")
    assert main.scores[0].estimate.num_clips == 4


def test_a_second_judge_changes_nothing_that_the_first_says(
    tonal_assets: StageAssets, report: StageReport
) -> None:
    # The same network twice: what it says again must be what it said.
    both = run(tonal_assets, second_judge=YamNet.load())
    first = {(r.track, r.system): {s.name: s for s in r.scores} for r in report.rows}
    for row in both.rows:
        scores = {score.name: score for score in row.scores}
        if row.track == "all, tagger":
            assert [s.estimate for s in row.scores] == [
                s.estimate for s in first["all", row.system].values()
            ]
            assert {s.protocol for s in row.scores} == {"tagger-8s-v1"}
            continue
        for name, score in first[row.track, row.system].items():
            assert scores[name] == score
        for name in ("seen heard", "unseen heard"):
            if name in scores:
                assert scores[f"{name} (2nd)"].estimate == scores[name].estimate


def test_a_model_that_knows_the_answer_ties_with_the_oracle(report: StageReport) -> None:
    by_key = {(row.track, row.system): row.scores for row in report.rows}
    for track in ("main", "offscreen"):
        assert by_key[track, "again"] == by_key[track, "oracle"]
    value = report.value
    for system in ("oracle", "shuffled"):  # the set itself: no distance of sets
        assert [score.name for score in by_key["all", system]] == ["KL"]
    assert value("all", "again", "KL") == value("all", "oracle", "KL")
    assert value("all", "again", "FD") == pytest.approx(0, abs=0.05)
    assert value("main", "oracle", "onset F1 100 ms") > 0.4
    assert value("main", "silence", "onset F1 100 ms") == 0
    assert value("main", "shuffled", "in sync") < value("main", "oracle", "in sync")
    assert value("all", "oracle", "KL") == pytest.approx(0, abs=1e-6)
    assert value("all", "silence", "FD") > value("all", REAL_ELSEWHERE, "FD")
    with pytest.raises(UserError, match="no 'nonsense'"):
        value("main", "oracle", "nonsense")


@pytest.mark.slow
def test_batches_are_no_part_of_the_result(report: StageReport, tonal_assets: StageAssets) -> None:
    assert run(tonal_assets, batch_size=1) == report


def test_the_report_is_a_table_and_plain_json(report: StageReport) -> None:
    text = stage_as_text(report)
    for words_ in (
        "FD v",
        "the floor is: real, other scenes",
        "main: stage-v1, 4 clips",
        "all: yamnet-8s-v1, 8 clips",
        "allow no verdict",
    ):
        assert words_ in text
    assert "not scored, since real recordings are hit too rarely: door" in text
    assert json.loads(json.dumps(report.to_json()))["facts"]["seed"] == 3


def test_too_few_scenes_are_refused(assets: StageAssets) -> None:
    with pytest.raises(UserError, match="8 or more"):
        run(assets, num_scenes=7)


def test_motion_peaks_are_where_the_picture_jumps() -> None:
    frames = np.zeros((50, 4, 4, 3), np.uint8)
    frames[10:], frames[30:] = 80, 160
    frames[20:] += 5
    assert motion_peaks_s(frames, 25) == (0.4, 1.2)
    assert motion_peaks_s(np.zeros((25, 4, 4, 3), np.uint8), 25) == ()
    assert motion_peaks_s(np.zeros((1, 4, 4, 3), np.uint8), 25) == ()


def test_retrieval_plays_the_training_scene_that_is_told_of_alike(assets: StageAssets) -> None:
    remembered = list(
        draw_clips(assets, "main", split="train", seed=9, num_clips=4, duration_s=2.0)
    )
    memory = TrainingMemory.of(
        assets,
        "main",
        num_scenes=4,
        seed=9,
        duration_s=2.0,
        embed_caption=words,
        embed_look=colours,
    )
    baselines = Baselines(
        memory=memory, embed_caption=words, embed_look=colours, track_clips=remembered
    )
    for clip in remembered:  # each finds itself
        sounds = baselines.sounds(clip)
        np.testing.assert_array_equal(sounds["retrieval"], clip.sound_N)
        np.testing.assert_array_equal(sounds["oracle"], clip.sound_N)
        assert not np.array_equal(sounds["shuffled"], clip.sound_N)
        assert {len(s) for s in sounds.values()} == {len(clip.sound_N)}


def test_captions_of_test_clips_are_in_held_out_words(assets: StageAssets) -> None:
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
